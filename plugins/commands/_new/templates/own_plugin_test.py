"""What own_plugin.py promises: a test for each promise."""

from pathlib import Path

from mtlkit.testing import contract_tests

test_contract = contract_tests(Path(__file__).with_name("own_plugin.py"))
