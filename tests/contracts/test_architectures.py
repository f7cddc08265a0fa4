"""What every architecture promises, with every registered task at once."""

from __future__ import annotations

import pytest
from arguments import checked, make, registered

from mtlkit.testing import ARCHITECTURE

TASKS = {name: make("task", name, name=name) for name in registered("task")}


@pytest.mark.parametrize(("name", "fields", "check"), checked(ARCHITECTURE))
def test_an_architecture_keeps_its_promises(name, fields, check):
    check(make("architecture", name, **fields), TASKS)
