"""What a chart says, in sentences: what is largest, and what to try."""

from __future__ import annotations

from collections.abc import Iterator

from mtlkit.contracts import GradientWeighting
from mtlkit.device import has_native_bf16
from mtlkit.engine import Run
from mtlkit.stopwatch import OTHER

from .chart import WAITING, Chart, Row

MOST = 3
"""Things to try; more would be a list to read."""
WAIT, EDGES, HEADS, TRUNK, SMALL = 0.15, 0.3, 0.4, 0.4, 0.1  # shares of a step worth a sentence
WITH_ARTICLE = ("encoder", "decoder", "forward", "backward", "weighting", "optimizer")
LOW_USE = 0.3  # of the matrix peak
SELDOM = 10  # steps between two solutions of a balancer
LEAST = 0.005  # share that is written as a number


def sentences(chart: Chart, run: Run) -> list[str]:
    """Return what is largest, then at most three things to try, those that promise most first.

    Args:
        chart: what was measured.
        run: what ran.
    """
    row, passes = chart.largest, ""
    if row.backward_seconds:
        forward, backward = (1000 * x for x in (row.forward_seconds, row.backward_seconds))
        passes = f": {forward:.1f} ms forward and {backward:.1f} ms backward"
    if row.flops:
        passes += f", at {percent(chart.use(row.flops, row.seconds))} of the matrix peak"
    first = f"{percent(row.seconds / chart.seconds)} of the step is {_named(row)}{passes}."
    found = sorted(_advice(chart, run), key=lambda pair: -pair[0])
    return [first, *(f"{text}." for _, text in found[:MOST])]


def percent(share: float) -> str:
    """Return a share as "38 %".

    Args:
        share: 1 is all.
    """
    return "<1 %" if 0 < share < LEAST else f"{100 * share:.0f} %"


def _named(row: Row) -> str:
    """Return a label as it stands in a sentence."""
    return f"the {row.label}" if row.kind in WITH_ARTICLE else row.label


def _advice(chart: Chart, run: Run) -> Iterator[tuple[float, str]]:
    """Yield shares of the step and what may lower them."""
    yield from _waiting(chart, run)
    yield from _networks(chart, run)
    yield from _around(chart, run)
    yield from _arithmetic(chart, run)


def _waiting(chart: Chart, run: Run) -> Iterator[tuple[float, str]]:
    data, device = chart.share("data"), chart.share(WAITING)
    if data >= WAIT:
        loader = run.recipe.loader
        yield (
            data,
            f"{percent(data)} is spent on data: raise loader.workers (now {loader.workers}), or "
            f"keep decoded samples with loader.cache: ram or disk (now {loader.cache})",
        )
    if device >= WAIT:
        yield (
            device,
            f"{percent(device)} of the time the device waits for the host: raise "
            "loader.batch_size, or try train.compile: true",
        )


def _networks(chart: Chart, run: Run) -> Iterator[tuple[float, str]]:
    edges, decoders, encoder = (chart.share(kind) for kind in ("edge", "decoder", "encoder"))
    count, drawn = len(run.recipe.all_edges), run.recipe.train.edges_per_step
    if edges >= EDGES:
        fewer = max(1, (drawn or count) // 2)
        draw = f"train.edges_per_step: {fewer} draws {fewer} of {count} for each step, and "
        yield (
            edges,
            f"{percent(edges)} is transfer networks, which only training runs: "
            f"{draw if fewer < (drawn or count) else ''}smaller widths make them cheaper",
        )
    if decoders >= HEADS:
        yield (
            decoders,
            f"{percent(decoders)} is decoders: try a smaller architecture.width, or data.size",
        )
    if encoder >= TRUNK:
        yield encoder, f"{percent(encoder)} is the encoder: try a smaller one, or data.size"


def _around(chart: Chart, run: Run) -> Iterator[tuple[float, str]]:
    weighting, optimizer = chart.share("weighting"), chart.share("optimizer")
    method = run.recipe.weighting
    if weighting >= SMALL and isinstance(method, GradientWeighting) and method.every < SELDOM:
        yield (
            weighting,
            f"{percent(weighting)} is weighting: weighting.every: {SELDOM} solves in every "
            f"{SELDOM}th step",
        )
    if optimizer >= SMALL:
        yield (
            optimizer,
            f"{percent(optimizer)} is the optimizer: with a larger loader.batch_size or "
            "train.accumulate there are fewer of its steps",
        )


def _arithmetic(chart: Chart, run: Run) -> Iterator[tuple[float, str]]:
    busy = 1 - chart.share("data", WAITING, OTHER)
    if run.placement.precision == "fp32" and has_native_bf16(run.placement.device):
        yield busy, "The run computes in fp32: train.precision: bf16 is faster on this device"
    elif chart.mfu < LOW_USE:
        yield (
            busy * (1 - chart.mfu),
            f"The step comes to {percent(chart.mfu)} of the matrix peak: larger batches help small "
            "models, and train.compile: true joins the operators that only move memory",
        )
