"""Rendered streets in the Cityscapes layout, measured by cityscapesscripts itself."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mtlkit.cli import main
from mtlkit.collate import Collate
from mtlkit.metrics import MeanIoU
from mtlkit.samples import Found
from mtlkit.structures import Batch
from mtlkit_plugins.datasets._cityscapes_labels import train_to_label
from mtlkit_plugins.datasets.cityscapes import Cityscapes

evaluation = pytest.importorskip(
    "cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling",
    reason="needs cityscapesscripts: pip install 'mtlkit[dev]'",
)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten scenes of 64×128 pixels on disk."""
    folder = tmp_path_factory.mktemp("streets") / "D"
    words = ["data", "render", "streets", "--layout", "cityscapes", "--out", str(folder)]
    words += ["--train", "1", "--val", "10", "--size", "64x128"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["mtlkit", *words])
        with pytest.raises(SystemExit) as leaving:
            main()
    assert leaving.value.code == 0
    return folder


@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # it leaves files open
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_miou_over_19_classes_is_what_cityscapesscripts_gives(root: Path, tmp_path: Path) -> None:
    data = Cityscapes(root=str(root), size=(64, 128), classes=19)
    split = data.build_split("val", frozenset({"segmentation"}))
    batch = Collate(data.offers, data.size, ["cityscapes"])(
        [Found(0, i, split[i]) for i in range(10)]
    )
    assert isinstance(batch, Batch)
    label = batch.labels["segmentation"]
    label.value = label.value.long()
    predicted = guess(label.value)
    metric = MeanIoU(19)
    metric.update(torch.nn.functional.one_hot(predicted, 19).movedim(-1, 1).float(), label)
    files = sorted((root / "gtFine" / "val").rglob("*_gtFine_labelIds.png"))
    written = []
    for file, ids in zip(files, predicted, strict=True):
        path = tmp_path / file.name
        Image.fromarray(train_to_label()[ids.numpy()]).save(path)
        written.append(str(path))
    args = evaluation.args
    args.evalInstLevelScore, args.JSONOutput, args.quiet = False, False, True
    found = evaluation.evaluateImgLists(written, list(map(str, files)), args)
    assert float(metric.compute()) == pytest.approx(found["averageScoreClasses"], abs=1e-9)
    assert 0.05 < found["averageScoreClasses"] < 0.95


def guess(truth: torch.Tensor) -> torch.Tensor:
    """Return the classes with a tenth of the pixels wrong, and neighbours swapped at borders."""
    noise = torch.rand(truth.shape) < 0.1
    shifted = truth.roll(1, dims=-1)
    return torch.where(noise, torch.randint(0, 19, truth.shape), shifted)


def test_torchvision_reads_the_same_files(root: Path) -> None:
    datasets = pytest.importorskip("torchvision.datasets")
    data = datasets.Cityscapes(str(root), split="val", mode="fine", target_type="semantic")
    ours = Cityscapes(root=str(root), size=(64, 128), classes=19).build_split(
        "val", frozenset({"segmentation"})
    )
    assert len(data) == len(ours) == 10
    order = sorted(range(10), key=lambda index: data.images[index])  # torchvision does not sort
    for index in range(10):
        image, target = data[order[index]]
        assert np.array_equal(np.asarray(image).transpose(2, 0, 1), ours[index]["image"].numpy())
        known = ours[index]["segmentation"].numpy() != 255
        found = train_to_label()[ours[index]["segmentation"].numpy()]
        assert np.array_equal(np.asarray(target)[known], found[known])
