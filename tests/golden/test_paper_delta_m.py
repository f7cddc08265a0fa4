"""Δm as XTasC-Net's tables print it: arXiv 2111.14122, tables I and III."""

from __future__ import annotations

import pytest

from mtlkit.metrics import delta_m

DIRECTIONS = {
    "segmentation/miou_image": True,
    "segmentation/pixel_accuracy_image": True,
    "depth/abs_err": False,
    "depth/rel_err": False,
}
# mIoU and pixel accuracy in percent, absolute and relative error; then the Δm that is printed
NYU_BASELINE = (30.62, 62.30, 0.6451, 0.2443)
NYU = {
    "Base MT-Net": ((31.02, 63.58, 0.6103, 0.2284), 3.82),
    "Align-Net": ((30.46, 63.32, 0.6514, 0.2295), 1.55),
    "XTasC-Net": ((30.31, 63.02, 0.5954, 0.2235), 4.09),
}
CITYSCAPES_BASELINE = (66.40, 93.48, 0.0124, 19.78)
CITYSCAPES = {
    "Base MT-Net": ((66.84, 93.57, 0.0122, 19.61), 1.44),
    "Align-Net": ((66.61, 93.53, 0.0124, 19.83), 0.67),
    "XTasC-Net": ((66.51, 93.56, 0.0122, 19.40), 1.58),
}


def named(values):
    return dict(zip(DIRECTIONS, values, strict=True))


@pytest.mark.parametrize("model", NYU)
def test_delta_m_of_table_3_is_the_printed_one(model):
    values, printed = NYU[model]
    ours = delta_m(named(values), named(NYU_BASELINE), DIRECTIONS)
    assert ours == pytest.approx(printed, abs=0.005)


@pytest.mark.parametrize("model", NYU)
def test_with_two_metrics_a_task_both_forms_agree(model):
    values = named(NYU[model][0]), named(NYU_BASELINE), DIRECTIONS
    assert delta_m(*values, form="per_task") == pytest.approx(delta_m(*values))


@pytest.mark.parametrize("model", CITYSCAPES)
def test_delta_m_of_table_1_is_printed_too_high_by_the_same_amount_in_every_row(model):
    # eq. 17 of the printed metrics; one other baseline value would explain all rows
    values, printed = CITYSCAPES[model]
    ours = delta_m(named(values), named(CITYSCAPES_BASELINE), DIRECTIONS)
    assert 0.63 < printed - ours < 0.66
