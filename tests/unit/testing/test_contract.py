"""What a check says of errors that come from the plugin's own code."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fixtures.commands import forget_plugins

from mtlkit.testing import cases
from mtlkit_plugins.commands._new.writer import renamed, template

FIRST = "        error = (prediction - label.value).abs()"


@pytest.fixture(autouse=True)
def _plugins_of_tests() -> Iterator[None]:
    path, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = path
    forget_plugins(modules)


def said_of(folder: Path, statement: str, check: str) -> tuple[str, int]:
    """Return what a check says of a task whose loss begins with a statement, and its line."""
    text = renamed(template("task.py"), "idea")
    assert text.count(FIRST) == 1
    text = text.replace(FIRST, f"        {statement}\n{FIRST}")
    file = folder / "idea.py"
    file.write_text(text, encoding="utf-8")
    (case,) = [case for case in cases(file, {}) if case.check.name == check]
    with pytest.raises(AssertionError) as caught:
        case.run()
    return str(caught.value), text[: text.index(statement)].count("\n") + 1


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ('assert prediction.ndim == 5, "five dimensions"', "five dimensions"),
        ("assert prediction.ndim == 5", "assert prediction.ndim == 5"),
    ],
)
def test_an_assertion_of_the_plugin_is_told_as_its_error_with_its_line(statement, words, tmp_path):
    said, line = said_of(tmp_path, statement, "loss_is_a_finite_scalar_with_a_gradient")
    assert said.startswith("task 'idea' breaks its contract.\nPromised: The loss is a finite")
    assert said.endswith(
        f"\nFound: AssertionError: {words} (idea.py, line {line}). Mend the plugin"
    )


def test_an_assertion_on_meta_tensors_is_told_with_its_line(tmp_path):
    said, line = said_of(
        tmp_path, "assert not prediction.is_meta", "loss_and_input_run_without_values"
    )
    place = f"(AssertionError: assert not prediction.is_meta (idea.py, line {line}))"
    assert said.endswith(
        f"\nFound: They do not. Use no `.item()`, `if` on a value or indexing by a mask {place}"
    )


def test_what_a_check_finds_is_not_told_as_an_error_of_the_plugin(tmp_path):
    said, _ = said_of(
        tmp_path, "return prediction.sum() * 0", "loss_is_a_finite_scalar_with_a_gradient"
    )
    assert "Found: the loss is " in said
    assert "AssertionError" not in said and "line" not in said
