"""FLOPs by torch's counter on meta tensors, 2 per multiply-add: of modules, and of a step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from mtlkit.contracts import Balancer, Edge, GradientBalancer
from mtlkit.data import meta_batch
from mtlkit.device import seeded_draws
from mtlkit.gradients import Reach
from mtlkit.gradients.cut import Cut
from mtlkit.gradients.level import MAPS
from mtlkit.graph import walked
from mtlkit.model import MultiTaskModel
from mtlkit.objective import Objective, build_objective
from mtlkit.phases import Phases
from mtlkit.recipe import Recipe
from mtlkit.sampling import EdgeSampler, build_sampler
from mtlkit.structures import Losses

IMAGES = 2
"""Of a batch that is counted: batch norms refuse one."""


def counted(
    model: MultiTaskModel, size: tuple[int, int], edges: Sequence[Edge] | None = None
) -> dict[str, int]:
    """Return the FLOPs of every module's forward pass for one image, by path from the class name.

    Args:
        model: on the meta device, in eval mode.
        size: (H, W).
        edges: those that run; None: all.
    """
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        model(torch.empty(1, 3, *size, device="meta"), edges)
    return {name: sum(found.values()) for name, found in counter.get_flop_counts().items()}


def flops_of(counted: Mapping[str, int], name: str, part: nn.Module) -> int:
    """Return what a module ran; one that is called piece by piece is the sum of its pieces.

    Args:
        counted: FLOPs by path.
        name: path of the module.
        part: the module.
    """
    if name in counted:
        return counted[name]
    return sum(flops_of(counted, f"{name}.{key}", child) for key, child in part.named_children())


def step_flops(recipe: Recipe, reach: Reach, phase: int) -> float:
    """Return the FLOPs that a training step needs for each image: forward and all backward passes.

    Where edges are drawn, or the weighting solves only every few steps, it is the expected number.
    What is computed again to save memory, and a second forward pass that a weighting asks for, do
    not count.

    Args:
        recipe: the run.
        reach: which task's loss reaches which parameter in the phase.
        phase: index of the part of the training, which decides what learns.
    """
    sampler = build_sampler(recipe)
    with seeded_draws(recipe.seed):  # a run goes on as if nothing had been counted
        step = _Step(recipe, reach, phase)
        whole = step.flops(None)
        if sampler is None:
            return whole
        bare = step.flops({})
        share = _expected_share(sampler, step.objective.model, recipe.size)
    return bare + share * (whole - bare)


class _Step:
    """A training step on the meta device.

    Args:
        recipe: the run.
        reach: of the phase.
        phase: index of the part of the training.
    """

    def __init__(self, recipe: Recipe, reach: Reach, phase: int) -> None:
        self.reach, self.objective = reach, build_objective(recipe, "meta").train()
        self.batch = meta_batch(recipe, IMAGES)
        self.balancer = recipe.weighting.build_balancer(recipe.tasks)
        others = (self.objective.auxiliary_losses, self.balancer)
        phases = Phases(recipe.train, self.objective.model, others)
        phases.begin(phase)
        phases.keep_still()
        self.shares = _shares_of_passes(self.balancer, reach, recipe.train.accumulate)

    def flops(self, drawn: Mapping[tuple[str, ...], float] | None) -> float:
        """Return the mean over the ways that the backward passes go, for one image.

        Args:
            drawn: factors of the edges that run; None: all.
        """
        found = 0.0
        for take, share in self.shares.items():
            with FlopCounterMode(display=False) as counter:
                take(self.objective, self.objective(self.batch, drawn), self.reach)
            found += share * counter.get_total_flops() / IMAGES
        return found


Passes = Callable[[Objective, Losses, Reach], None]


def _shares_of_passes(balancer: Balancer, reach: Reach, accumulate: int) -> dict[Passes, float]:
    """Return how often each way of going back is taken; the choice is that of `GradientLevel`."""
    if not isinstance(balancer, GradientBalancer) or not reach.shared:
        return {_at_once: 1.0}
    due = 1 / balancer.every
    sees_cut = balancer.at in MAPS or (balancer.at == "last_shared" and accumulate == 1)
    through_cut = (1.0 if sees_cut else 1 - due) if reach.has_cut else 0.0
    shares: dict[Passes, float] = {_through_cut: through_cut, _by_task: 1 - through_cut}
    return {take: share for take, share in shares.items() if share}


def _at_once(objective: Objective, losses: Losses, reach: Reach) -> None:
    """Pass all losses together."""
    own = [] if losses.own is None else [losses.own]
    _pass([*losses.tasks.values(), *own])


def _by_task(objective: Objective, losses: Losses, reach: Reach) -> None:
    """Pass each task's loss through everything."""
    for loss in (*losses.tasks.values(), losses.own):
        if loss is not None:
            _pass([loss], retain_graph=True)


def _through_cut(objective: Objective, losses: Losses, reach: Reach) -> None:
    """Pass each task's loss through its head, and the trunk once."""
    if losses.own is not None:
        _pass([losses.own], retain_graph=True)
    present = {name: loss for name, loss in losses.tasks.items() if loss.requires_grad}
    maps = [x for x in losses.output.features if x.requires_grad]
    cut = Cut(dict(objective.named_parameters()), reach, "features")
    cut.heads(present, maps, [torch.ones_like(loss) for loss in present.values()])
    _pass(maps)


def _pass(roots: Sequence[Tensor], retain_graph: bool = False) -> None:
    roots = [x for x in roots if x.requires_grad]
    if roots:
        starts = [torch.ones_like(x) for x in roots]
        torch.autograd.backward(roots, starts, retain_graph=retain_graph)


def _expected_share(sampler: EdgeSampler, model: MultiTaskModel, size: tuple[int, int]) -> float:
    """Return the share of the networks' FLOPs that a step of drawn edges runs, in the mean.

    A network runs once for each way that ends in it: a path's last one reads what comes along the
    path, not the prediction. Ways that edges of one draw have in common count up to once.
    """
    drawn = dict(zip(sampler.keys, map(float, sampler.probabilities), strict=True))
    chances: dict[str, dict[tuple[tuple[str, ...], bool], float]] = {n: {} for n in model.edges}
    for edge in model.edge_list:
        for end, name in enumerate(walked(edge), 2):
            ways, way = chances[name], (edge.hops[:end], edge.detach_input)
            ways[way] = min(1.0, ways.get(way, 0.0) + drawn.get(edge.key, 0.0))
    prefix, every = type(model).__name__, counted(model.eval(), size)
    flops = {
        name: flops_of(every, f"{prefix}.edges.{name}", network)
        for name, network in model.edges.items()
    }
    total = sum(flops.values())
    return sum(fmean(chances[n].values()) * flops[n] for n in flops) / total if total else 0.0
