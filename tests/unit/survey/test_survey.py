"""What a survey says of splits: what is there, what is broken, what leaks."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import torch
from fixtures.spoilt_scenes import SIZE, Scenes, image

import mtlkit
from mtlkit.errors import MissingError, UsageError
from mtlkit.survey import Look, SplitSurvey, Visits, leaks, learnable, summed
from mtlkit.survey.files import shared_files, size_of, sizes_by_kind
from mtlkit.transforms import ClassMap, DepthMap
from mtlkit.walk import spread, walked


@pytest.fixture
def scenes() -> Scenes:
    return Scenes()


def look(scenes: Scenes, split: str, *wants: str) -> Look:
    names = {name: name for name in wants or ("segmentation", "depth")}
    data = scenes.build_split(split, frozenset(names))
    return Look(scenes, split, data, names, range(6))


def survey(*looks: Look, workers: int = 1) -> list[SplitSurvey]:
    return summed(looks, walked(Visits(looks), workers))


@pytest.mark.parametrize("workers", [1, 2])
def test_every_sample_is_seen_once_whoever_reads_it(scenes: Scenes, workers: int) -> None:
    train, val = survey(look(scenes, "train"), look(scenes, "val"), workers=workers)
    for found in (train, val):
        assert [one.index for one in found.seen] == list(range(6))
        assert found.readable == 6 and not found.bad
        assert found.labels["depth"].coverage.images == 6
        assert found.labels["depth"].values.quantile(1.0) == 6.0
        assert found.labels["segmentation"].values.shares.tolist() == [0.5, 0.5, 0.0]


def test_a_bad_sample_is_told_with_each_of_its_bad_files(scenes: Scenes) -> None:
    scenes.spoil("train", 2, "segmentation", MissingError("a.png: torn"))
    scenes.spoil("train", 2, "depth", MissingError("b.png: torn"))
    (found,) = survey(look(scenes, "train"))
    assert found.bad == ["b.png: torn", "a.png: torn"]
    assert found.readable == 5
    assert found.labels["depth"].coverage.images == 5


def test_what_a_data_set_does_not_declare_is_told(scenes: Scenes) -> None:
    scenes.spoil("train", 0, "segmentation", ClassMap(torch.full(SIZE, 7, dtype=torch.uint8)))
    scenes.spoil("train", 1, "depth", DepthMap(torch.ones(1, 4, 4)))
    scenes.spoil("train", 3, "image", image(0).float() / 255)
    (found,) = survey(look(scenes, "train"))
    assert found.bad == [
        "scenes train, sample 0: segmentation holds class ids 7 (known: 0 to 2). Give the data "
        "set's own label file",
        "scenes train, sample 1: depth is (1, 4, 4) float32, and the data set declares "
        "(1, 8, 16) float32. Mend its file, or `offers` of the plugin",
        "scenes train, sample 3: image is (3, 8, 16) float32, and the data set declares "
        "(3, 8, 16) uint8. Mend its file, or `offers` of the plugin",
    ]


def test_a_label_that_is_missing_is_no_fault(scenes: Scenes) -> None:
    scenes.spoil("train", 0, "depth", None)
    (found,) = survey(look(scenes, "train"))
    assert not found.bad and found.readable == 6
    assert found.labels["depth"].coverage.images == 5


def test_equal_images_of_train_and_val_leak(scenes: Scenes) -> None:
    assert leaks(survey(look(scenes, "train"), look(scenes, "val"))).images == []
    scenes.spoil("val", 4, "image", image(1))
    found = leaks(survey(look(scenes, "train"), look(scenes, "val")))
    assert found.images == [("scenes train, sample 1", "scenes val, sample 4")]


class Filed(torch.utils.data.Dataset):
    """A split that has files and nothing else."""

    def __init__(self, files: list[dict[str, str]]) -> None:
        self.rows = [{kind: Path(name) for kind, name in row.items()} for row in files]

    def __len__(self) -> int:
        return len(self.rows)

    def files(self, index: int) -> dict[str, Path]:
        return self.rows[index]


def test_a_file_of_one_sample_each_is_shared_and_a_container_is_not() -> None:
    train = Filed([{"image": "a", "all": "x.mat"}, {"image": "b", "all": "x.mat"}])
    val = Filed([{"image": "b", "all": "x.mat"}, {"image": "c", "all": "x.mat"}])
    assert shared_files(train, val) == [Path("b")]
    assert shared_files(train, torch.utils.data.TensorDataset(torch.ones(2))) == []


def test_files_of_another_size_than_most_are_named(tmp_path: Path) -> None:
    files = {name: {"image": tmp_path / name} for name in "abc"}
    sizes = {"a": (4, 8), "b": (2, 4), "c": (4, 8)}
    (found,) = sizes_by_kind((files[n], {"image": sizes[n]}) for n in "abc")
    assert found.counts == {(4, 8): 2, (2, 4): 1}
    assert found.odd == ((tmp_path / "b", (2, 4)),)


def test_what_is_no_picture_has_no_size(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("{}")
    (tmp_path / "x.npy").write_bytes(b"torn")
    assert size_of(tmp_path / "x.json") == size_of(tmp_path / "x.npy") == ()
    assert size_of(tmp_path / "absent.png") == ()


def test_a_task_learns_from_what_is_there_and_not_hidden(
    recipe: mtlkit.Recipe, tiny: Path, scenes: Scenes
) -> None:
    for index in range(6):
        scenes.spoil("train", index, "depth", DepthMap(torch.full((1, *SIZE), torch.nan)))
    found = learnable(recipe, survey(look(scenes, "train")))
    assert {n: (x.images, x.total) for n, x in found.items()} == {
        "segmentation": (6, 6),
        "depth": (0, 6),
    }
    assert learnable(recipe, survey(look(scenes, "val"))) == {}


def test_a_hidden_label_does_not_count(recipe: mtlkit.Recipe, tiny: Path) -> None:
    half = {"data.labels_per_image": {"mode": "random_share", "share": {"depth": 0.5}}}
    hiding = mtlkit.load_recipe(tiny, half, blocked=["progress"])
    (dataset,) = hiding.sets
    data = dataset.build_split("train", hiding.wants)
    names = {name: name for name in hiding.wants}
    found = learnable(hiding, survey(Look(dataset, "train", data, names, range(6))))
    assert (found["depth"].images, found["segmentation"].images) == (3, 6)


class Failing(Scenes):
    def build_split(self, split, wants):
        class Split(torch.utils.data.Dataset):
            def __len__(self):
                return 6

            def __getitem__(self, index):
                raise UsageError("root: is wrong")

        return Split()


@pytest.mark.parametrize("workers", [1, 2])
def test_what_concerns_more_than_a_sample_ends_all_in_its_own_words(workers: int) -> None:
    with pytest.raises(UsageError, match=r"^root: is wrong$"):
        survey(look(Failing(), "train"), workers=workers)


@pytest.mark.parametrize(
    ("size", "count", "numbers"),
    [(5, 0, []), (0, 4, []), (2, 6, [0, 1]), (10, 2, [2, 7]), (500, 3, [83, 250, 416])],
)
def test_samples_lie_evenly_over_a_split(size: int, count: int, numbers: list[int]) -> None:
    assert spread(size, count) == numbers


class Dying(Scenes):
    """Whoever reads it is killed, as by a system that is short of memory."""

    def build_split(self, split, wants):
        class Split(torch.utils.data.Dataset):
            def __len__(self):
                return 6

            def __getitem__(self, index):
                assert torch.utils.data.get_worker_info() is not None
                os.kill(os.getpid(), signal.SIGKILL)

        return Split()


def test_a_killed_process_is_told_with_what_to_do() -> None:
    with pytest.raises(MissingError, match=r"was killed .* Give fewer --workers"):
        survey(look(Dying(), "train"), workers=2)
