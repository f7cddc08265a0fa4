from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from metric_batches import measured
from torch.nn.functional import normalize

from mtlkit.metrics import AngleWithin, MeanAngle, MedianAngle, RootMeanSquareAngle
from mtlkit.structures import Label

FORWARD = (0.0, 0.0, -1.0)


def turned(*degrees):
    """Return normals at angles to FORWARD, (1,3,1,W), in double precision."""
    radians = torch.tensor(degrees, dtype=torch.float64).deg2rad()
    stacked = torch.stack([radians.sin(), torch.zeros_like(radians), -radians.cos()])
    return stacked.view(1, 3, 1, -1)


def facing(width, valid=None):
    value = torch.tensor(FORWARD).view(1, 3, 1, 1).repeat(1, 1, 1, width)
    mask = torch.ones(1, 1, 1, width, dtype=torch.bool)
    return Label(value, mask if valid is None else torch.tensor(valid).view(1, 1, 1, -1))


def random_batch(seed, pixels=(9, 13)):
    generator = torch.Generator().manual_seed(seed)
    prediction, value = (torch.randn(2, 3, *pixels, generator=generator) for _ in range(2))
    valid = torch.rand(2, 1, *pixels, generator=generator) < 0.7
    return prediction, Label(normalize(value, dim=1), valid)


def angles_of(*batches):
    """Return the angle of every valid pixel by acos in double precision, as numpy."""
    found = []
    for prediction, label in batches:
        cosine = (normalize(prediction.double(), dim=1) * label.value.double()).sum(1)
        found.append(torch.rad2deg(cosine.clamp(-1, 1).acos())[label.valid[:, 0]].numpy())
    return np.concatenate(found)


@pytest.mark.parametrize("angle", [0.0, 1e-3, 0.5, 11.25, 45.0, 90.0, 179.5, 179.999, 180.0])
def test_an_angle_is_exact_also_near_0_and_180_degrees(angle):
    batch = (turned(angle).float(), facing(1))
    assert measured(MeanAngle(), batch) == pytest.approx(angle, abs=2e-5)
    assert measured(MedianAngle(), batch) == pytest.approx(angle, abs=0.005 + 2e-5)


def test_angles_have_their_textbook_statistics():
    batch = (turned(5.0, 20.0, 25.0, 50.0), facing(4))
    assert measured(MeanAngle(), batch) == pytest.approx(25)
    assert measured(RootMeanSquareAngle(), batch) == pytest.approx(math.sqrt(3550 / 4))
    assert measured(MedianAngle(), batch) == pytest.approx((20 + 25) / 2, abs=0.01)
    shares = [measured(AngleWithin(degrees), batch) for degrees in (11.25, 22.5, 30)]
    assert shares == [1 / 4, 2 / 4, 3 / 4]


@pytest.mark.parametrize("pixels", [(9, 13), (8, 13), (1, 2)])
def test_statistics_are_those_of_numpy_over_all_pixels_of_all_batches(pixels):
    batches = [random_batch(seed, pixels) for seed in range(3)]
    angles = angles_of(*batches)
    assert measured(MeanAngle(), *batches) == pytest.approx(angles.mean(), rel=1e-6)
    assert measured(MedianAngle(), *batches) == pytest.approx(np.median(angles), abs=0.00501)
    root = np.sqrt(np.square(angles).mean())
    assert measured(RootMeanSquareAngle(), *batches) == pytest.approx(root, rel=1e-6)
    for degrees in (11.25, 22.5, 30, 90):
        assert measured(AngleWithin(degrees), *batches) == (angles < degrees).mean()


def test_the_length_of_a_prediction_does_not_matter():
    prediction, label = random_batch(0)
    lengths = torch.rand(2, 1, 9, 13) * 100 + 1e-3
    scaled = measured(MeanAngle(), (prediction * lengths, label))
    assert scaled == pytest.approx(measured(MeanAngle(), (prediction, label)), rel=1e-6)


def test_a_prediction_without_length_is_90_degrees_off_and_no_number_180():
    batch = (torch.zeros(1, 3, 1, 1), facing(1))
    assert measured(MeanAngle(), batch) == pytest.approx(90)
    batch = (torch.full((1, 3, 1, 1), math.nan), facing(1))
    assert measured(MeanAngle(), batch) == 180
    assert measured(MedianAngle(), batch) == pytest.approx(180, abs=0.00501)
    assert measured(AngleWithin(30), batch) == 0


def test_only_valid_pixels_count():
    prediction = turned(10.0, 0.0)
    prediction[..., 1] = math.nan
    batch = (prediction, facing(2, [True, False]))
    assert measured(MeanAngle(), batch) == pytest.approx(10)
    assert measured(MedianAngle(), batch) == pytest.approx(10, abs=0.00501)


def test_an_angle_at_the_edge_of_a_share_is_not_below_it():
    metric = AngleWithin(11.25)
    metric.update(turned(11.24, 11.26), facing(2))
    assert float(metric.compute()) == 0.5
    assert int(metric.bins[1124]) == 1 == int(metric.bins[1126])
