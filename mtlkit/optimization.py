"""Optimizers and schedules: their recipe sections, and how they are built."""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from mtlkit.device import FUSED_DEVICES
from mtlkit.errors import UsageError

Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Decay = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Beta = Annotated[float, Field(ge=0, lt=1)]


class Section(BaseModel):
    """A part of a recipe: frozen, and every key is known."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Group(Section):
    """Parameters with settings of their own."""

    match: str = Field(
        description="module path such as architecture.encoder, edges or balancer; * matches any"
    )
    lr: Rate | None = None
    weight_decay: Decay | None = None


class _Optimizer(Section):
    lr: Rate = 1e-4
    weight_decay: Decay = 0.0
    groups: tuple[Group, ...] = ()


class AdamSection(_Optimizer):
    """Adam."""

    type: Literal["adam"] = "adam"
    betas: tuple[Beta, Beta] = (0.9, 0.999)
    eps: Rate = 1e-8


class AdamWSection(_Optimizer):
    """Adam with decoupled weight decay."""

    type: Literal["adamw"] = "adamw"
    betas: tuple[Beta, Beta] = (0.9, 0.999)
    eps: Rate = 1e-8


class SGDSection(_Optimizer):
    """Stochastic gradient descent."""

    type: Literal["sgd"] = "sgd"
    momentum: Beta = 0.0
    nesterov: bool = False


OptimizerSection = Annotated[AdamSection | AdamWSection | SGDSection, Field(discriminator="type")]


class _Schedule(Section):
    warmup: Annotated[float, Field(ge=0)] = Field(0.0, description="epochs of linear warm-up")

    def factor(self, epoch: float, epochs: int) -> float:
        """Return what the learning rate is multiplied by, warm-up included.

        Args:
            epoch: epochs done, with fraction.
            epochs: epochs in all.
        """
        rise = min(1.0, epoch / self.warmup) if self.warmup else 1.0
        return rise * self.shape(epoch, epochs)

    def shape(self, epoch: float, epochs: int) -> float:
        """Return the factor without warm-up.

        Args:
            epoch: epochs done, with fraction.
            epochs: epochs in all.
        """
        return 1.0


class ConstantSection(_Schedule):
    """The same learning rate all through."""

    type: Literal["constant"] = "constant"


class StepSection(_Schedule):
    """The learning rate times `gamma` after every `every` epochs."""

    type: Literal["step"] = "step"
    every: Annotated[int, Field(ge=1)]
    gamma: Annotated[float, Field(gt=0, le=1)] = 0.5

    def shape(self, epoch: float, epochs: int) -> float:
        """Return gamma to the power of the steps taken.

        Args:
            epoch: epochs done, with fraction.
            epochs: epochs in all.
        """
        return self.gamma ** (int(epoch) // self.every)


class CosineSection(_Schedule):
    """Half a cosine, from 1 to `final`."""

    type: Literal["cosine"] = "cosine"
    final: Annotated[float, Field(ge=0, le=1)] = 0.0

    def shape(self, epoch: float, epochs: int) -> float:
        """Return the cosine at this share of the run.

        Args:
            epoch: epochs done, with fraction.
            epochs: epochs in all.
        """
        return self.final + (1 - self.final) * 0.5 * (
            1 + math.cos(math.pi * min(1, epoch / epochs))
        )


class PolySection(_Schedule):
    """(1 - share of the run) to the power `power`."""

    type: Literal["poly"] = "poly"
    power: Annotated[float, Field(gt=0)] = 0.9

    def shape(self, epoch: float, epochs: int) -> float:
        """Return the polynomial at this share of the run.

        Args:
            epoch: epochs done, with fraction.
            epochs: epochs in all.
        """
        return float((1 - min(1, epoch / epochs)) ** self.power)


ScheduleSection = Annotated[
    ConstantSection | StepSection | CosineSection | PolySection, Field(discriminator="type")
]


def build_optimizer(
    section: AdamSection | AdamWSection | SGDSection, model: nn.Module, others: Iterable[nn.Module]
) -> Optimizer:
    """Return one optimizer over everything that learns.

    Balancer parameters learn without weight decay; a group `balancer` sets their learning rate.

    Args:
        section: the recipe's `optimizer`.
        model: its parameters are named as in its state dict (`architecture.…`, `edges.…`).
        others: modules such as the balancer, named "balancer" and "auxiliary_losses" by the caller
            through their order: auxiliary losses first, balancer last.

    Raises:
        UsageError: a group matches nothing.
    """
    auxiliary, balancer = others
    named = {
        **dict(model.named_parameters()),
        **{f"auxiliary_losses.{n}": p for n, p in auxiliary.named_parameters()},
        **{f"balancer.{n}": p for n, p in balancer.named_parameters()},
    }
    named = {name: p for name, p in named.items() if p.requires_grad}
    groups = [*section.groups, Group(match="balancer", weight_decay=0.0), Group(match="*")]
    optional = groups[-2:]
    parameters: list[dict[str, Any]] = []
    for group in groups:
        names = [n for n in named if _matches(n, group.match)]
        if not names and group not in optional:
            tops = sorted({".".join(n.split(".")[:2]) for n in named})
            raise UsageError(
                f"{group.match!r} matches no parameter; module paths begin with: " + ", ".join(tops)
            )
        if names:
            parameters.append(_group(section, group, [named.pop(n) for n in names]))
    return _make(section, parameters)


def _matches(name: str, pattern: str) -> bool:
    return fnmatch.fnmatchcase(name, pattern) or fnmatch.fnmatchcase(name, f"{pattern}.*")


def _group(section: _Optimizer, group: Group, parameters: Sequence[nn.Parameter]) -> dict[str, Any]:
    lr = section.lr if group.lr is None else group.lr
    decay = section.weight_decay if group.weight_decay is None else group.weight_decay
    return {"params": parameters, "lr": lr, "base_lr": lr, "weight_decay": decay}


def _make(
    section: AdamSection | AdamWSection | SGDSection, parameters: list[dict[str, Any]]
) -> Optimizer:
    fused = _fused(parameters)
    if isinstance(section, SGDSection):
        return SGD(
            parameters,
            lr=section.lr,
            momentum=section.momentum,
            nesterov=section.nesterov,
            fused=fused,
        )
    kind = Adam if isinstance(section, AdamSection) else AdamW
    return kind(parameters, lr=section.lr, betas=section.betas, eps=section.eps, fused=fused)


def _fused(parameters: list[dict[str, Any]]) -> bool:
    """Fused kernels exist for float parameters on these devices."""
    every = [p for group in parameters for p in group["params"]]
    return all(p.device.type in FUSED_DEVICES and p.is_floating_point() for p in every)


def set_learning_rate(optimizer: Optimizer, factor: float) -> None:
    """Set every group's learning rate to its base times the factor.

    Args:
        optimizer: from `build_optimizer`.
        factor: from the schedule.
    """
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor


def clip_gradients(optimizer: Optimizer, limit: float) -> torch.Tensor:
    """Clip the norm of all gradients together, and return it as it was.

    Args:
        optimizer: whose parameters' gradients are clipped in place.
        limit: largest norm.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    return torch.nn.utils.clip_grad_norm_(parameters, limit)
