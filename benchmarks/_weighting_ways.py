"""The ways of taking a step that weighting_step.py compares; each leaves `.grad`s, no more."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache

import torch
from _weighting_networks import Stage
from torch import Tensor, nn
from torchjd import aggregation
from torchjd.autojac import jac_to_grad, mtl_backward

import mtlkit
from mtlkit.contracts import Balancer, GradientBalancer, Gradients
from mtlkit.gradients import Conditions, build_backward

Step = Callable[[], None]
SETTINGS = {
    "torchjd all": (None, False),
    "torchjd all, G": (None, True),
    "torchjd one": (1, False),
    "torchjd one, G": (1, True),
}
"""By name: `parallel_chunk_size` and `optimize_gramian_computation`, TorchJD's defaults first."""
AGGREGATORS: Mapping[str, Callable[[int], aggregation.Aggregator]] = {
    "pcgrad": lambda tasks: aggregation.PCGrad(),
    "mgda": lambda tasks: aggregation.MGDA(),
    "nash_mtl": lambda tasks: aggregation.NashMTL(tasks),
    "upgrad": lambda tasks: aggregation.UPGrad(),
}
"""TorchJD's form of a method, for a number of tasks."""


def build_step(way: str, method: str, stage: Stage) -> Step:
    """Return what takes a step.

    Args:
        way: mtlkit, plain, or one of `SETTINGS`.
        method: how it weighs.
        stage: network and data.

    Raises:
        ImportError: TorchJD's form of the method needs a solver that is not installed.
    """
    balancer = balancer_of(method, stage)
    if way == "mtlkit":
        return mtlkit_step(balancer, stage)
    if way == "plain":
        return plain_step(lambda gradients: balancer.solve(gradients).shared, stage)
    return torchjd_step(way, AGGREGATORS[method](len(balancer.names)), stage)


def build_step_with(weights: Tensor, way: str, stage: Stage) -> Step:
    """Return a step in which the tasks' weights are known, so that results can be compared.

    Args:
        weights: (T,), float64.
        way: plain, or one of `SETTINGS`.
        stage: network and data.
    """
    if way == "plain":
        return plain_step(lambda _: weights, stage)
    return torchjd_step(way, aggregation.GramianWeightedAggregator(Known(weights)), stage)


class Known(aggregation.Weighting):
    """Weights that do not depend on the Gram matrix.

    Args:
        weights: (T,).
    """

    def __init__(self, weights: Tensor) -> None:
        super().__init__()
        self.weights = weights

    def forward(self, stat: Tensor, /) -> Tensor:
        """Return the weights, (T,).

        Args:
            stat: Gram matrix, (T,T).
        """
        return self.weights.to(stat)


def mtlkit_step(balancer: Balancer, stage: Stage) -> Step:
    """Return mtlkit's step.

    Args:
        balancer: of one of its weightings.
        stage: network and data.
    """
    backward = build_backward(balancer, stage.network, stage.reach, Conditions())

    def step() -> None:
        backward(stage.losses())

    return step


def plain_step(solve: Callable[[Gradients], Tensor], stage: Stage) -> Step:
    """Return the step of a plain loop: T passes through everything, gradients copied into rows.

    The losses are in one tensor, as in LibMTL, so every pass walks through all heads, and theirs
    add up to the gradient of the sum of the losses. Rows are made in every step.

    Args:
        solve: gives weights of the shared gradients, (T,).
        stage: network and data.
    """
    shared = stage.shared
    sizes = [parameter.numel() for parameter in shared]

    def step() -> None:
        named = stage.losses().tasks
        losses = torch.stack(list(named.values()))
        rows = torch.empty(len(losses), sum(sizes), device=losses.device)
        for number, row in enumerate(rows):
            for parameter in shared:
                parameter.grad = None
            losses[number].backward(retain_graph=number + 1 < len(losses))
            for parameter, part in zip(shared, row.split(sizes), strict=True):
                part.copy_(parameter.grad.flatten())
        values, gram = losses.detach().double().cpu(), (rows @ rows.T).double().cpu()
        weights = solve(Gradients(tuple(named), values, gram)).to(rows)
        for parameter, part in zip(shared, (weights @ rows).split(sizes), strict=True):
            parameter.grad.copy_(part.view(parameter.shape))

    return step


def torchjd_step(setting: str, aggregator: aggregation.Aggregator, stage: Stage) -> Step:
    """Return TorchJD's step.

    Args:
        setting: of `SETTINGS`.
        aggregator: makes one gradient of the Jacobian.
        stage: network and data.
    """
    chunk, by_gramian = SETTINGS[setting]
    shared = stage.shared
    options = {"optimize_gramian_computation": True} if by_gramian else {}

    def step() -> None:
        losses = stage.losses()
        features = losses.output.features
        mtl_backward(list(losses.tasks.values()), features, parallel_chunk_size=chunk)
        jac_to_grad(shared, aggregator, **options)

    return step


def balancer_of(method: str, stage: Stage) -> Balancer:
    """Return a new balancer of the recipe's defaults.

    Args:
        method: type name of a weighting.
        stage: for the names of its tasks.
    """
    names = dict.fromkeys(sorted({t for found in stage.reach.tasks.values() for t in found}))
    balancer = weightings()[method]().build_balancer(names)
    if not isinstance(balancer, GradientBalancer):
        balancer.to(stage.placement.device)
    return balancer


@cache
def weightings() -> Mapping[str, type]:
    """Return mtlkit's weightings by type name."""
    return mtlkit.Plugins.load().types("weighting")


def forget_gradients(network: nn.Module) -> None:
    """Leave no parameter with a gradient."""
    for parameter in network.parameters():
        parameter.grad = None
