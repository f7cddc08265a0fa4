"""benchmarks/partial_labels.py: what a value tells of a class, where the answer is known."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path
from types import ModuleType

import pytest
import torch

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "partial_labels.py"
PIXELS = 40_000


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("partial_labels", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_what_has_nothing_to_do_with_the_class_tells_nothing_of_it(script) -> None:
    classes, depth = torch.randint(4, (PIXELS,)), torch.rand(PIXELS)
    found = script.conditional_information(classes, torch.randn(PIXELS), depth)
    # of few samples it reads too high, by about (cells − 1) / (2 · samples · ln 2)
    most = script.BINS * (script.BINS - 1) * (4 - 1) / (2 * PIXELS * math.log(2))
    assert 0 <= found < 1.5 * most < 0.02


def test_an_error_that_names_the_class_tells_all_of_it(script) -> None:
    classes = torch.arange(PIXELS) % 4
    found = script.conditional_information(
        classes, classes + 0.1 * torch.rand(PIXELS), torch.rand(PIXELS)
    )
    assert found == pytest.approx(math.log2(4), abs=0.01)


def test_it_tells_what_depth_does_not_tell_already(script) -> None:
    depth = (torch.arange(PIXELS) + 0.5) / PIXELS
    near = (depth < 0.5).long()
    sides = torch.arange(PIXELS) % 2
    error = 2 * near + sides + 0.1 * torch.rand(PIXELS)
    assert script.conditional_information(near, error, depth) == pytest.approx(0, abs=1e-9)
    both = script.conditional_information(2 * near + sides, error, depth)
    assert both == pytest.approx(1, abs=0.01)  # H(class | depth): which of two sides


def test_no_unit_of_error_or_depth_matters(script) -> None:
    classes, depth = torch.randint(3, (PIXELS,)), torch.rand(PIXELS)
    error = classes + torch.randn(PIXELS)
    found = script.conditional_information(classes, error, depth)
    assert 0.1 < found < math.log2(3)
    assert script.conditional_information(classes, error.exp(), 100 * depth + 3) == found
