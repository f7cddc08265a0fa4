"""Weightings of the library TorchJD that work on the Gram matrix."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from mtlkit.contracts import (
    Balancer,
    Card,
    GradientBalancer,
    Gradients,
    GradientWeighting,
    Place,
    Task,
    Weighting,
)
from mtlkit.draws import Draws
from mtlkit.errors import UsageError, suggest
from mtlkit.hookspecs import hookimpl

if TYPE_CHECKING:
    from mtlkit.recipe import Recipe

Option = bool | int | float | str
Method = Callable[[Tensor], Tensor]

OWN = {"gradvac": "gradvac", "graddrop": "graddrop", "nashmtl": "nash_mtl", "random": "rlw"}
"""What mtlkit has of those that cannot be used from here, by name without its ending."""
SUFFIX = "weighting"


class TorchJD(GradientWeighting):
    """A weighting of TorchJD that computes weights from the Gram matrix.

    Parameters of one task get its plain gradient. Weightings that keep state are refused: a
    checkpoint would not hold it, and it would be wrong once a task is absent. Random ones draw from
    mtlkit's own numbers, so that a resumed run goes on alike.

    Source: Quinton and Rey 2024, arXiv 2406.16232; torchjd 0.18, `torchjd.aggregation`.
    """

    type: Literal["torchjd"] = "torchjd"
    weighting: str = Field(
        "AlignedMTL",
        min_length=1,
        description="class of `torchjd.aggregation`, with or without the ending `Weighting`, in "
        "any case: AlignedMTL, CAGrad, DualProj, FairGrad, IMTLG, MGDA, PCGrad, UPGrad",
    )
    options: dict[str, Option] = Field({}, description="arguments of that class by name")
    card: ClassVar[Card] = Card(
        title="TorchJD",
        paper="Quinton and Rey 2024, arXiv 2406.16232; torchjd 0.18",
        invariant="Weights are those that TorchJD gives for the same Gram matrix.",
        use="A method that mtlkit lacks, or a comparison with TorchJD. A bad choice where mtlkit "
        "has the method: several of TorchJD's have tolerances that small gradients fall below. "
        "Needs `pip install 'mtlkit[torchjd]'`, and some of them a solver on top. One backward "
        "pass of the shared part per task.",
    )

    def build_balancer(self, tasks: Mapping[str, Task]) -> Balancer:
        """Return the module that asks TorchJD; its state is that of the random numbers.

        Args:
            tasks: by name, in the recipe's order.

        Raises:
            UsageError: TorchJD is not installed, or the weighting cannot be used.
        """
        fault = next(self._faults(len(tasks)), None)
        if fault is not None:
            raise UsageError(f"weighting: {fault}")
        method = _gramian_based()[_key(self.weighting)](**self.options)
        return TorchJDBalancer(tuple(tasks), self.at, self.every, method)

    def problems(self, recipe: Recipe) -> Iterable[str]:
        """Yield a sentence where the weighting is missing, unknown, stateful, or cannot be made.

        Args:
            recipe: the whole recipe.
        """
        yield from self._faults(len(recipe.tasks))

    @property
    def as_maths(self) -> str:
        """The total loss as `explain` writes it."""
        return f"Σ_t w_t·L_t at shared parameters, w = {self.weighting}(G), G_st = ∇L_s·∇L_t"

    def _faults(self, tasks: int) -> Iterator[str]:
        """Yield the first reason why the weighting cannot be used, if there is one."""
        if find_spec("torchjd") is None:
            yield "torchjd is not installed. Run: pip install 'mtlkit[torchjd]'"
            return
        known = _gramian_based()
        usable = {key: cls for key, cls in known.items() if not _has_state(cls)}
        found = known.get(_key(self.weighting))
        if found is None:
            yield _refusal(self.weighting, [_short(cls.__name__) for cls in usable.values()])
        elif _has_state(found):
            advice = _advice(found.__name__)
            yield f"{found.__name__} keeps state that no checkpoint would hold. {advice}"
        else:
            yield from _option_faults(found, self.options, tasks)


class TorchJDBalancer(GradientBalancer):
    """Asks TorchJD, whose random numbers it seeds.

    Args:
        names: of all tasks.
        at: where it looks.
        every: steps between solutions.
        method: Gram matrix, (T,T) float64, to weights, (T,).
    """

    def __init__(self, names: Sequence[str], at: Place, every: int, method: Method) -> None:
        super().__init__(names, at, every)
        self.method = method
        self.draws = Draws(names)

    def weights(self, gradients: Gradients) -> Tensor:
        """Return TorchJD's weights, (T,), float64.

        Args:
            gradients: of the present tasks.
        """
        seed = int(self.draws.uniform(torch.empty((), dtype=torch.float64)) * 2**53)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)  # torch.manual_seed would reach accelerators
            return self.method(gradients.gramian)


def _gramian_based() -> dict[str, type[Any]]:
    """Return TorchJD's weightings of the Gram matrix, by key."""
    library = importlib.import_module("torchjd.aggregation")
    base = library.MGDAWeighting.__base__  # has no public name
    classes = (getattr(library, name) for name in library.__all__)
    return {_key(cls.__name__): cls for cls in classes if issubclass(cls, base)}


def _has_state(cls: type[Any]) -> bool:
    return issubclass(cls, importlib.import_module("torchjd").Stateful)


def _refusal(name: str, known: Iterable[str]) -> str:
    """Return why there is no weighting of this name that could be used, and which there are."""
    library = importlib.import_module("torchjd.aggregation")
    if _key(name) in {_key(exported) for exported in library.__all__}:
        return f"{name} of TorchJD needs more than the Gram matrix. {_advice(name)}"
    return f"TorchJD has no weighting {name!r}; {suggest(name, known)}"


def _advice(name: str) -> str:
    own = OWN.get(_key(name))
    return f"Write type: {own}" if own else "Choose another; `mtlkit plugins` lists mtlkit's"


def _option_faults(cls: type[Any], options: Mapping[str, Option], tasks: int) -> Iterator[str]:
    """Yield why the class does not take the options, or not as few or as many tasks as there are.

    A step may lack any of the tasks, so each number of them is tried.
    """
    takes = list(inspect.signature(cls).parameters)
    unknown = [name for name in options if name not in takes]
    if unknown:
        yield f"{cls.__name__} has no option {unknown[0]!r}; {suggest(unknown[0], takes)}"
        return
    try:
        method = cls(**options)
    except (ImportError, TypeError, ValueError) as error:
        yield f"{cls.__name__} cannot be made: {error}. Its options: {', '.join(takes) or 'none'}"
        return
    for count in range(1, tasks + 1):
        try:
            with torch.random.fork_rng(devices=[]):
                method(torch.eye(count, dtype=torch.float64))
        except Exception as error:  # of a library that may fail in any way
            yield f"{cls.__name__} cannot weigh {count} of {tasks} tasks: {error}"
            return


def _key(name: str) -> str:
    """Return a name without case, signs and the ending."""
    return "".join(filter(str.isalnum, name.lower())).removesuffix(SUFFIX)


def _short(name: str) -> str:
    return name.removesuffix(SUFFIX.title())


@hookimpl
def mtlkit_weightings() -> list[type[Weighting]]:
    """Return the weightings of TorchJD."""
    return [TorchJD]
