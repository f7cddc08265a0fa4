"""Optimizers and schedules: their recipe sections, and how they are built."""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, model_validator
from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from mtlkit.device import FUSED_DEVICES
from mtlkit.errors import UsageError
from mtlkit.sections import Section

Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Decay = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Beta = Annotated[float, Field(ge=0, lt=1)]


class Group(Section):
    """Parameters with settings of their own."""

    match: str = Field(
        description="module path such as architecture.encoder, edges or balancer; * matches any"
    )
    lr: Rate | None = Field(None, description="learning rate; null: the optimizer's")
    weight_decay: Decay | None = Field(None, description="null: the optimizer's")


class _Optimizer(Section):
    lr: Rate = Field(1e-4, description="learning rate")
    weight_decay: Decay = Field(0.0, description="of all parameters but the balancer's")
    groups: tuple[Group, ...] = Field((), description="the first that matches a parameter holds")


class AdamSection(_Optimizer):
    """Adam."""

    type: Literal["adam"] = "adam"
    betas: tuple[Beta, Beta] = Field((0.9, 0.999), description="decay of the two moments")
    eps: Rate = Field(1e-8, description="added to the root of the second moment")


class AdamWSection(_Optimizer):
    """Adam with decoupled weight decay."""

    type: Literal["adamw"] = "adamw"
    betas: tuple[Beta, Beta] = Field((0.9, 0.999), description="decay of the two moments")
    eps: Rate = Field(1e-8, description="added to the root of the second moment")


class SGDSection(_Optimizer):
    """Stochastic gradient descent."""

    type: Literal["sgd"] = "sgd"
    momentum: Beta = Field(0.0, description="decay of the velocity")
    nesterov: bool = Field(False, description="look ahead along the velocity; needs momentum")

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> SGDSection:
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov needs momentum above 0. Set momentum")
        return self


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
    every: int = Field(ge=1, description="epochs between steps")
    gamma: float = Field(0.5, gt=0, le=1, description="factor of a step")

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
    final: float = Field(0.0, ge=0, le=1, description="factor at the end")

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
    power: float = Field(0.9, gt=0, description="1: a straight line")

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
    every = named_parameters(model, others)
    named = {name: p for name, p in every.items() if p.requires_grad}
    rest = Group(match="*")
    parameters: list[dict[str, Any]] = []
    for group in (*section.groups, rest):
        names = [n for n in named if matches(n, group.match)]
        if not names and group is not rest:
            tops = sorted({".".join(n.split(".")[:2]) for n in named})
            raise UsageError(
                f"{group.match!r} matches no parameter; module paths begin with: " + ", ".join(tops)
            )
        for of_balancer in (False, True):
            chosen = [named.pop(n) for n in names if n.startswith("balancer.") is of_balancer]
            if chosen:
                parameters.append(_group(section, group, of_balancer, chosen))
    return _make(section, parameters)


def named_parameters(model: nn.Module, others: Iterable[nn.Module]) -> dict[str, nn.Parameter]:
    """Return every parameter by the name that recipes match.

    Args:
        model: its parameters are named as in its state dict.
        others: auxiliary losses, then the balancer.
    """
    auxiliary, balancer = others
    return {
        **dict(model.named_parameters()),
        **{f"auxiliary_losses.{n}": p for n, p in auxiliary.named_parameters()},
        **{f"balancer.{n}": p for n, p in balancer.named_parameters()},
    }


def matches(name: str, pattern: str) -> bool:
    """Return whether a module path of a recipe means a parameter.

    Args:
        name: of the parameter, from `named_parameters`.
        pattern: its module or one above it, with or without `model.` in front; `*` is any text.
    """
    path = pattern.removeprefix("model.")
    return fnmatch.fnmatchcase(name, path) or fnmatch.fnmatchcase(name, f"{path}.*")


def _group(
    section: _Optimizer, group: Group, of_balancer: bool, parameters: Sequence[nn.Parameter]
) -> dict[str, Any]:
    lr = section.lr if group.lr is None else group.lr
    decay = 0.0 if of_balancer else section.weight_decay
    decay = decay if group.weight_decay is None else group.weight_decay
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


def has_gradients(optimizer: Optimizer) -> bool:
    """Return whether there is anything to move.

    Args:
        optimizer: from `build_optimizer`.
    """
    return any(p.grad is not None for group in optimizer.param_groups for p in group["params"])


def is_finite(optimizer: Optimizer) -> bool:
    """Return whether every gradient is; waits for the device.

    Args:
        optimizer: whose parameters' gradients are looked at.
    """
    every = [p.grad for group in optimizer.param_groups for p in group["params"]]
    grads = [grad for grad in every if grad is not None]
    return bool(torch.nn.utils.get_total_norm(grads).isfinite())
