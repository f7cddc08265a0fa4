"""The device of these tests, and what is skipped without it."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch

CHOSEN = os.environ.get("MTLKIT_TEST_DEVICE", "cuda")
"""As in a recipe; cpu shows that the tests themselves run, where there is no CUDA device."""


@pytest.fixture
def device() -> Iterator[str]:
    """The device that is tested; without it the test is skipped."""
    if CHOSEN != "cpu" and not torch.cuda.is_available():
        pytest.skip("needs CUDA: pytest -m cuda; MTLKIT_TEST_DEVICE=cpu tries the test itself")
    yield CHOSEN
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False


@pytest.fixture
def gpu(device: str) -> str:
    """The same for what no CPU has: queues of work, NCCL."""
    if device == "cpu":
        pytest.skip("is about what only CUDA devices have")
    return device
