"""The parts of a model that a profile tells apart, and what they are called."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from torch import nn

from mtlkit.contracts import Edge
from mtlkit.model import MultiTaskModel
from mtlkit.nn import TransferNetwork

ARROW = " -> "  # the timeline calls a range "unknown" whose name is not ASCII
Kind = Literal["encoder", "decoder", "edge", "part"]


@dataclass(frozen=True)
class Part:
    """A part of a model.

    Args:
        label: what its range is called, such as "encoder" or "TTNet depth -> segmentation".
        kind: what can be done about it.
        module: what runs.
    """

    label: str
    kind: Kind
    module: nn.Module

    @property
    def title(self) -> str:
        """What it is called in a table."""
        return self.label.replace(ARROW, " → ")


def parts_of(model: MultiTaskModel) -> list[Part]:
    """Return the parts of an architecture, then the networks of its edges.

    Args:
        model: of the run.
    """
    return [*_of_architecture(model.architecture), *_of_edges(model)]


def _of_architecture(architecture: nn.Module) -> Iterator[Part]:
    for name, child in architecture.named_children():
        if name == "decoders" and isinstance(child, nn.ModuleDict):
            for task, decoder in child.items():
                yield Part(f"decoder of {task}", "decoder", decoder)
        elif isinstance(child, nn.ModuleDict):
            for key, part in child.items():
                yield Part(f"{name} {key}", "part", part)
        else:
            yield Part(name, "encoder" if name == "encoder" else "part", child)


def _of_edges(model: MultiTaskModel) -> Iterator[Part]:
    edges = [edge for edge in model.edge_list if not edge.is_path]
    titles = {edge.key: _title(edge, model.network(edge)) for edge in edges}
    times = Counter(titles.values())
    for edge in edges:
        network, title = model.network(edge), titles[edge.key]
        assert network is not None  # only a path has none
        yield Part(title if times[title] == 1 else f"{title} ({edge.type_name()})", "edge", network)


def _title(edge: Edge, network: nn.Module | None) -> str:
    word = "TTNet" if isinstance(network, TransferNetwork) else edge.type_name()
    return f"{word} {ARROW.join(edge.hops)}"
