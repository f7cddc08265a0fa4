"""What is wrong with a task by itself: its labels, its loss, its decoder, its parameters."""

from __future__ import annotations

from collections.abc import Iterator

from mtlkit.report.table import format_number

from .chart import Chart, Finding, mean
from .sources import short
from .words import grouped, in_words, listed, rounded

GROWTH = 10  # of a loss within the steps
STILL = 1e-6  # range of a loss relative to its size: rounding
FEW_STEPS = 0.25  # of the steps with a label
FEW_PIXELS = 0.01  # of a task's elements with a label


def growth(chart: Chart) -> Iterator[Finding]:
    """Yield a finding where losses blow up.

    Args:
        chart: what was seen.
    """
    grown = {}
    for task, losses in chart.losses.items():
        late = mean(losses[-max(1, len(losses) // 4) :])
        if len(losses) > 1 and 0 < GROWTH * losses[0] <= late:
            grown[task] = late / losses[0]
    if grown:
        ends = {task: (chart.losses[task][0], chart.losses[task][-1]) for task in grown}
        parts = [f"{t} {' → '.join(map(format_number, pair))}" for t, pair in ends.items()]
        rate = chart.recipe.optimizer.lr
        yield Finding(
            "growth",
            True,
            "the losses blow up" if len(grown) > 1 else f"the loss of {next(iter(grown))} blows up",
            f"within {chart.steps} steps: {'; '.join(parts)}",
            "steps are too long: each goes past where the loss is lower. Nothing else that was "
            "seen here means much before this is mended",
            f"optimizer.lr: {rounded(rate / 10)} (now {rate:g}), or train.clip: 1.0",
        )


def labels(chart: Chart) -> Iterator[Finding]:
    """Yield a finding for tasks without labels, or with few.

    Args:
        chart: what was seen.
    """
    for task in unlabelled(chart):
        reads = ", ".join(chart.recipe.tasks[task].reads)
        others = task in chart.losses
        yield Finding(
            "labels",
            not others,
            f"task {task} has no label",
            f"not one valid element of {reads} in {chart.steps} steps",
            "it learns from other terms, such as edges, alone" if others else "it learns nothing",
            f"look at labels_per_image and the label {reads} of the data; `mtlkit data check` "
            "tells how many images have it",
        )
    for task, count in chart.labelled_steps.items():
        valid = mean([share for share in chart.valid[task] if share])
        if count and (count < FEW_STEPS * chart.steps or valid < FEW_PIXELS):
            yield Finding(
                "few_labels",
                False,
                f"task {task} has few labels",
                f"a label in {count} of {chart.steps} steps; {valid:.2%} of the elements there",
                "its loss is noisy and it learns slowly",
                "a larger loader.batch_size or train.accumulate gives each step a label; "
                "`mtlkit data check` tells whether labels are missing that should be there",
            )


def unlabelled(chart: Chart) -> list[str]:
    """Return the tasks that had no label in any step.

    Args:
        chart: what was seen.
    """
    return [task for task in chart.tasks if not chart.labelled_steps.get(task)]


def weightless(chart: Chart) -> Iterator[Finding]:
    """Yield a remark for tasks whose weight is 0.

    Args:
        chart: what was seen.
    """
    for name, task in chart.recipe.tasks.items():
        if task.weight == 0:
            yield Finding(
                "weight",
                False,
                f"task {name} has the weight 0",
                f"tasks.{name}.weight: 0",
                "it learns nothing",
                f"remove tasks.{name}.weight, or the task",
            )


def dead(chart: Chart) -> Iterator[Finding]:
    """Yield a finding where maps are 0 everywhere or predictions are the same everywhere.

    Args:
        chart: what was seen.
    """
    flat, maps = (
        chart.flat,
        [name for name, last in chart.alive.items() if chart.is_over(last, chart.steps)],
    )
    if not (flat or maps):
        return
    zeros = [f"{short(name)} {_since(chart, name)}" for name in maps]
    parts = [f"0 everywhere: {listed(zeros)}"] if maps else []
    if flat:
        parts.append(f"the same prediction for all pixels and images: {', '.join(flat)}")
    stuck = grouped(without_gradient(chart), chart.layout)
    if stuck:
        parts.append(f"no gradient: {in_words(stuck)}")
    title = f"the decoder of {', '.join(flat)} is dead" if flat else f"{short(maps[0])} is dead"
    yield Finding(
        "dead",
        True,
        title,
        "; ".join(parts),
        "a rectifier below 0 everywhere passes no gradient, so that what is before it never learns"
        if maps
        else "what does not depend on the image has learnt nothing from it",
        f"look at the initial weights and biases before {short(maps[0])}, or lower optimizer.lr"
        if maps
        else f"look at what the decoder of {flat[0]} reads, and at its initial weights",
    )


def _since(chart: Chart, name: str) -> str:
    last = chart.alive[name]
    return f"since step {last + 1}" if last else f"in all {chart.steps} steps"


def one_class(chart: Chart) -> Iterator[Finding]:
    """Yield a remark where one class is predicted everywhere, and labels have several.

    Args:
        chart: what was seen.
    """
    for task, seen in chart.spreads.items():
        if len(seen.predicted) == 1 and len(seen.labelled) > 1 and task not in chart.flat:
            (number,) = seen.predicted
            names = chart.recipe.offers[chart.recipe.tasks[task].reads[0]].classes
            name = f"{number} ({names[number]})" if number < len(names) else str(number)
            yield Finding(
                "one_class",
                False,
                f"task {task} predicts class {name} everywhere",
                f"in all {chart.steps} steps; the labels there have {len(seen.labelled)} classes",
                "usual for a short while where one class is most of the pixels; if it stays, the "
                "task is dead",
                "look again with --steps 200; if it stays so, lower optimizer.lr",
            )


def still(chart: Chart) -> Iterator[Finding]:
    """Yield a finding for losses that do not move.

    Args:
        chart: what was seen.
    """
    for task in motionless(chart):
        losses = chart.losses[task]
        yield Finding(
            "still",
            True,
            f"the loss of {task} does not move",
            f"{format_number(losses[0])} in all {len(losses)} steps, though batches differ",
            "a loss that is the same for all images does not look at them: the task learns nothing",
            f"look at what the loss of {task} compares, and at its label: `mtlkit data check`",
        )


def motionless(chart: Chart) -> list[str]:
    """Return the tasks whose loss is the same in all steps.

    Args:
        chart: what was seen.
    """
    return [
        task
        for task, x in chart.losses.items()
        if len(x) >= min(5, chart.wanted) > 1
        and max(x) - min(x) <= STILL * abs(mean(x))
        and chart.recipe.tasks[task].weight > 0
    ]


def unreached(chart: Chart) -> Iterator[Finding]:
    """Yield findings for parameters that no loss reaches: modules that ran, and idle ones.

    Args:
        chart: what was seen.
    """
    names = chart.reach.unreached
    ran = [n for n in names if n.rpartition(".")[0] in chart.called]
    for some, is_idle in ((ran, False), ([n for n in names if n not in ran], True)):
        if some:
            groups = grouped(some, chart.layout)
            how = "never run" if is_idle else "run, and what they return reaches no loss"
            yield Finding(
                "unreached",
                not is_idle,
                f"no loss reaches {in_words(groups)}",
                f"{len(some)} of {len(chart.reach.tasks)} parameter tensors; their modules {how}",
                "they keep their initial values, and cost memory",
                "remove the module, or use it in forward"
                if is_idle
                else "look for detach, no_grad, argmax or round after them, or an output that is "
                "not used; freeze them if that is meant",
            )


def stuck(chart: Chart) -> Iterator[Finding]:
    """Yield a finding for parameters that losses reach and whose gradient is always 0.

    Args:
        chart: what was seen.
    """
    names = without_gradient(chart)
    if not names:
        return
    groups = grouped(names, chart.layout)
    yield Finding(
        "stuck",
        any(chart.reach.dimensions[name] > 1 for name in names),
        f"the gradient of {in_words(groups)} is 0",
        f"{len(names)} of {len(chart.reach.tasks)} parameter tensors, for every task, in the whole "
        "second half of the steps at least",
        "a loss depends on them, but not here: they keep their initial values",
        "look for clamp, max, a rectifier or a factor of 0 after them, and for weights that are 0",
    )


def without_gradient(chart: Chart) -> list[str]:
    """Return parameters that a loss reaches and whose gradient is 0, from the start or for long.

    Those of tasks that had no say are left out: without label, of weight 0, of a loss that stands.

    Args:
        chart: what was seen.
    """
    silent = {t for t in chart.tasks if chart.recipe.tasks[t].weight == 0}
    asked = chart.measured.keys() - silent - set(motionless(chart))
    return [
        name
        for name, tasks in chart.reach.tasks.items()
        if tasks & asked
        and name not in chart.reach.own
        and chart.is_over(chart.moved.get(name, 0), max(chart.measured[t] for t in tasks & asked))
    ]
