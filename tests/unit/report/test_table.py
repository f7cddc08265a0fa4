import io

import pytest
from rich.console import Console

from mtlkit.evaluation import Direction
from mtlkit.report.table import format_number, metrics_table, ordered_names, with_arrow

DIRECTIONS = {
    "segmentation/miou": Direction("", True),
    "depth/abs_err": Direction("m", False),
    "loss/total": Direction("", False),
}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.0122, "0.01220"),
        (12.345, "12.35"),
        (-1.5, "-1.500"),
        (9.99996, "10.00"),
        (1234.5678, "1235"),
        (123456.0, "123456"),
        (1e6, "1.000e+06"),
        (0.0001, "0.0001000"),
        (0.00001234, "1.234e-05"),
        (float("inf"), "inf"),
        (float("nan"), "nan"),
    ],
)
def test_a_number_is_written_with_four_significant_digits(value, text):
    assert format_number(value) == text


def test_metrics_come_before_losses_and_known_numbers_in_the_order_of_the_directions():
    column = {"loss/total": 1, "loss/depth/direct": 1, "depth/abs_err": 1, "extra/x": 1}
    other = {"segmentation/miou": 1}
    names = ordered_names({"last": column, "best": other}, DIRECTIONS)
    assert names == [
        "segmentation/miou",
        "depth/abs_err",
        "extra/x",
        "loss/total",
        "loss/depth/direct",
    ]


def test_an_arrow_says_which_way_is_better_where_that_is_known():
    assert with_arrow("segmentation/miou", DIRECTIONS) == "segmentation/miou ↑"
    assert with_arrow("depth/abs_err", DIRECTIONS) == "depth/abs_err ↓"
    assert with_arrow("loss/depth/direct", DIRECTIONS) == "loss/depth/direct ↓"
    assert with_arrow("extra/x", DIRECTIONS) == "extra/x"


def test_the_table_has_a_column_per_set_and_a_dash_where_a_number_is_missing():
    columns = {
        "last epoch": {"depth/abs_err": 2.0, "segmentation/miou": 0.5},
        "best epoch 12": {"depth/abs_err": 1.0},
    }
    console = Console(file=io.StringIO(), width=100)
    console.print(metrics_table(columns, DIRECTIONS))
    lines = [line.split() for line in console.file.getvalue().splitlines()]
    assert lines == [
        ["metric", "last", "epoch", "best", "epoch", "12", "unit"],
        ["segmentation/miou", "↑", "0.5000", "–"],
        ["depth/abs_err", "↓", "2.000", "1.000", "m"],
    ]
