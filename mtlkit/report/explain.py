"""The recipe explained: graph, edge table, parameters and FLOPs, the objective as maths."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text
from rich.tree import Tree
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from mtlkit.check import check_recipe
from mtlkit.contracts import Edge
from mtlkit.graph import build_graph
from mtlkit.model import MultiTaskModel
from mtlkit.objective import build_model, task_losses
from mtlkit.recipe import Recipe


def explain(recipe: Recipe) -> RenderableType:
    """Return everything that can be said of a recipe before it runs.

    Args:
        recipe: checked on the way.

    Raises:
        RecipeError: it cannot work.
    """
    checked = check_recipe(recipe)
    shared = checked.reach.shared
    lines = [f"shared by two or more tasks: {len(shared)} parameter tensors"]
    if checked.reach.last_shared is not None:
        lines.append(f"last shared weight: {checked.reach.last_shared.removeprefix('model.')}")
    edges: list[RenderableType] = [edge_table(recipe), ""] if recipe.edges else []
    return Group(
        graph_tree(recipe),
        "",
        *edges,
        cost_table(recipe),
        Text("\n".join(lines), style="dim"),
        "",
        Text("\n".join(objective_lines(recipe))),
    )


def graph_tree(recipe: Recipe) -> Tree:
    """Return encoder, tasks and, below each task, the edges that leave it.

    Args:
        recipe: any.
    """
    height, width = recipe.size
    encoder = f" · {recipe.encoder.type_name()}" if recipe.encoder is not None else ""
    data = " + ".join(part.title for part in recipe.sets)
    tree = Tree(
        f"[b]{recipe.name}[/b]: {data} {height}×{width} → "
        f"{recipe.architecture.type_name()}{encoder}"
    )
    graph = build_graph(recipe.tasks, recipe.all_edges)
    for name, task in recipe.tasks.items():
        kind = "" if task.type_name() == name else f" ({task.type_name()})"
        channels = f"{task.channels} channel" + "s" * (task.channels != 1)
        node = tree.add(f"[b]{name}[/b]{kind}: {channels}, {task.loss_name}")
        for _, target, data in graph.out_edges(name, data=True):
            edge: Edge = data["edge"]
            node.add(f"→ {target}: {edge.type_name()}, λ = {edge.weight:g}")
    return tree


def edge_table(recipe: Recipe) -> Table:
    """Return the N×N table of edge types and weights, from row to column.

    Args:
        recipe: any.
    """
    table = Table(title="from \\ to", title_justify="left")
    table.add_column("")
    for name in recipe.tasks:
        table.add_column(name, justify="center")
    graph = build_graph(recipe.tasks, recipe.all_edges)
    for source in recipe.tasks:
        cells = [
            ", ".join(
                f"{kind} {data['edge'].weight:g}"
                for kind, data in (graph.get_edge_data(source, target) or {}).items()
            )
            for target in recipe.tasks
        ]
        table.add_row(source, *(cell or "·" for cell in cells))
    return table


def cost_table(recipe: Recipe) -> Table:
    """Return parameters and forward FLOPs of each part, for one image.

    Args:
        recipe: any.
    """
    model = build_model(recipe, "meta").eval()
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        model(torch.empty(1, 3, *recipe.size, device="meta"))
    flops = {name: sum(found.values()) for name, found in counter.get_flop_counts().items()}
    table = Table(title="one image, 2 FLOPs per multiply-add", title_justify="left")
    table.add_column("part")
    table.add_column("parameters", justify="right")
    table.add_column("GFLOPs", justify="right")
    prefix = type(model).__name__
    for name, part in _parts(model):
        gflops = _flops(flops, f"{prefix}.{name}", part) / 1e9
        table.add_row(name, f"{parameters(part):,}", f"{gflops:.2f}")
    table.add_section()
    total, direct = flops.get(prefix, 0) / 1e9, flops.get(f"{prefix}.architecture", 0) / 1e9
    table.add_row("training", f"{parameters(model):,}", f"{total:.2f}")
    table.add_row("inference", f"{parameters(model.architecture):,}", f"{direct:.2f}")
    return table


def _flops(counted: Mapping[str, int], name: str, part: nn.Module) -> int:
    """Return what a module ran; one that is called piece by piece is the sum of its pieces."""
    if name in counted:
        return counted[name]
    return sum(_flops(counted, f"{name}.{key}", child) for key, child in part.named_children())


def parameters(module: nn.Module) -> int:
    """Return the number of trainable parameters.

    Args:
        module: any.
    """
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def _parts(model: MultiTaskModel) -> Iterator[tuple[str, nn.Module]]:
    for name, child in model.architecture.named_children():
        if isinstance(child, nn.ModuleDict):
            yield from ((f"architecture.{name}.{key}", part) for key, part in child.items())
        else:
            yield f"architecture.{name}", child
    yield from ((f"edges.{name}", network) for name, network in model.edges.items())


def objective_lines(recipe: Recipe) -> list[str]:
    """Return the losses as maths, their coefficients read from the gradient of the mixing itself.

    Args:
        recipe: any.
    """
    tasks, edges = recipe.tasks, recipe.all_edges
    direct = {name: _leaf() for name in tasks}
    transfers = {edge.key: _leaf() for edge in edges}
    auxiliary = [(choice, _leaf()) for choice in recipe.auxiliary_losses]
    added: dict[str, list[torch.Tensor]] = {}
    for choice, leaf in auxiliary:
        added.setdefault(choice.task, []).append(choice.weight * leaf)
    losses = task_losses(tasks, edges, direct, transfers, added)
    symbols = [(x, f"{tasks[name].loss_name}({name}, label)") for name, x in direct.items()]
    symbols += [(transfers[e.key], e.as_maths(tasks[e.hops[0]], tasks[e.hops[-1]])) for e in edges]
    symbols += [(leaf, choice.type_name()) for choice, leaf in auxiliary]
    lines = []
    for name, loss in losses.items():
        leaves = [leaf for leaf, _ in symbols]
        grads = torch.autograd.grad(loss, leaves, allow_unused=True)
        terms = [
            f"{'' if abs(g - 1) < 1e-12 else f'{float(g):.6g}·'}{symbol}"
            for g, (_, symbol) in zip(grads, symbols, strict=True)
            if g is not None and g != 0
        ]
        lines.append(f"L_{name} = {' + '.join(terms) or '0'}")
    return [*lines, f"L = {recipe.weighting.as_maths}"]


def _leaf() -> torch.Tensor:
    return torch.ones((), dtype=torch.float64, requires_grad=True)
