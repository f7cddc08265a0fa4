"""What a plugin promises, as functions; and as tests of pytest, in three lines.

    # tests/test_contract.py
    from mtlkit.testing import contract_tests
    test_contract = contract_tests("my_package.my_task")  # or the path of a plugin file

Each `check_…` takes one plugin object and raises an AssertionError that says what was promised,
what was found and what to do; it needs no pytest.
"""

from mtlkit.testing.architectures import ARCHITECTURE, check_architecture
from mtlkit.testing.collection import CONTRACTS, Case, cases, contract_tests, options
from mtlkit.testing.contract import Check, Contract
from mtlkit.testing.datasets import DATASET, check_dataset
from mtlkit.testing.edges import EDGE, check_edge
from mtlkit.testing.encoders import ENCODER, check_encoder
from mtlkit.testing.inputs import label_of, prediction_of
from mtlkit.testing.properties import faults
from mtlkit.testing.task_parts import TASK
from mtlkit.testing.tasks import check_task
from mtlkit.testing.weightings import WEIGHTING, check_weighting

__all__ = [
    "ARCHITECTURE",
    "CONTRACTS",
    "DATASET",
    "EDGE",
    "ENCODER",
    "TASK",
    "WEIGHTING",
    "Case",
    "Check",
    "Contract",
    "cases",
    "check_architecture",
    "check_dataset",
    "check_edge",
    "check_encoder",
    "check_task",
    "check_weighting",
    "contract_tests",
    "faults",
    "label_of",
    "options",
    "prediction_of",
]
