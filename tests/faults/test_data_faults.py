"""`mtlkit data` where something is not what it must be."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from faulty import Case, edited
from test_command_faults import CITY, ROOT, city, said

TWICE = edited(
    (
        "{type: streets, size: [32, 64], train: 2, val: 2}",
        '[{type: cityscapes, root: "${CITYSCAPES_ROOT}", size: [32, 64]},'
        " {type: cityscapes, root: other, name: other, size: [32, 64]}]",
    )
)
CASES = [
    said("no root", "data check recipe.yaml", 2, "data.root: ", "export CITY", recipe=CITY),
    said("a missing root", "data check recipe.yaml", 4, "not a folder", recipe=CITY, env=ROOT),
    said("a missing root", "data prepare recipe.yaml", 4, "not a folder", recipe=CITY, env=ROOT),
    said("a missing root", "data clear recipe.yaml", 4, "not a folder", recipe=CITY, env=ROOT),
    said(
        "two missing roots",
        "data check recipe.yaml",
        4,
        "'root' is not a folder",
        "'other' is not a folder",
        recipe=TWICE,
        env=ROOT,
    ),
    said("an unknown recipe", "data check nope", 2, "nope: no such file, and no shipped recipe"),
    said("an unknown recipe", "data prepare nope", 2, "nope: no such file"),
    said("an unknown recipe", "data clear nope", 2, "nope: no such file"),
    said("no recipe", "data check", 2, "Missing argument"),
    said("an unknown split", "data check recipe.yaml --split test", 2, "'train', 'val', 'both'"),
    said("no samples", "data check recipe.yaml --limit 0", 2, "--limit"),
    said("no workers", "data prepare recipe.yaml --workers 0", 2, "--workers"),
    said("--set without =", "data check recipe.yaml --set data.train", 2, "write KEY=VALUE"),
    said("--out in no folder", "data check recipe.yaml --out a/b.png", 2, "--out: 'a/b.png'"),
    said(
        "nothing to prepare",
        "data prepare recipe.yaml --set loader.cache=none",
        2,
        "streets: samples are not kept (loader.cache is none)",
        "set loader.cache to disk",
    ),
    said(
        "a cache that is a file",
        "data prepare recipe.yaml --workers 1",
        4,
        "cannot keep samples here",
        "Set MTLKIT_CACHE to another folder",
        files={"cache": "a file"},
        env={"MTLKIT_CACHE": "cache"},
    ),
    said(
        "missing labels",
        "data check recipe.yaml",
        4,
        "lacks gtFine/train",
        recipe=CITY,
        env=ROOT,
        files=city(gtFine=None),
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.command.split()[1]}: {case.name}")
def test_a_wrong_command_about_data_is_told_in_words(
    case: Case, refuse: Callable[[Case], None]
) -> None:
    refuse(case)
