"""The recipe explained: graph, edge table, parameters and FLOPs, the objective as maths."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.table import Table
from rich.text import Text
from rich.tree import Tree
from torch import nn

from mtlkit.check import check_recipe
from mtlkit.contracts import Edge
from mtlkit.flops import counted, flops_of
from mtlkit.graph import build_graph, walked
from mtlkit.model import MultiTaskModel
from mtlkit.objective import build_model, task_losses
from mtlkit.recipe import Recipe
from mtlkit.sampling import EdgeSampler, build_sampler


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
        formulas(sums(recipe)),
        *map(Text, notes(recipe)),
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
    for name, task in recipe.tasks.items():
        kind = "" if task.type_name() == name else f" ({task.type_name()})"
        channels = f"{task.channels} channel" + "s" * (task.channels != 1)
        node = tree.add(f"[b]{name}[/b]{kind}: {channels}, {task.loss_name}")
        leaving = [edge for edge in recipe.all_edges if edge.hops[0] == name]
        for line in _ways(leaving):
            node.add(line)
    return tree


def _ways(edges: Sequence[Edge]) -> Iterator[str]:
    """Yield a line for all edges of a task that differ in their last task alone."""
    ends: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for edge in edges:
        what = f"{edge.type_name()}, λ = {edge.weight:g}"
        ends.setdefault((what, edge.hops[1:-1]), []).append(edge.hops[-1])
    for (what, via), last in ends.items():
        yield f"→ {' → '.join([*via, ', '.join(last)])}: {what}"


@dataclass(frozen=True)
class Fitting:
    """Something that can be shown in two ways.

    Args:
        wide: shown where it has room.
        narrow: else.
    """

    wide: RenderableType
    narrow: RenderableType

    def __rich_console__(
        self, console: Console, options: ConsoleOptions
    ) -> Iterator[RenderableType]:
        """Yield what rich prints."""
        wanted = console.measure(self.wide, options=options.update(max_width=sys.maxsize)).maximum
        yield self.wide if wanted <= options.max_width else self.narrow


def edge_table(recipe: Recipe) -> Fitting:
    """Return the N×N table of edge types and weights, from row to column.

    Where the tasks' names have no room above the columns, numbers stand there.

    Args:
        recipe: any.
    """
    numbers = {name: str(i) for i, name in enumerate(recipe.tasks, 1)}
    rows = {name: f"{number} {name}" for name, number in numbers.items()}
    names = {name: name for name in recipe.tasks}
    return Fitting(_edge_table(recipe, names, names), _edge_table(recipe, rows, numbers))


def _edge_table(recipe: Recipe, rows: Mapping[str, str], columns: Mapping[str, str]) -> Table:
    table = Table(title="from \\ to", title_justify="left")
    table.add_column("", no_wrap=True)
    for name in recipe.tasks:
        table.add_column(columns[name], justify="center")
    graph = build_graph(recipe.tasks, recipe.all_edges)
    for source in recipe.tasks:
        between = [(graph.get_edge_data(source, target) or {}) for target in recipe.tasks]
        cells = ["\n".join(_in_short(data["edge"]) for data in b.values()) for b in between]
        table.add_row(rows[source], *(cell or "·" for cell in cells))
    return table


def _in_short(edge: Edge) -> str:
    via = f" via {', '.join(edge.hops[1:-1])}" if edge.is_path else ""
    return f"{edge.type_name()} {edge.weight:g}{via}"


def cost_table(recipe: Recipe) -> Table:
    """Return parameters and forward FLOPs of each part, for one image.

    Args:
        recipe: any.
    """
    model = build_model(recipe, "meta").eval()
    flops = counted(model, recipe.size)
    table = Table(title="one image, 2 FLOPs per multiply-add", title_justify="left")
    table.add_column("part")
    table.add_column("parameters", justify="right")
    table.add_column("GFLOPs", justify="right")
    prefix = type(model).__name__
    for name, part in _parts(model):
        gflops = flops_of(flops, f"{prefix}.{name}", part) / 1e9
        table.add_row(name, f"{parameters(part):,}", f"{gflops:.2f}")
    table.add_section()
    total, direct = flops.get(prefix, 0) / 1e9, flops.get(f"{prefix}.architecture", 0) / 1e9
    table.add_row("training", f"{parameters(model):,}", f"{total:.2f}")
    drawn = build_sampler(recipe)
    if drawn is not None:
        moved, ran = _mean_of_draws(drawn, model, recipe.size)
        count = f"{round(drawn.probabilities.sum())} of {len(model.edge_list)} edges a step"
        table.add_row(f"training, {count}, mean", f"{moved:,.0f}", f"{direct + ran / 1e9:.2f}")
    table.add_row("inference", f"{parameters(model.architecture):,}", f"{direct:.2f}")
    return table


def _mean_of_draws(
    sampler: EdgeSampler, model: MultiTaskModel, size: tuple[int, int]
) -> tuple[float, float]:
    """Return the parameters that a step moves, and the FLOPs of its edges, in the mean.

    What an edge and a path of one draw have in common is counted twice.
    """
    prefix = type(model).__name__
    edges = {edge.key: edge for edge in model.edge_list}
    moved, ran = float(parameters(model.architecture)), 0.0
    for key, share in zip(sampler.keys, sampler.probabilities, strict=True):
        flops = counted(model, size, [edges[key]])
        ran += share * (flops.get(prefix, 0) - flops.get(f"{prefix}.architecture", 0))
        moved += share * sum(parameters(model.edges[name]) for name in walked(edges[key]))
    return moved, ran


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


def formulas(terms: Mapping[str, Sequence[str]]) -> Fitting:
    """Return sums: a line each where all have room, else a line for each term.

    Args:
        terms: what is added up, by what it adds up to.
    """
    grid = Table.grid(padding=(0, 1))
    grid.add_column(justify="right", no_wrap=True)
    grid.add_column()
    for name, several in terms.items():
        for i, term in enumerate(several or ["0"]):
            grid.add_row(Text("+" if i else f"{name} ="), Text(term))
    return Fitting(Text("\n".join(_in_lines(terms))), grid)


def _in_lines(terms: Mapping[str, Sequence[str]]) -> list[str]:
    return [f"{name} = {' + '.join(several) or '0'}" for name, several in terms.items()]


def sums(recipe: Recipe) -> dict[str, list[str]]:
    """Return the terms of each loss, their coefficients read from the gradient of the mixing.

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
    symbols += [(transfers[edge.key], _as_maths(edge, recipe)) for edge in edges]
    symbols += [(leaf, choice.type_name()) for choice, leaf in auxiliary]
    leaves = [leaf for leaf, _ in symbols]
    found = {}
    for name, loss in losses.items():
        grads = torch.autograd.grad(loss, leaves, allow_unused=True)
        found[f"L_{name}"] = [
            f"{'' if abs(g - 1) < 1e-12 else f'{float(g):.6g}·'}{symbol}"
            for g, (_, symbol) in zip(grads, symbols, strict=True)
            if g is not None and g != 0
        ]
    return found | {"L": [recipe.weighting.as_maths]}


def objective_lines(recipe: Recipe) -> list[str]:
    """Return the losses as maths, a line each, and what they do not tell.

    Args:
        recipe: any.
    """
    return [*_in_lines(sums(recipe)), *notes(recipe)]


def _as_maths(edge: Edge, recipe: Recipe) -> str:
    text = edge.as_maths(recipe.tasks[edge.hops[0]], recipe.tasks[edge.hops[-1]])
    return text if edge.edge_norm == "none" else f"c·{text}"


def notes(recipe: Recipe) -> Iterator[str]:
    """Yield what the formulas do not tell, in sentences.

    Args:
        recipe: any.
    """
    edges, count = recipe.all_edges, recipe.train.edges_per_step
    if any(edge.edge_norm == "ema" for edge in edges):
        yield "c = running mean of the task's own loss / running mean of the edge's"
    if count is not None:
        drawn = f"{min(count, len(edges))} of {len(edges)} edges are drawn for each step"
        yield f"{drawn}; the loss of one that is drawn with probability p counts 1/p times"
    for i, part in enumerate(recipe.train.phases, 1):
        which = [f"only {', '.join(part.only)}"] if part.only else []
        which += [f"without {', '.join(part.freeze)}"] if part.freeze else []
        yield f"phase {i}: {part.epochs} epochs, {' '.join(which) or 'everything'} learns"


def _leaf() -> torch.Tensor:
    return torch.ones((), dtype=torch.float64, requires_grad=True)
