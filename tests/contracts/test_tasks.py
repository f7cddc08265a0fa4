"""What every task promises; parametrised over all that is registered, with each option in turn."""

from __future__ import annotations

import pytest
import torch
from arguments import checked, make, registered

import mtlkit
from mtlkit.testing import TASK, label_of

# its threshold is a share of the batch's largest error, as its docstring says
LOOKS_AT_THE_BATCH = [("depth", {"loss": "berhu"})]
HALVES = "losses_of_half_steps_average_to_that_of_the_whole_step"


@pytest.mark.parametrize(("name", "fields", "check"), checked(TASK))
def test_a_task_keeps_its_promises(name, fields, check):
    if check.name == HALVES and (name, fields) in LOOKS_AT_THE_BATCH:
        pytest.skip("looks at the largest error of the batch")
    check(make("task", name, name=name, **fields))


@pytest.mark.parametrize("name", registered("task"))
def test_it_reads_the_label_that_the_recipe_names(name):
    task = make("task", name, name=name, label="other")
    label, image = label_of(task), torch.rand(2, 3, 4, 4)
    if not task.reads:  # it learns the image itself
        assert torch.equal(task.read(mtlkit.Batch(image)).value, image)
        return
    assert task.reads == ("other",) and make("task", name, name=name).reads == (name,)
    assert task.read(mtlkit.Batch(image, {"other": label})) is label
