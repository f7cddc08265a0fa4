"""docs/weighting.md, made from the weighting plugins; `generate_reference.py` writes it."""

from __future__ import annotations

from collections.abc import Iterator

from mtlkit.contracts import (
    PROPERTIES,
    Balancer,
    DirectionBalancer,
    GradientBalancer,
    Weighting,
)
from mtlkit.plugins import SHIPPED, Plugins

OPENING = """\
# Weighting: how N losses become one update

Made by `docs/generate_reference.py` from the plugins themselves; a test compares the two, so edit the
plugins. Every key of every method is in [reference/recipe.md](reference/recipe.md#weighting).

`weighting: {type: NAME}` chooses. It acts on the N task losses of
[explanation.md](explanation.md#the-loss-of-a-task) and nothing below them; a static weight is
`tasks.NAME.weight`. A task that a batch has no label for takes no part in that step and moves no
state.

"""

LEVELS = """\
**Loss level.** The balancer sees values, and the derivatives of its total are the weights: one pass
through everything, which costs what the plain sum costs. Weights multiply the gradients of all
parameters.

**Gradient level.** Every task's pass goes through its own head once. G, the inner products of the
tasks' gradients, is made at the place that `at` names, and the weights are solved from it in float64;
that is the one time in a step that the device is waited for. Weights multiply the gradients of
parameters that several tasks reach; those of one task alone get its plain gradient, unless the table
says otherwise.

| `at` | gradients that are compared | passes through the trunk | memory on top |
|---|---|---|---|
| `shared` | of all parameters that two or more tasks reach | T | T times these parameters |
| `trunk` | of those before `Output.features` | T | T times the shared parameters |
| `last_shared` | of the last weight that all tasks reach | 1, or T over several batches | T + 1 times `Output.features` |
| `features` | of the maps `Output.features`, whole (the upper bound of MGDA) | 1 | the same |
| `decoder_entry` | of the deepest of these maps | 1 | the same |

With `every: k` weights are solved every k-th step and kept in between, where one pass through the
trunk is enough. Models whose losses reach the trunk past `Output.features` take T passes at
`last_shared` too, and refuse the last two; these also need whole steps (`train.accumulate: 1`).
The probe finds out, and `mtlkit check` says so.

**What is learned** by the optimizer (the methods marked so) has its learning rate, or that of
`optimizer.groups: [{match: balancer, lr: 1.0e-3}]`, and no weight decay.

**What can be seen.** `metrics.jsonl` has, for every logged step and as means over every epoch (split
`epoch`): `weighting/weight/TASK`, `weighting/scaled_loss/TASK` (weight times loss), and at gradient
level `weighting/gradient_norm/TASK` and `weighting/cosine/A_B` where G is known anyway. The progress
line shows weights and the lowest cosine; `curves.png` draws them. `mtlkit doctor RECIPE` looks at the
gradients of any weighting.

**Where a loss or gradient is no number.** At gradient level its row is dropped before the weights are
solved, and the step is that of the other tasks; then the run stops and names the task, or, with
`train.on_nonfinite: skip_task`, goes on, and counts and shows it. At loss level `skip_task` looks at
the losses' values, which costs a wait for the device in every step; a step whose gradient is no number
although the losses are is left out whole, and moves no balancer. Between solutions (`every`), a task
that is no number in a later batch of a step keeps what earlier batches gave.

**In half precision, over batches, over processes.** Rows are of float32 and averaged over the batches
of a step (`train.accumulate`) and over processes before anything is solved; fp16's scale is taken out
first. A loss-level method sees the values of each batch, averaged over processes. State is in the
checkpoint, random methods draw from (seed, number of the draw): a resumed run goes on bitwise.

"""


def weighting_page() -> str:
    """Return docs/weighting.md."""
    loaded = Plugins.load()
    methods = {
        name: cls
        for name, cls in loaded.types("weighting").items()
        if cls.__module__.startswith(SHIPPED)
    }
    levels = [
        ("At loss level", [c for c in methods.values() if level_of(c) == "loss"]),
        ("At gradient level", [c for c in methods.values() if level_of(c) == "gradient"]),
    ]
    parts = [OPENING, LEVELS]
    for title, classes in levels:
        parts += [f"## {title}\n\n", *rows(classes), "\n"]
    return "".join([*parts, *properties(methods)])


def rows(classes: list[type[Weighting]]) -> Iterator[str]:
    """Yield the table of some methods, a line each."""
    yield "| `type` | method and paper | sees | trunk / decoder passes | what always holds | when |\n"
    yield "|---|---|---|---|---|---|\n"
    for cls in classes:
        card = cls.card
        cells = (
            f"`{cls.type_name()}`",
            f"{card.title}: {card.paper}",
            needs(cls),
            passes(cls),
            card.invariant,
            card.use,
        )
        yield f"| {' | '.join(cells)} |\n"


def needs(cls: type[Weighting]) -> str:
    """Return what a method needs, read from what its balancer overrides."""
    balancer = balancer_of(cls)
    words = ["values of the losses"]
    if isinstance(balancer, GradientBalancer):
        words = [f"gradients at `{balancer.at}`"]
    if isinstance(balancer, DirectionBalancer):
        words = ["the rows of all tasks"]
    if type(balancer).after_epoch is not Balancer.after_epoch:
        words.append("means over epochs")
    if type(balancer).after_step is not Balancer.after_step:
        words.append("a second forward pass")
    if list(balancer.parameters()):
        words.append("a learned number per task")
    return ", ".join(words)


def passes(cls: type[Weighting]) -> str:
    """Return how often trunk and decoders are passed back in a step, by default."""
    balancer = balancer_of(cls)
    if not isinstance(balancer, GradientBalancer) or balancer.at == "last_shared":
        return "1 / T"
    return "T / T"


def properties(methods: dict[str, type[Weighting]]) -> Iterator[str]:
    """Yield what is tested for all, and who is excused."""
    yield "## What is tested for every method\n\n"
    yield (
        "On Jacobians of 1 to 10 tasks, of full and lower rank, with rows of 0, parallel, opposed "
        "and of\nvery different lengths; for balancers that are new and for those that have taken "
        "steps\n(`tests/contracts/test_weighting_properties.py`). A method that cannot have a "
        "property is excused,\nand the tests show that it does not have it.\n\n"
    )
    yield "| property | excused, and why |\n|---|---|\n"
    for name, meaning in PROPERTIES.items():
        excuses = [
            f"`{type_name}`: {cls.card.exceptions[name]}"
            for type_name, cls in methods.items()
            if name in cls.card.exceptions
        ]
        yield f"| **{name}**: {meaning} | {'; '.join(excuses) or 'none'} |\n"


def level_of(cls: type[Weighting]) -> str:
    """Return "loss" or "gradient"."""
    return "gradient" if isinstance(balancer_of(cls), GradientBalancer) else "loss"


def balancer_of(cls: type[Weighting]) -> Balancer:
    """Return the balancer of a method for two tasks."""
    tasks = Plugins.load().types("task")
    two = {name: tasks["depth"](name=name) for name in ("a", "b")}
    return cls(type=cls.type_name()).build_balancer(two)
