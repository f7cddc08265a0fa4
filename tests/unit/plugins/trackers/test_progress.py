import io
import sys
from types import SimpleNamespace

import pluggy
import pytest
import torch
from rich.console import Console

from mtlkit import hookspecs
from mtlkit.evaluation import Direction
from mtlkit.hookspecs import hookimpl
from mtlkit.ranks import Ranks
from mtlkit.records import EpochRecord, Outcome, Position, StepRecord
from mtlkit_plugins.trackers import _views, progress

HIDE, SHOW = "\x1b[?25l", "\x1b[?25h"  # what a terminal is told about its cursor
LOSSES = {"loss/depth/direct": 9.0, "loss/depth": 0.25, "loss/total": 0.5}
SPEED = {
    "images_per_second": 12.5,
    "data": 0.0,
    "forward": 0.404,
    "backward": 0.5,
    "weighting": 0.009,
    "optimizer": 0.05,
    "other": 0.037,
    "mfu": 0.61,
}
VAL = {
    "loss/total": 0.75,
    "segmentation/miou": 0.5,
    "depth/abs_err": 0.0122,
    "depth/rmse": 1.0,
}


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self):
        self.now = 100.0

    def monotonic(self):
        return self.now


class Terminal(io.StringIO):
    """Text that takes itself for a terminal."""

    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    for module in (progress, _views):
        monkeypatch.setattr(module, "time", clock)
    return clock


def a_run(tmp_path, track=None):
    train = SimpleNamespace(accumulate=2)
    counts = {"train": 40, "val": 10}
    return SimpleNamespace(
        recipe=SimpleNamespace(name="tiny", train=train),
        folder=tmp_path / "runs",
        placement=SimpleNamespace(line="cpu (2 threads), fp32"),
        model=torch.nn.Linear(999, 10),
        loader=lambda split: (None, SimpleNamespace(count=counts[split])),
        epochs=12,
        steps_per_epoch=4,
        ranks=Ranks(),
        position=Position(),
        is_resumed=False,
        notes=[],
        directions={
            "segmentation/miou": Direction("", True),
            "depth/rmse": Direction("m", False),
            "depth/abs_err": Direction("disparity/256", False),
            "loss/total": Direction("", False),
        },
        track=track,
    )


class Told:
    """A run as its trackers see it, and the hooks that tell them."""

    def __init__(self, tmp_path, monkeypatch):
        self.monkeypatch = monkeypatch
        self.manager = pluggy.PluginManager("mtlkit")
        self.manager.add_hookspecs(hookspecs)
        self.manager.register(progress)
        self.hook = self.manager.hook
        self.run = a_run(tmp_path, self.manager.register)

    def start(self, stderr=None):
        if stderr is not None:  # here, not in a fixture: pytest changes it before the test's call
            self.monkeypatch.setattr(sys, "stderr", stderr)
        self.hook.mtlkit_run_start(run=self.run)

    def step(self, metrics=None, epoch=1, speed=None):
        self.run.position.batch += 2
        self.run.position.step += 1
        record = StepRecord(self.run.position.step, epoch, 8, metrics, speed or {})
        self.hook.mtlkit_step_end(run=self.run, step=record)

    def epoch(self, is_best=False):
        record = EpochRecord(1, self.run.position.step, LOSSES, VAL, is_best)
        self.hook.mtlkit_epoch_end(run=self.run, epoch=record)

    def end(self, status="done"):
        self.hook.mtlkit_run_end(run=self.run, outcome=Outcome(status, 1, 1))


@pytest.fixture
def told(tmp_path, clock, monkeypatch):
    return Told(tmp_path, monkeypatch)


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "160")
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    return Terminal()


def test_the_first_line_says_what_runs_where_on_how_much(told, capsys):
    told.start()
    assert capsys.readouterr().err == (
        f"tiny · {told.run.folder} · cpu (2 threads), fp32 · 0.01 million parameters · "
        "40 training and 10 validation images · 12 epochs\n"
    )


def test_the_first_line_says_where_a_resumed_run_goes_on(told, capsys):
    told.run.is_resumed, told.run.position = True, Position(epoch=3, batch=0, step=8)
    told.start()
    assert capsys.readouterr().err.endswith(" · resumed in epoch 3 after step 8\n")


def test_an_epoch_is_one_plain_line_in_a_pipe(told, clock, capsys):
    told.start()
    capsys.readouterr()
    clock.now += 12.34
    told.epoch(is_best=True)
    assert capsys.readouterr().err == (
        "epoch  1/12  segmentation/miou ↑ 0.5000  depth/rmse ↓ 1.000 m  "
        "loss ↓ 0.7500 (train 0.5000)  12.3 s  best\n"
    )


def test_plain_lines_of_steps_are_ten_seconds_apart_and_only_of_logged_ones(told, clock, capsys):
    told.start()
    capsys.readouterr()
    clock.now += 5
    told.step(LOSSES)
    clock.now += 5
    told.step()
    assert capsys.readouterr().err == ""
    clock.now += 2
    told.step(LOSSES)
    assert capsys.readouterr().err == (
        "epoch 1/12  step 3/4  total 0.5000  depth 0.2500  2.000 images/s  0:03:00 left\n"
    )


def test_a_plain_line_says_what_the_time_goes_into(told, clock, capsys):
    told.start()
    capsys.readouterr()
    clock.now += 12
    told.step(LOSSES, speed=SPEED)
    assert capsys.readouterr().err == (
        "epoch 1/12  step 1/4  total 0.5000  depth 0.2500  12.50 images/s · data 0 % · "
        "forward 40 % · backward 50 % · optimizer 5 % · other 4 % · mfu 61 %  0:09:24 left\n"
    )


def test_a_reader_of_the_pipe_that_has_gone_does_not_end_the_run(told):
    class Gone(io.StringIO):
        def write(self, text):
            raise BrokenPipeError

    told.start(Gone())
    told.epoch()
    told.end()


def test_a_run_that_ends_before_its_first_step_leaves_the_terminal_alone(told, terminal):
    told.start(terminal)
    told.end("failed")
    assert "\x1b[?" not in terminal.getvalue()


def test_nothing_goes_to_standard_output(told, capsys):
    told.start()
    told.epoch()
    told.end()
    assert capsys.readouterr().out == ""


def test_a_terminal_gets_a_live_display_and_lines_that_stay(told, clock, terminal):
    told.start(terminal)
    clock.now += 1
    told.step(LOSSES)
    shown = terminal.getvalue()
    assert "epoch 1/12" in shown
    assert "1/4" in shown
    assert "8.000 images/s" in shown
    assert "total 0.5000" in shown
    told.epoch()
    told.end()
    assert "epoch  1/12  segmentation/miou ↑ 0.5000" in terminal.getvalue()


def test_the_live_display_says_what_the_time_goes_into_from_the_first_logged_step_on(
    told, clock, terminal
):
    told.start(terminal)
    told.step()
    assert "mfu" not in terminal.getvalue()
    clock.now += 1
    told.step(LOSSES, speed=SPEED)
    told.end()
    shown = terminal.getvalue()
    assert "time        data 0 % · forward 40 % · backward 50 %" in shown
    assert "12.50 images/s" in shown and "· mfu 61 %" in shown


def test_the_display_is_redrawn_at_most_five_times_a_second(told, clock, terminal):
    told.start(terminal)
    told.step()
    before = terminal.getvalue()
    clock.now += 0.1
    told.step()
    assert terminal.getvalue() == before
    clock.now += 0.11
    told.step()
    assert terminal.getvalue() != before
    told.end()


def test_the_display_says_that_validation_runs(told, terminal):
    told.start(terminal)
    for _ in range(4):
        told.step()
    told.end()
    assert "validating" in terminal.getvalue()


@pytest.mark.parametrize("status", ["done", "interrupted", "diverged", "failed"])
def test_the_cursor_is_back_however_the_run_ended(told, terminal, status):
    told.start(terminal)
    told.step()
    told.step()
    assert terminal.getvalue().count(HIDE) == 1
    told.end(status)
    assert terminal.getvalue().rindex(SHOW) > terminal.getvalue().rindex(HIDE)
    assert sys.stderr is terminal


def test_the_cursor_is_back_even_if_another_plugin_fails_at_the_end(told, terminal):
    class Failing:
        @hookimpl
        def mtlkit_run_end(self):
            raise ValueError("mine")

    told.start(terminal)
    told.step()
    told.manager.register(Failing())
    with pytest.raises(ValueError, match="mine"):
        told.end()
    assert terminal.getvalue().count(SHOW) == 1


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_a_terminal_that_wants_no_display_gets_plain_lines(
    told, terminal, monkeypatch, name, value
):
    monkeypatch.setenv(name, value)
    told.start(terminal)
    told.step(LOSSES)
    told.epoch()
    told.end()
    assert "\x1b" not in terminal.getvalue()
    assert terminal.getvalue().count("\n") == 2


def test_colours_forced_into_a_pipe_do_not_make_it_a_terminal(monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert isinstance(progress.choose_view(Console(file=io.StringIO())), _views.PlainView)
