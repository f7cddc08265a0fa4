from __future__ import annotations

from pathlib import Path

import pytest
import torch

import mtlkit
from mtlkit.report.pictures import draw_predictions
from mtlkit.samples import build_samples, notes_of
from mtlkit.structures import Batch, Label
from mtlkit_plugins.tasks.reconstruction import Reconstruction


def alone(**more):
    """Return settings of a recipe whose only task is this one."""
    tasks = {"image": {"type": "reconstruction"}}
    return {"tasks": tasks, "edges": [], "weighting": {"type": "equal"}, "train.epochs": 1, **more}


def pixel(*errors):
    """Return a prediction of one pixel with these errors, and its label."""
    value = torch.full((1, 3, 1, 1), 0.5)
    prediction = value + torch.tensor(errors).view(1, 3, 1, 1)
    return prediction, Label(value, torch.ones(1, 1, 1, 1, dtype=torch.bool))


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("l1", (0.05 + 0.2 + 0.4) / 3),
        ("mse", (0.0025 + 0.04 + 0.16) / 3),
        ("smooth_l1", (0.0025 / 0.2 + 0.2 - 0.05 + 0.4 - 0.05) / 3),
    ],
)
def test_each_loss_has_its_textbook_value(kind, expected):
    task = Reconstruction(loss=kind)
    assert task.loss(*pixel(0.05, -0.2, 0.4)).item() == pytest.approx(expected)
    assert task.loss_name == kind


def test_it_reads_the_image_and_no_label():
    task, image = Reconstruction(name="image"), torch.rand(2, 3, 5, 7)
    label = task.read(Batch(image))
    assert task.reads == ()
    assert label.value is image and label.counts is None
    assert label.valid.shape == (2, 1, 5, 7) and label.valid.all()


def test_a_label_in_the_recipe_is_refused(tiny):
    with pytest.raises(mtlkit.MtlkitError, match=r"reads no label\. Remove `label: depth`"):
        mtlkit.load_recipe(tiny, alone(**{"tasks.image.label": "depth"}))


def test_metrics_see_the_prediction_cut_to_the_range_of_images():
    value = torch.tensor([0.0, 0.5, 1.0]).view(1, 3, 1, 1)
    label = Label(value, torch.ones(1, 1, 1, 1, dtype=torch.bool))
    found = {}
    for name, spec in Reconstruction().metrics().items():
        spec.metric.update(torch.tensor([-3.0, 0.6, 3.0]).view(1, 3, 1, 1), label)
        found[name] = float(spec.metric.compute())
    assert found["abs_err"] == pytest.approx(0.1 / 3)
    assert found["psnr"] == pytest.approx(-10 * torch.tensor(0.01 / 3).log10().item(), rel=1e-5)


def test_psnr_is_that_of_the_whole_set_whatever_the_batches():
    images, label = torch.rand(4, 3, 5, 6), torch.rand(4, 3, 5, 6)
    valid = torch.rand(4, 1, 5, 6) < 0.7
    whole, parts = (Reconstruction().metrics()["psnr"].metric for _ in range(2))
    whole.update(images, Label(label, valid))
    for rows in (slice(0, 1), slice(1, 4)):
        parts.update(images[rows], Label(label[rows], valid[rows]))
    assert torch.allclose(whole.compute(), parts.compute())


def test_pseudo_labels_and_pictures_are_images():
    task, prediction = Reconstruction(), 3 * torch.randn(1, 3, 4, 5)
    value = task.as_label(prediction)
    assert torch.equal(value, prediction.clamp(0, 1))
    assert torch.equal(task.render(value), value)


def test_a_run_of_it_alone_needs_no_label(tiny: Path, tmp_path: Path):
    recipe = mtlkit.load_recipe(tiny, alone(), blocked=["progress"])
    assert recipe.wants == frozenset()
    run = mtlkit.Run(recipe, out=tmp_path)
    assert run.notes == []
    outcome = run.fit()
    assert outcome.status == "done"
    assert {"image/abs_err", "image/psnr", "loss/image"} <= outcome.last.keys()
    assert draw_predictions(run, tmp_path / "grid.png", 1) is not None


def test_nobody_is_told_that_its_label_is_missing(tiny: Path):
    none = {"mode": "random_share", "share": 0.0}
    settings = alone(**{"tasks.depth": {}, "data.labels_per_image": none})
    recipe = mtlkit.load_recipe(tiny, settings)
    (note,) = notes_of(recipe, build_samples(recipe, "train"))
    assert note.startswith("task depth: no training sample has its label")
