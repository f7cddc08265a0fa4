"""Where the first number comes from that is not finite."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import Tensor

from mtlkit.engine import Run
from mtlkit.evaluation import loss_values
from mtlkit.structures import Batch, Losses

from .chart import Finding
from .passes import Passes
from .watch import Watch, is_finite

KIND = "nonfinite"
SPREADS = "it spreads to every weight that its gradient reaches, and training is lost from there"
EDGES_OF_FUNCTIONS = "sqrt, norm, acos and log at the ends of their range, and division"


class Sources:
    """Asks each place in the order in which numbers flow through it.

    Args:
        run: whose steps are taken.
        watch: of its objective.
    """

    def __init__(self, run: Run, watch: Watch) -> None:
        self.run, self.learner, self.watch = run, run.learner, watch
        self.number = 1  # of the step
        self.bad_terms: list[str] = []
        self.values: dict[str, float] = {}
        self.is_output_bad = False

    def begin(self, number: int) -> None:
        """Forget what earlier steps showed.

        Args:
            number: of the step.
        """
        self.number, self.bad_terms, self.values = number, [], {}
        self.is_output_bad = False
        self.watch.begin(number)

    def note(self, losses: Losses) -> None:
        """Be told the losses of a batch.

        Args:
            losses: of the objective.
        """
        named = loss_values(losses)
        if losses.own is not None:
            named["the own loss of an edge"] = losses.own.detach()
        values = {name.removeprefix("loss/"): float(x) for name, x in named.items()}
        bad = [name for name, x in named.items() if not bool(x.isfinite())]
        # parts come after the sums of tasks, and are what tells more
        self.bad_terms += [name.removeprefix("loss/") for name in reversed(bad)]
        self.values |= values
        self.is_output_bad |= not is_finite(losses.output)

    def at_start(self) -> Finding | None:
        """Return weights that are not finite before the first step, or None."""
        bad = _bad(self._state())
        if not bad:
            return None
        return Finding(
            KIND,
            True,
            f"{_few(bad)} is not finite before the first step",
            f"{len(bad)} tensors of the model hold NaN or infinity as built or loaded",
            SPREADS,
            "mend how this part is initialised, or the file that its weights come from",
        )

    def in_data(self, batches: Sequence[Batch]) -> Finding | None:
        """Return what is not finite in images or labels, or None.

        Args:
            batches: of a step.
        """
        for batch in batches:
            tensors = {"the image": batch.image}
            tensors |= {f"the label {name!r}": label.value for name, label in batch.labels.items()}
            for what, x in tensors.items():
                if x.is_floating_point() and not bool(x.isfinite().all()):
                    return self._data_finding(what, x, batch)
        return None

    def in_forward(self) -> Finding | None:
        """Return which module or loss made it on the way forward, or None."""
        if not self.bad_terms:
            return None
        losses = ", ".join(dict.fromkeys(self.bad_terms))
        seen = f"step {self.number}: not finite are the losses {losses}"
        module = self._module()
        if module is None:
            term = self.bad_terms[0]
            return Finding(
                KIND,
                True,
                f"the loss {term} is not finite at step {self.number}",
                f"{seen}; every prediction that it reads is finite",
                SPREADS,
                f"mend this loss: look at {EDGES_OF_FUNCTIONS}, and at what it does where no pixel "
                "is valid. train.on_nonfinite: skip_task leaves the task out of such steps",
            )
        name = short(module)
        return Finding(
            KIND,
            True,
            f"module {name} returns what is not finite at step {self.number}",
            f"{seen}; {name} is the first module whose output is not finite while its input is",
            SPREADS,
            f"mend {name}: look at {EDGES_OF_FUNCTIONS}, and at exp of large numbers. Where losses "
            "grew before, lower optimizer.lr; in half precision, try train.precision: fp32",
        )

    def in_gradients(self, found: Passes) -> Finding | None:
        """Return which task's gradient it is, or None.

        Args:
            found: gradients of a step.
        """
        if not found.bad:
            return None
        if self.bad_terms:  # then the gradient only follows
            return self.in_forward()
        task, names = next(iter(found.bad.items()))
        name = short(names[-1])
        value = self.values.get(task)
        loss = "" if value is None else f"; the loss of {task}, {value:.4g}, is finite"
        return Finding(
            KIND,
            True,
            f"the gradient of task {task} at {name} is not finite at step {self.number}",
            f"step {self.number}: {task}'s gradient is not finite in {len(names)} of the "
            f"{found.reached[task]} parameter tensors that it reaches, last in {name}{loss}",
            SPREADS,
            f"the derivative of an operation between {name} and {task}'s loss is not finite where "
            f"its value is: look at {EDGES_OF_FUNCTIONS}, and add a small number inside. "
            "train.on_nonfinite: skip_task leaves the task out of such steps",
        )

    def are_gradients_bad(self) -> bool:
        """Return whether the step just taken met a gradient that is not finite."""
        if self.learner.mover.scaler.is_enabled():
            return False  # the scaler begins high on purpose, and skips such steps
        grads = [p.grad for p in self.run.objective.parameters() if p.grad is not None]
        return bool(self.learner.left_out) or not is_finite(grads)

    def in_weights(self) -> Finding | None:
        """Return what the optimizer made of finite gradients, or None."""
        bad = _bad(self._state())
        if not bad:
            return None
        return Finding(
            KIND,
            True,
            f"step {self.number} makes {_few(bad)} not finite",
            f"losses and gradients of step {self.number} are finite, and {len(bad)} tensors are "
            "not after it",
            SPREADS,
            "lower optimizer.lr, or set train.clip; look at optimizer.eps too",
        )

    def unknown(self, words: str) -> Finding:
        """Return what is left to say where looking at the step again shows nothing.

        Args:
            words: what was told.
        """
        return Finding(
            KIND,
            True,
            words,
            "the same step again, with the same weights and random numbers, is finite",
            SPREADS,
            "look for a part that keeps a state of its own from call to call",
        )

    def _module(self) -> str | None:
        """Return the module that is to blame: one whose infinity went no further is not."""
        found = self.watch.suspect
        is_loss = found is not None and found.startswith("auxiliary_losses")
        return found if self.is_output_bad or is_loss else None

    def _data_finding(self, what: str, x: Tensor, batch: Batch) -> Finding:
        finite = x.isfinite().flatten(1)
        place = int((~finite.all(1)).nonzero()[0])
        sample = batch.indices[place] if place < len(batch.indices) else place
        count = int((~finite[place]).sum())
        return Finding(
            KIND,
            True,
            f"{what} of training sample {sample} is not finite",
            f"step {self.number}: {count} of its {finite.shape[1]} numbers are NaN or infinite",
            SPREADS,
            "mend the file or the augmentation; `mtlkit data check` reads every sample",
        )

    def _state(self) -> Iterator[tuple[str, Tensor]]:
        for name, x in self.run.objective.named_parameters():
            yield short(name), x
        for name, x in self.learner.balancer.named_parameters():
            yield f"weighting.{name}", x


def short(name: str) -> str:
    """Return a name without the model that all begin with.

    Args:
        name: of a module or parameter of an objective.
    """
    return name.removeprefix("model.")


def _bad(tensors: Iterator[tuple[str, Tensor]]) -> list[str]:
    return [n for n, x in tensors if x.is_floating_point() and not bool(x.isfinite().all())]


def _few(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} (and {len(names) - 1} more tensors)"
