"""The survey in words: shares that do not lie, lists that end, warnings that tell what to do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from fixtures.spoilt_scenes import SIZE, Scenes
from rich.console import Console

from mtlkit.report.survey import bad_lines, leak_lines, percent, survey_report
from mtlkit.structures import FieldSpec
from mtlkit.survey import Leaks, Look, Visits, summed
from mtlkit.transforms import DepthMap, NormalMap
from mtlkit.walk import walked


class Everything(Scenes):
    """Scenes that offer normals, and have none."""

    @property
    def offers(self):
        return {**super().offers, "normals": FieldSpec(NormalMap, channels=3)}


def report(scenes: Scenes, *names: str, width: int = 80) -> str:
    """Return what is printed of both splits."""
    looks = []
    for split in ("train", "val"):
        own = {name: name for name in names}
        data = scenes.build_split(split, frozenset(own) - {"normals"})
        looks.append(Look(scenes, split, data, own, range(6)))
    console = Console(width=width, force_terminal=False)
    with console.capture() as capture:
        for part in survey_report(summed(looks, walked(Visits(looks), 1))):
            console.print(part, markup=False)
    return capture.get()


@pytest.mark.parametrize(
    ("part", "whole", "text"),
    [
        (0, 0, "–"),
        (0, 9, "0 %"),
        (9, 9, "100 %"),
        (1, 3, "33.3 %"),
        (1, 99999, "< 0.1 %"),
        (99998, 99999, "> 99.9 %"),
    ],
)
def test_only_all_is_100_percent_and_only_nothing_0(part: int, whole: int, text: str) -> None:
    assert percent(part, whole) == text


def test_a_class_that_never_occurs_is_told() -> None:
    lines = report(Scenes(), "segmentation").splitlines()
    (never,) = [line for line in lines if line.startswith("c ")]
    assert never.split() == ["c", "never", "never"]


def test_distances_have_their_range_and_unit() -> None:
    text = report(Scenes(), "depth")
    (row,) = [line for line in text.splitlines() if line.split()[:2] == ["depth", "train"]]
    assert row.split() == ["depth", "train", "1.000", "1.000", "3.000", "6.000", "6.000", "m"]


def test_a_label_that_no_sample_has_is_warned_of() -> None:
    assert "! normals, train: no sample has it" in report(Everything(), "depth", "normals")


def test_depth_at_zero_is_warned_of() -> None:
    scenes = Scenes()
    for index in range(3):
        scenes.spoil("train", index, "depth", DepthMap(torch.zeros(1, *SIZE)))
    assert "! depth, train: 50.0 % of the valid pixels are at 0 or below" in report(scenes, "depth")


def test_normals_of_wrong_axes_are_warned_of() -> None:
    away = NormalMap(torch.tensor([0.0, 0.0, 1.0]).view(3, 1, 1).repeat(1, *SIZE))

    class Turned(Everything):
        def build_split(self, split, wants):
            rows = super().build_split(split, wants)
            return [{**rows[i], "normals": away} for i in range(6)]

    text = report(Turned(), "normals").replace("\n", " ")
    assert "! normals, train: only 0 % point towards the camera, judged by z < 0" in text
    assert "x right, y down, z forward" in text


def test_long_lists_end_with_how_many_there_are_more() -> None:
    lines = list(bad_lines([f"{i}.png: torn" for i in range(23)]))
    assert lines[0] == "23 problems with files or samples:"
    assert lines[1] == "  0.png: torn" and lines[-1] == "  … and 3 more" and len(lines) == 22
    assert list(bad_lines([])) == []


@pytest.mark.parametrize(
    ("files", "images", "lines"),
    [
        ([], [], []),
        ([Path("a")], [], ["leakage: 1 file of train and val alike:", "  a"]),
        (
            [],
            [("t", "v"), ("t", "w")],
            [
                "leakage: 2 validation images with the very pixels of a training image:",
                "  v is t",
                "  w is t",
            ],
        ),
    ],
)
def test_leaks_are_listed(
    files: Sequence[Path], images: Sequence[tuple[str, str]], lines: list[str]
) -> None:
    assert list(leak_lines(Leaks(files, images))) == lines


def test_no_table_is_wider_than_80_columns() -> None:
    text = report(Everything(), "segmentation", "depth", width=200)
    tables = [line.rstrip() for line in text.splitlines() if "!" not in line]
    assert max(map(len, tables)) <= 80
