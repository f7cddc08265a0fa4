from collections import deque

import pytest
import torch

from mtlkit.stopwatch import OTHER, HostClock, Stopwatch


class Hand:
    """Seconds that pass when a test says so."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now

    def pass_(self, seconds):
        self.now += seconds


class Queue:
    """A device behind the host: a moment is past once the test lets the device come to it."""

    def __init__(self, hand):
        self.hand, self.made, self.waited, self.reached = hand, deque(), 0, 0

    def now(self):
        self.made.append(self.hand())
        return len(self.made) - 1

    def is_past(self, moment):
        return moment < self.reached

    def wait(self, moment):
        self.waited += 1
        self.reached = max(self.reached, moment + 1)

    def seconds(self, start, end):
        return self.made[end] - self.made[start]


@pytest.fixture
def hand():
    return Hand()


@pytest.fixture
def watch(hand):
    return Stopwatch(HostClock(hand))


def seconds(watch):
    """Return the time by phase, where there is any."""
    return {phase: x for phase, x in watch.read().items() if x}


def test_each_phase_gets_its_time_and_what_lies_between_is_other(watch, hand):
    with watch("forward"):
        hand.pass_(2)
    hand.pass_(1)
    with watch("backward"):
        hand.pass_(4)
    with watch("forward"):
        hand.pass_(3)
    assert seconds(watch) == {"forward": 5, OTHER: 1, "backward": 4}


def test_an_inner_phase_stops_the_outer_one(watch, hand):
    with watch("backward"):
        hand.pass_(1)
        with watch("weighting"):
            hand.pass_(2)
        hand.pass_(4)
    assert seconds(watch) == {"backward": 5, "weighting": 2}


def test_reading_begins_anew_and_loses_no_time(watch, hand):
    with watch("forward"):
        hand.pass_(1)
    hand.pass_(2)
    assert seconds(watch) == {"forward": 1, OTHER: 2}
    hand.pass_(4)
    assert seconds(watch) == {OTHER: 4}


def test_no_time_counts_before_the_first_phase_nor_in_a_pause(watch, hand):
    hand.pass_(5)
    with watch("forward"):
        hand.pass_(1)
    watch.pause()
    hand.pass_(7)
    with watch("forward"):
        hand.pass_(2)
    assert seconds(watch) == {"forward": 3}


def test_the_wait_for_items_is_a_phase_and_after_the_last_no_time_counts(watch, hand):
    def slow():
        for item in "ab":
            hand.pass_(3)
            yield item
        hand.pass_(1)

    seen = []
    for item in watch.over("data", slow()):
        seen.append(item)
        with watch("forward"):
            hand.pass_(10)
    hand.pass_(50)
    assert seen == ["a", "b"]
    assert seconds(watch) == {"data": 7, "forward": 20}


def test_a_phase_that_fails_ends_all_the_same(watch, hand):
    with pytest.raises(ValueError, match="mine"), watch("forward"):
        hand.pass_(1)
        raise ValueError("mine")
    hand.pass_(2)
    assert seconds(watch) == {"forward": 1, OTHER: 2}


def test_every_phase_runs_in_the_context_beside_it(watch, hand):
    told = []

    class Beside:
        def __init__(self, phase):
            self.phase = phase

        def __enter__(self):
            told.append(f"<{self.phase}")

        def __exit__(self, *_):
            told.append(f"{self.phase}>")

    watch.beside = Beside
    with watch("backward"), watch("weighting"):
        pass
    assert told == ["<backward", "<weighting", "weighting>", "backward>"]


def test_a_device_is_waited_for_only_when_the_time_is_read(hand):
    queue = Queue(hand)
    watch = Stopwatch(queue)
    for _ in range(3):
        with watch("forward"):
            hand.pass_(1)
    assert queue.waited == 0
    assert watch.read()["forward"] == 3
    assert queue.waited == 1


def test_what_a_device_has_done_is_added_up_before_it_is_read(hand):
    queue = Queue(hand)
    watch = Stopwatch(queue)
    for _ in range(1000):
        with watch("forward"):
            hand.pass_(1)
        queue.reached = len(queue.made)
    assert len(watch._laps) <= 2
    assert watch.read()["forward"] == 1000


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA: pytest -m cuda")
def test_on_a_gpu_a_phase_has_the_time_of_its_kernels_and_the_host_does_not_wait():
    device = torch.device("cuda")
    watch, x = Stopwatch.on(device), torch.rand(4096, 4096, device=device)
    x @ x
    watch.read()

    def phases():
        with watch("long"):
            for _ in range(40):
                x @ x
        with watch("short"):
            x @ x

    phases()
    assert not watch.clock.is_past(watch._since)  # 40 products are under way, and this is said
    found = watch.read()
    assert found["long"] > 10 * found["short"] > 0
    free = len(watch.clock.free)
    phases()
    watch.read()
    assert len(watch.clock.free) == free >= 2  # events are used again
