"""Running means, the first bad step, and signals."""

from __future__ import annotations

import copy
import os
import signal
import threading

import pytest
import torch

from mtlkit.errors import DivergedError
from mtlkit.monitor import Interrupts, Monitor

NAMES = ["loss/a/direct", "loss/a", "loss/b", "loss/total"]


def monitor():
    return Monitor(NAMES, torch.device("cpu"))


def values(**found):
    return {f"loss/{name}": torch.tensor(value) for name, value in found.items()}


def test_means_are_over_what_came_since_the_last_line_and_over_the_epoch():
    m = monitor()
    m.add(values(a=1.0, total=10.0), 1)
    m.add(values(a=3.0, total=20.0), 2)
    assert m.read_line() == {"loss/a": 2, "loss/total": 15}
    m.add(values(a=8.0, total=0.0), 3)
    assert m.read_line() == {"loss/a": 8, "loss/total": 0}
    assert m.read_epoch() == {"loss/a": 4, "loss/total": 10}
    assert m.read_line() == {} == m.read_epoch()


def test_absent_values_are_not_counted_as_zero():
    m = monitor()
    m.add(values(a=1.0, b=5.0), 1)
    m.add(values(a=3.0), 2)
    m.add(values(b=7.0), 3)
    m.add({}, 4)
    assert m.read_line() == {"loss/a": 2, "loss/b": 6}


def test_a_line_and_the_epoch_do_not_disturb_each_other():
    m = monitor()
    m.add(values(a=1.0), 1)
    assert m.read_epoch() == {"loss/a": 1}
    m.add(values(a=2.0), 2)
    assert m.read_line() == {"loss/a": 1.5}
    assert m.read_epoch() == {"loss/a": 2}


def test_many_small_values_are_summed_in_double_precision():
    m = monitor()
    m.add(values(a=1e8), 1)
    for step in range(2, 102):
        m.add(values(a=0.5), step)
    assert m.read_line()["loss/a"] == pytest.approx((1e8 + 50) / 101, rel=1e-12)


def test_half_precision_values_are_taken():
    m = monitor()
    m.add({"loss/a": torch.tensor(0.5, dtype=torch.bfloat16)}, 1)
    assert m.read_line() == {"loss/a": 0.5}


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("read", ["read_line", "read_epoch", "check", "state"])
def test_the_first_bad_step_is_named_and_not_the_later_ones(bad, read):
    m = monitor()
    m.add(values(a=1.0, b=1.0, total=2.0), 7)
    m.add(values(a=1.0, b=bad, total=bad), 8)
    m.add(values(a=bad, b=bad, total=bad), 9)
    if read == "state":
        m.state()
        read = "check"
    with pytest.raises(DivergedError, match=r"^loss/b, loss/total is not finite at step 8$"):
        getattr(m, read)()


def test_a_bad_value_is_told_also_after_the_line_it_was_in():
    m = monitor()
    m.add(values(a=float("nan")), 3)
    for _ in range(2):
        with pytest.raises(DivergedError, match="step 3"):
            m.read_line()


def test_parts_are_named_before_their_sums():
    m = monitor()
    m.add({name: torch.tensor(float("nan")) for name in reversed(NAMES)}, 5)
    with pytest.raises(DivergedError, match=r"^loss/a/direct, loss/a, loss/b is"):
        m.check()


def test_finite_values_raise_nothing():
    m = monitor()
    m.add(values(a=3.4e38, b=-1e-45), 1)
    m.check()


def test_a_restored_monitor_goes_on_as_if_nothing_had_happened():
    there, back = monitor(), monitor()
    there.add(values(a=1.0, b=2.0), 1)
    there.read_line()
    there.add(values(a=4.0), 2)
    back.restore(copy.deepcopy(there.state()))
    for m in (there, back):
        m.add(values(a=6.0, b=3.0), 3)
    assert back.read_line() == there.read_line() == {"loss/a": 5, "loss/b": 3}
    assert back.read_epoch() == there.read_epoch() == {"loss/a": 11 / 3, "loss/b": 2.5}


def test_a_state_of_other_losses_does_not_fit():
    with pytest.raises(RuntimeError):
        monitor().restore(Monitor(NAMES[:2], torch.device("cpu")).state())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_is_noted_and_the_second_stops_at_once(number, capfd):
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt), Interrupts() as interrupts:
        assert not interrupts.requested
        os.kill(os.getpid(), number)
        assert interrupts.requested
        os.kill(os.getpid(), number)
    assert signal.getsignal(number) == before
    assert "stopping after this step and saving" in capfd.readouterr().err


def test_another_thread_leaves_signals_alone():
    before, seen = signal.getsignal(signal.SIGINT), []

    def inside():
        with Interrupts() as interrupts:
            seen.append((signal.getsignal(signal.SIGINT), interrupts.requested))

    thread = threading.Thread(target=inside)
    thread.start()
    thread.join()
    assert seen == [(before, False)]
