# Everything runs in .venv, which is made here: Python 3.11 or newer and make are enough.
# Another interpreter: make demo PYTHON=python3.12. pip's own settings (PIP_INDEX_URL, …) hold.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --disable-pip-version-check
# one thread for each of the two test processes, or they take the cores from each other
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

.DEFAULT_GOAL := help
.PHONY: demo test quick lint clean help

demo: $(VENV)/.with-viz  ## train XTasC-Net on rendered streets; minutes on two cores
	$(BIN)/mtlkit run recipes/xtascnet_streets.yaml

test: lint  ## lint, check types, run every test
	$(PYTEST)

quick: lint  ## the same without slow tests
	$(PYTEST) -m "not slow"

lint: $(VENV)/.with-dev  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:  ## remove .venv and everything made by tools; runs/ is kept
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

help:  ## list the targets
	@sed -n 's/^\([a-z]*\):.*##  *\(.*\)/  make \1 \2/p' $(MAKEFILE_LIST) | \
		while read -r make target words; do printf '  make %-6s %s\n' "$$target" "$$words"; done

# A stamp is older than pyproject.toml when dependencies changed: pip then runs again. torch and
# torchvision are both in it, so that one resolution picks a pair that fits.
$(VENV)/.with-viz: pyproject.toml $(VENV)/.made
	$(INSTALL) -e ".[viz]"
	@touch $@

$(VENV)/.with-dev: pyproject.toml $(VENV)/.made
	$(INSTALL) -e ".[dev]"
	@touch $@ $(VENV)/.with-viz

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo \
		"mtlkit needs Python 3.11 or newer, and '$(PYTHON)' is `$(PYTHON) --version 2>&1`." \
		"Name another: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	@touch $@
