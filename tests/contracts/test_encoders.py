"""What every encoder promises: maps as its spec says."""

from __future__ import annotations

import pytest
from arguments import checked, make

from mtlkit.testing import ENCODER


@pytest.mark.parametrize(("name", "fields", "check"), checked(ENCODER))
def test_an_encoder_keeps_its_promises(name, fields, check):
    check(make("encoder", name, **fields))
