"""Hidden labels: exact shares, balance, and the same choice for every run of a study."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import mtlkit
from mtlkit.errors import RecipeError
from mtlkit.partial import hidden_labels
from mtlkit.sections import LabelsPerImage

LABELS = ["depth", "normals", "segmentation"]


def test_random_one_keeps_one_label_of_each_image_and_all_equally_often() -> None:
    hidden = hidden_labels(LabelsPerImage(mode="random_one"), LABELS, 100)
    kept = torch.stack([~hidden[name] for name in LABELS])
    assert (kept.sum(0) == 1).all()
    assert sorted(kept.sum(1).tolist()) == [33, 33, 34]


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 1.0])
def test_random_share_keeps_exactly_its_share_of_each_label(share: float) -> None:
    hidden = hidden_labels(LabelsPerImage(mode="random_share", share=share), LABELS, 80)
    assert {name: int((~mask).sum()) for name, mask in hidden.items()} == dict.fromkeys(
        LABELS, round(share * 80)
    )
    if 0 < share < 1:
        assert not torch.equal(hidden["depth"], hidden["normals"])


def test_a_share_by_label_leaves_the_others_whole() -> None:
    choice = LabelsPerImage(mode="random_share", share={"depth": 0.0})
    hidden = hidden_labels(choice, LABELS, 10)
    assert hidden["depth"].all() and not hidden["normals"].any()


def test_the_choice_depends_on_its_seed_and_not_on_which_tasks_run() -> None:
    share = [
        hidden_labels(LabelsPerImage(mode="random_share", share=0.5, seed=s), labels, 40)["depth"]
        for s, labels in ((0, LABELS), (0, ["depth"]), (1, LABELS))
    ]
    assert torch.equal(share[0], share[1]) and not torch.equal(share[0], share[2])
    one = [
        hidden_labels(LabelsPerImage(mode="random_one", among=among), labels, 40)["depth"]
        for among, labels in ((None, LABELS), (tuple(LABELS), ["depth"]))
    ]
    assert torch.equal(one[0], one[1])


def test_a_run_without_any_label_of_a_task_says_so_and_its_direct_loss_is_zero(
    tiny: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    choice = {"mode": "random_share", "share": {"depth": 0.0}}
    recipe = mtlkit.load_recipe(tiny, {"data.labels_per_image": choice, "train.epochs": 1})
    run = mtlkit.Run(recipe, out=tmp_path)
    batch = next(iter(run.loader("train")[0]))
    assert "depth" not in batch.labels
    losses = run.objective(batch)
    assert "depth/direct" not in losses.terms
    outcome = run.fit()
    said = capfd.readouterr().err.splitlines()
    line = "task depth: no training sample has its label; its direct loss is 0"
    assert said.count(line) == 1
    assert outcome.status == "done" and "depth/abs_err" in outcome.last  # validation has them all


def test_validation_hides_nothing(tiny: Path) -> None:
    choice = {"mode": "random_share", "share": 0.0}
    recipe = mtlkit.load_recipe(tiny, {"data.labels_per_image": choice})
    run = mtlkit.Run(recipe)
    assert {"depth", "segmentation"} <= set(next(iter(run.loader("val")[0])).labels)
    assert next(iter(run.loader("train")[0])).labels == {}


def test_a_label_that_is_not_there_cannot_be_hidden(tiny: Path) -> None:
    choice = {"mode": "random_one", "among": ["depht"]}
    with pytest.raises(RecipeError, match=r"labels_per_image: no label is called 'depht'; did you"):
        mtlkit.load_recipe(tiny, {"data.labels_per_image": choice})
