import json
from types import SimpleNamespace

import pluggy
import pytest

from mtlkit import hookspecs
from mtlkit.errors import MissingError
from mtlkit.records import EpochRecord, Outcome, Position, StepRecord
from mtlkit_plugins.trackers import jsonl


class Told:
    """A run as its trackers see it, and the hooks that tell them."""

    def __init__(self, folder, position=None):
        manager = pluggy.PluginManager("mtlkit")
        manager.add_hookspecs(hookspecs)
        manager.register(jsonl)
        self.hook = manager.hook
        self.file = folder / "metrics.jsonl"
        self.run = SimpleNamespace(
            folder=folder,
            is_resumed=position is not None,
            position=position or Position(),
            track=manager.register,
        )
        self.hook.mtlkit_run_start(run=self.run)

    def step(self, step, metrics, epoch=1, **speed):
        record = StepRecord(step, epoch, 8, metrics, speed)
        self.hook.mtlkit_step_end(run=self.run, step=record)

    def epoch(self, epoch, step, val):
        self.hook.mtlkit_epoch_end(run=self.run, epoch=EpochRecord(epoch, step, {}, val, False))

    def end(self):
        self.hook.mtlkit_run_end(run=self.run, outcome=Outcome("done", 1, 1))

    def records(self):
        return [json.loads(line) for line in self.file.read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def told(tmp_path):
    told = Told(tmp_path)
    yield told
    told.end()


def test_a_logged_step_is_a_line_with_its_speed(told):
    told.step(1, None)
    told.step(2, {"loss/total": 0.5}, images_per_second=12.5, data=0.25, mfu=0.5)
    speed = {"speed/images_per_second": 12.5, "speed/data": 0.25, "speed/mfu": 0.5}
    assert told.records() == [
        {"step": 2, "epoch": 1, "split": "train", "metrics": {"loss/total": 0.5, **speed}}
    ]


def test_a_step_that_is_not_logged_is_no_line(told):
    told.step(1, None)
    assert told.records() == []


def test_an_epoch_is_a_line_with_the_numbers_of_validation(told):
    told.epoch(3, 30, {"segmentation/miou": 0.25})
    expected = {"step": 30, "epoch": 3, "split": "val", "metrics": {"segmentation/miou": 0.25}}
    assert told.records() == [expected]


def test_an_infinite_number_is_left_out_because_json_has_no_word_for_it(told):
    told.epoch(1, 1, {"depth/rel_err": float("inf"), "depth/rmse": 1.0})
    assert told.records()[0]["metrics"] == {"depth/rmse": 1.0}


def test_every_line_is_in_the_file_before_the_run_ends(told):
    told.step(1, {})
    assert told.file.read_text(encoding="utf-8").endswith("\n")


def test_a_resumed_run_drops_what_it_will_do_again_and_goes_on_after_it(tmp_path):
    first = Told(tmp_path)
    first.step(10, {"loss/total": 1.0})
    first.epoch(1, 10, {"loss/total": 1.0})
    first.step(15, {"loss/total": 2.0}, epoch=2)
    first.step(20, {"loss/total": 3.0}, epoch=2)
    first.epoch(2, 20, {"loss/total": 3.0})
    first.end()
    again = Told(tmp_path, Position(epoch=2, batch=5, step=15))
    again.step(20, {"loss/total": 4.0}, epoch=2)
    again.end()
    seen = [(r["split"], r["step"], r["metrics"]["loss/total"]) for r in again.records()]
    assert seen == [("train", 10, 1.0), ("val", 10, 1.0), ("train", 15, 2.0), ("train", 20, 4.0)]
    assert [file.name for file in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_a_resumed_run_drops_a_torn_last_line(tmp_path):
    whole = '{"step": 1, "epoch": 1, "split": "train", "metrics": {}}\n'
    (tmp_path / "metrics.jsonl").write_bytes(whole.encode() + b'{"step": 2, "epo\xe2\x86')
    told = Told(tmp_path, Position(epoch=1, batch=5, step=5))
    told.end()
    assert told.file.read_text(encoding="utf-8") == whole


def test_a_resumed_run_whose_metrics_are_gone_begins_a_new_file(tmp_path):
    told = Told(tmp_path, Position(epoch=2, batch=0, step=5))
    told.step(6, {}, epoch=2)
    told.end()
    assert len(told.records()) == 1


def test_a_file_that_cannot_be_opened_is_an_error_with_a_way_out(tmp_path):
    (tmp_path / "metrics.jsonl").mkdir()
    with pytest.raises(MissingError, match=r"metrics\.jsonl: cannot write .* --no-plugin jsonl"):
        Told(tmp_path)
