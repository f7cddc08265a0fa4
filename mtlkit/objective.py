"""The objective: everything that makes a loss, and the pure function that mixes losses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from mtlkit.contracts import AuxiliaryLoss, AuxiliaryModule, Edge, End, Task, Transfer
from mtlkit.device import without_autocast
from mtlkit.edge_norm import EdgeNorm
from mtlkit.graph import shares
from mtlkit.model import MultiTaskModel
from mtlkit.nn import frozen
from mtlkit.recipe import Recipe
from mtlkit.structures import Batch, Counts, EdgeKey, Losses, Output, counts_of


def task_losses(
    tasks: Mapping[str, Task],
    edges: Sequence[Edge],
    direct: Mapping[str, Tensor],
    transfers: Mapping[EdgeKey, Tensor],
    added: Mapping[str, Sequence[Tensor]],
) -> dict[str, Tensor]:
    """Return the N task losses: edges mix, auxiliary losses add.

    L_t = w_t·[(1 - Λ_t)·direct_t + Σ λ_e·edge_e + Σ μ_a·aux_a], with Λ_t the sum of λ over all
    edges charged to t, drawn in this step or not.

    Args:
        tasks: by name; give the weights w_t.
        edges: all of the graph, expanded; give λ and the task that each is charged to.
        direct: scalar direct loss of every task.
        transfers: scalar loss of each edge drawn in this step, times its factors.
        added: per task, auxiliary losses times their weights.

    Source: arXiv 2111.14122, eq. 11, for two tasks; the N-task form is docs/explanation.md.
    """
    share = shares(edges)
    losses = {name: (1 - share.get(name, 0.0)) * direct[name] for name in tasks}
    for edge in edges:
        if edge.key in transfers:
            name = edge.charged_to
            losses[name] = losses[name] + edge.weight * transfers[edge.key]
    for name, terms in added.items():
        losses[name] = losses[name] + torch.stack(list(terms)).sum()
    return {name: tasks[name].weight * loss for name, loss in losses.items()}


class Objective(nn.Module):
    """Batch to losses: the model, the auxiliary losses and their mixing; what DDP wraps.

    Args:
        model: architecture and edges.
        auxiliary: the recipe's auxiliary losses.
        example: an output of meta tensors, for the shapes that they need.
    """

    def __init__(
        self,
        model: MultiTaskModel,
        auxiliary: Sequence[AuxiliaryLoss] = (),
        example: Output | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.edge_norm = EdgeNorm(model.edge_list)
        self.auxiliary = {f"{a.task}_{a.type_name()}": a for a in auxiliary}
        self.auxiliary_losses = nn.ModuleDict()
        for name, choice in self.auxiliary.items():
            assert example is not None  # build_objective makes one where there are auxiliary losses
            self.auxiliary_losses[name] = choice.build_loss(model, example)

    def forward(self, batch: Batch, drawn: Mapping[EdgeKey, float] | None = None) -> Losses:
        """Return every loss of the batch.

        Args:
            batch: on the device of the model.
            drawn: what the loss of each edge that runs in this step is multiplied by, for edges
                that are left out; None: all run, by 1.
        """
        model = self.model
        every = dict.fromkeys((edge.key for edge in model.edge_list), 1.0)
        factors = every if drawn is None else drawn
        output = model(batch.image, [edge for edge in model.edge_list if edge.key in factors])
        with without_autocast(batch.image.device):
            return self._losses(_in_full_precision(output), batch, model.edge_list, factors)

    def judge(self, batch: Batch, *, transfers: bool = False) -> Losses:
        """Return the losses of what the tasks predict, as they would be without edges.

        Args:
            batch: on the device of the model.
            transfers: whether the output is to have the transferred predictions, too.
        """
        output = self.model(batch.image, None if transfers else ())
        with without_autocast(batch.image.device):
            return self._losses(_in_full_precision(output), batch, (), {})

    def counts(self, batch: Batch) -> dict[str, Counts]:
        """Return each task's denominators in this batch.

        Args:
            batch: with labels; on any device.
        """
        found = {}
        for name, task in self.model.tasks.items():
            label = task.read(batch)
            valid = label.valid if label is not None else _nothing(task, batch.image)
            found[name] = counts_of(valid)
        return found

    def after_step(self) -> None:
        """Tell the auxiliary losses that an optimizer step is done."""
        for module in self._modules_of_auxiliary():
            module.after_step(self.model)

    def _modules_of_auxiliary(self) -> Iterator[AuxiliaryModule]:
        for module in self.auxiliary_losses.values():
            assert isinstance(module, AuxiliaryModule)
            yield module

    def _losses(
        self,
        output: Output,
        batch: Batch,
        edges: Sequence[Edge],
        factors: Mapping[EdgeKey, float],
    ) -> Losses:
        ends = self._ends(output, batch)
        direct = {name: _direct(end, output, name) for name, end in ends.items()}
        terms = {f"{n}/direct": loss for n, loss in direct.items() if ends[n].is_labelled}
        present = {n for n, end in ends.items() if end.is_labelled}
        transfers, own = {}, list[Tensor | None]()
        for edge in edges:
            if edge.key not in factors:
                continue
            transfer = self._transfer(edge, ends, output)
            loss, factor = edge.loss(transfer), factors[edge.key]
            transfers[edge.key] = self.edge_norm.scaled(edge, loss) * factor
            own.append(self._own_loss(edge, transfer, factor))
            if edge.applies(transfer):
                terms[edge.term] = loss
                present.add(edge.charged_to)
        added = self._auxiliary(output, batch, terms, own)
        present.update(added)
        mixed = task_losses(self.model.tasks, edges, direct, transfers, added)
        own_losses = [loss for loss in own if loss is not None]
        return Losses(
            tasks=mixed,
            terms={name: loss.detach() for name, loss in terms.items()},
            own=torch.stack(own_losses).sum() if own_losses else None,
            present=frozenset(present),
            output=output,
            parts=terms,
        )

    def _transfer(self, edge: Edge, ends: Mapping[str, End], output: Output) -> Transfer:
        source, target = ends[edge.hops[0]], ends[edge.hops[-1]]
        return Transfer(source, target, self.model.network(edge), output.transfers[edge.key])

    def _own_loss(self, edge: Edge, transfer: Transfer, factor: float) -> Tensor | None:
        """Return what trains the edge's network alone; None where it does not learn."""
        network = transfer.network
        if network is None or not torch.is_grad_enabled():
            return None
        if not any(parameter.requires_grad for parameter in network.parameters()):
            return None
        loss = edge.own_loss(transfer)
        return None if loss is None else factor * loss

    def _auxiliary(
        self,
        output: Output,
        batch: Batch,
        terms: dict[str, Tensor],
        own: list[Tensor | None],
    ) -> dict[str, list[Tensor]]:
        """Return each task's auxiliary losses, weighed; add to the terms and the own losses."""
        added: dict[str, list[Tensor]] = {}
        for name, module in zip(self.auxiliary, self._modules_of_auxiliary(), strict=True):
            choice = self.auxiliary[name]
            with frozen(module.own_parameters()):
                terms[f"{choice.task}/{choice.type_name()}"] = loss = module(output, batch)
            added.setdefault(choice.task, []).append(choice.weight * loss)
            own.append(module.own_loss(output, batch))
        return added

    def _ends(self, output: Output, batch: Batch) -> dict[str, End]:
        ends = {}
        for name, task in self.model.tasks.items():
            counts = batch.counts.get(name)
            label = task.read(batch)
            if label is not None and counts is not None:
                label = replace(label, counts=counts)
            labelled = name in batch.labelled if batch.counts else label is not None
            ends[name] = End(task, output.predictions[name], label, counts, labelled)
        return ends


def _direct(end: End, output: Output, name: str) -> Tensor:
    """Return the loss of the final map and the side maps; 0 on the graph without a label."""
    sides = output.auxiliary.get(name, [])
    if end.label is None:
        return torch.stack(
            [0.0 * p.sum() for p in (end.prediction, *(s.prediction for s in sides))]
        ).sum()
    loss = output.final_weight * end.task.loss(end.prediction, end.label)
    for side in sides:
        loss = loss + side.weight * end.task.loss(side.prediction, end.label)
    return loss


def _in_full_precision(output: Output) -> Output:
    def full(x: Tensor) -> Tensor:
        return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x

    return replace(
        output,
        predictions={name: full(x) for name, x in output.predictions.items()},
        transfers={key: full(x) for key, x in output.transfers.items()},
        auxiliary={
            name: [replace(side, prediction=full(side.prediction)) for side in sides]
            for name, sides in output.auxiliary.items()
        },
    )


def _nothing(task: Task, image: Tensor) -> Tensor:
    size = (len(image),) if task.vector else (len(image), 1, *image.shape[-2:])
    return torch.zeros(size, dtype=torch.bool, device=image.device)


def build_model(recipe: Recipe, device: str | torch.device = "cpu") -> MultiTaskModel:
    """Return the model with initial weights from the recipe's seed.

    Args:
        recipe: the run.
        device: where to build; "meta" for shapes only.
    """
    # drawn on the CPU for any device, so that the seed gives the same weights everywhere
    place = "meta" if torch.device(device).type == "meta" else "cpu"
    with torch.random.fork_rng(devices=[]), torch.device(place):
        torch.default_generator.manual_seed(recipe.seed)
        architecture = recipe.architecture.build_architecture(recipe.encoder, recipe.tasks)
        return MultiTaskModel(recipe.tasks, recipe.all_edges, architecture).to(device)


def build_objective(recipe: Recipe, device: str | torch.device = "cpu") -> Objective:
    """Return the objective with initial weights from the recipe's seed.

    Args:
        recipe: the run.
        device: where to build; "meta" for shapes only.
    """
    model = build_model(recipe, device)
    if not recipe.auxiliary_losses:
        return Objective(model)
    shapes = build_model(recipe, "meta")
    example = shapes(torch.empty(2, 3, *recipe.size, device="meta"))
    place = "meta" if torch.device(device).type == "meta" else "cpu"
    with torch.random.fork_rng(devices=[]), torch.device(place):
        torch.default_generator.manual_seed(recipe.seed)
        return Objective(model, recipe.auxiliary_losses, example).to(device)
