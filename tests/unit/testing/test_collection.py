"""`contract_tests`: ids, arguments, excuses, and what is refused."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fixtures.commands import forget_plugins

from mtlkit.errors import PluginError, UsageError
from mtlkit.testing import CONTRACTS, EDGE, TASK, cases, contract_tests, options
from mtlkit_plugins.commands._new.writer import renamed, template

IDS = [
    "task-idea-loss_is_a_finite_scalar_with_a_gradient",
    "task-idea-as-metres-loss_is_a_finite_scalar_with_a_gradient",
    "task-idea-is_sure-True-loss_is_a_finite_scalar_with_a_gradient",
]
FIELDS = """\
    unit: Literal["metres", "feet"] = Field("feet", alias="as")
    is_sure: bool = False
    scale: float = Field(gt=0)
"""


@pytest.fixture
def plugin(tmp_path: Path) -> Iterator[Path]:
    """The file of a task with two options and an argument."""
    path, modules = list(sys.path), set(sys.modules)
    text = renamed(template("task.py"), "idea")
    at = text.index("    # EDIT: a field")
    file = tmp_path / "idea.py"
    file.write_text(text[:at] + FIELDS + text[at:], encoding="utf-8")
    yield file
    sys.path[:] = path
    forget_plugins(modules)


def marked(function):
    """Return the parameters that pytest will make tests of."""
    (mark,) = function.pytestmark
    assert mark.args[0] == "case"
    return mark.args[1]


def test_there_is_a_test_for_each_class_option_and_check(plugin):
    parameters = marked(contract_tests(plugin, {"idea": {"scale": 2.0}}))
    ids = [parameter.id for parameter in parameters]
    of_options = [check for check in TASK.checks if check.is_of_options]
    assert set(IDS) <= set(ids) and len(set(ids)) == len(ids)
    assert len(ids) == len(TASK.checks) + 2 * len(of_options)


def test_a_case_checks_the_option_in_its_id(plugin):
    found = {case.id: case for case in cases(str(plugin), {"idea": {"scale": 2.0}})}
    assert [found[key].plugin.unit for key in IDS] == ["feet", "metres", "feet"]
    assert [found[key].plugin.is_sure for key in IDS] == [False, False, True]
    assert found[IDS[0]].plugin.name == "idea"


def test_an_excused_test_is_skipped_with_its_reason(plugin):
    excused = {IDS[0]: "it is new"}
    parameters = marked(contract_tests(plugin, {"idea": {"scale": 2.0}}, excused))
    skipped = {p.id: p.marks[0].kwargs["reason"] for p in parameters if p.marks}
    assert skipped == excused


def test_an_excuse_of_no_test_is_refused(plugin):
    with pytest.raises(UsageError, match="no test has the id 'task-idea-los'"):
        contract_tests(plugin, {"idea": {"scale": 2.0}}, {"task-idea-los": "a slip"})


def test_a_missing_argument_is_named_with_where_to_write_it(plugin):
    with pytest.raises(UsageError) as refused:
        contract_tests(plugin)
    assert str(refused.value) == (
        "idea: scale: Field required. Give it in "
        "contract_tests(…, arguments={'idea': {'scale': …}})"
    )


def test_an_argument_of_no_type_is_refused(plugin):
    with pytest.raises(UsageError, match="offers no type 'ideal'; did you mean 'idea'"):
        contract_tests(plugin, {"ideal": {"scale": 2.0}})


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("my_package.my_task", "my_package.my_task: no such plugin is installed. Name its module"),
        ("missing.py", "missing.py: no such plugin file"),
        ("mtlkit_plugins.trackers.jsonl", "offers no task, edge, weighting, dataset"),
    ],
)
def test_a_plugin_with_nothing_to_check_is_refused(name, words):
    with pytest.raises(PluginError) as refused:
        contract_tests(name)
    assert words in str(refused.value)


def test_an_edge_joins_classes_and_values_in_both_directions():
    (case, *_) = cases("mtlkit_plugins.edges.transfer", {})
    kinds = [(one.likelihood, other.likelihood) for one, other in case.partners]
    assert ("categorical", "laplace") in kinds and ("laplace", "categorical") in kinds
    assert all((a.name, b.name) == case.plugin.hops for a, b in case.partners)


def test_a_field_that_is_given_has_its_other_values_as_options(plugin):
    (case, *_) = cases(plugin, {"idea": {"scale": 2.0}})
    found = list(options(type(case.plugin), {"as": "metres", "is_sure": True}))
    assert {"as": "feet"} in found and {"is_sure": False} in found and len(found) == 2


def test_a_check_is_found_by_name_and_a_misspelt_one_is_not():
    assert EDGE.check("explain_names_both_ends").promise.startswith("`as_maths` is one line")
    with pytest.raises(UsageError, match="did you mean 'explain_names_both_ends'"):
        EDGE.check("explain_names_both_end")


def test_every_promise_is_a_sentence_with_a_name_of_its_own():
    for contract in CONTRACTS.values():
        names = [check.name for check in contract.checks]
        assert len(set(names)) == len(names) and all(name.isidentifier() for name in names)
        assert all(check.promise.endswith(".") for check in contract.checks)


def test_pytest_is_imported_by_nothing_but_contract_tests():
    program = "import sys, mtlkit.cli, mtlkit.testing; sys.exit('pytest' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
