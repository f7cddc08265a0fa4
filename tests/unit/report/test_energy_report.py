"""The table of energies, their colours, and the sheets that show where predictions disagree."""

from __future__ import annotations

import io

import pytest
import torch
from PIL import Image
from rich.console import Console

import mtlkit
from mtlkit.consistency import Relation, Report, TargetReport
from mtlkit.report.colours import HEAT, heat
from mtlkit.report.consistency import consistency_table
from mtlkit.report.energy_maps import Maps, _groups, draw_energies
from mtlkit.report.pictures import draw_predictions, spec_of
from mtlkit.report.sheet import GAP, INVALID, NO_LABEL

GOOD, LESS = Relation(8, 0.7654, -0.5), Relation(8, 0.25, 0.125)
NONE = Relation(0, reason="no image has a label")


@pytest.fixture
def run(recipe, tmp_path):
    return mtlkit.Run(recipe, out=tmp_path / "runs")


def lines(recipe, targets):
    console = Console(file=io.StringIO(), width=80)
    report = Report(targets, LESS)
    console.print(consistency_table(report, recipe.tasks, recipe.offers))
    return [" ".join(line.split()) for line in console.file.getvalue().splitlines()]


def test_the_table_has_units_correlations_and_reasons(recipe):
    targets = {
        "segmentation": TargetReport(2, 0.25, 0.125, GOOD, LESS),
        "depth": TargetReport(1, 0.01234, None, NONE, NONE),
    }
    assert lines(recipe, targets) == [
        "consistency energy unit Pearson Spearman of error in images",
        "segmentation 0.2500 nats (KL) 0.765 -0.500 share wrong 8",
        "standardised 0.250 0.125 share wrong 8",
        "depth 0.01234 disparity/256 – – disparity/256 0",
        "all tasks standardised 0.250 0.125 z-scores 8",
        "depth: no image has a label",
    ]


def test_one_task_with_one_edge_is_one_row(recipe):
    found = lines(recipe, {"depth": TargetReport(1, 1.0, 2.0, GOOD, GOOD)})
    assert len(found) == 2 and found[1].startswith("depth 1.000")


def test_heat_is_pale_at_zero_dark_at_the_top_and_black_without_a_label():
    values = torch.tensor([0.0, 1.0, 4.0, torch.nan]).view(1, 1, 1, 4)
    pictures, legend = heat(values, "m")
    assert pictures[0, :, 0].T[[0, 2, 3]].tolist() == [list(HEAT[0]), list(HEAT[-1]), [INVALID] * 3]
    assert pictures.dtype == torch.uint8
    text = " ".join(item.text for item in legend)
    assert text == "0 (pale) to 3.88 (dark red) m no label" and legend[-1] == NO_LABEL


@pytest.mark.parametrize("value", [0.0, torch.nan])
def test_heat_of_nothing_has_one_colour_and_a_finite_scale(value):
    pictures, legend = heat(torch.full((2, 1, 3, 3), value), "")
    assert len(pictures.flatten(2).unique(dim=2).unique(dim=0)) == 1
    assert "nan" not in " ".join(item.text for item in legend)


def test_rare_errors_are_still_seen():
    values = torch.zeros(1, 1, 10, 100)
    values[..., 0, 0] = 1
    pictures, legend = heat(values, "wrong")
    assert pictures[0, :, 0, 0].tolist() == list(HEAT[-1])
    assert [item.text for item in legend][3] == "1"


def test_several_edges_have_a_column_each_and_their_mean(run):
    task, (into, *_) = run.recipe.tasks["depth"], run.recipe.all_edges
    other = into.model_copy(update={"source": "normals"})
    value, nothing = torch.rand(1, 1, 4, 4), torch.zeros(1, 1, 4, 4)
    maps = Maps([value] * 3, [nothing, nothing + 2], nothing + torch.nan)
    spec = spec_of(task, run.recipe.offers)
    prediction, energy, error = _groups(task, spec, [into, other], maps)
    titles = ["segmentation → depth (xtc)", "normals → depth (xtc)"]
    assert list(prediction.columns) == ["prediction", *titles]
    assert list(energy.columns) == [*titles, "mean of these"]
    shown = [column[0, :, 0, 0].tolist() for column in energy.columns.values()]
    assert shown == [list(HEAT[0]), list(HEAT[-1]), list(HEAT[4])]  # one scale for all
    assert error.legend[-1] == NO_LABEL
    assert len(_groups(task, spec, [into], Maps([value] * 2, [nothing], nothing))[1].columns) == 1


def test_each_target_has_a_sheet_with_the_samples_of_the_other_pictures(run, tmp_path):
    run.objective.train()
    before = {name: value.clone() for name, value in run.model.state_dict().items()}
    paths = draw_energies(run, tmp_path, "val")
    assert paths == [tmp_path / "segmentation.png", tmp_path / "depth.png"]
    assert all(module.training for module in run.objective.modules())
    assert all(torch.equal(before[name], x) for name, x in run.model.state_dict().items())
    drawn = draw_predictions(run, tmp_path / "others.png", run.recipe.train.pictures)
    with Image.open(paths[0]) as sheet, Image.open(drawn) as other:
        assert sheet.width > 5 * (256 + GAP)  # image, two predictions, energy, error
        assert abs(sheet.height - other.height) < 128  # as many rows
