"""READ FIRST: what a plugin is. Fields are the recipe's keys, methods are the behaviour.

Every plugin class is a frozen pydantic model with `type: Literal["name"] = "name"`; what holds
weights is an `nn.Module` that a `build_*` method returns. The tensors that flow between plugins are
described in `mtlkit.structures`.
"""

from mtlkit.contracts.edge import AuxiliaryLoss, AuxiliaryModule, Edge, End, Transfer
from mtlkit.contracts.gradient import (
    DirectionBalancer,
    GradientBalancer,
    Gradients,
    GradientWeighting,
    GramianWeighting,
    Place,
    Weights,
)
from mtlkit.contracts.plugin import Architecture, Dataset, Encoder, Plugin
from mtlkit.contracts.task import Task
from mtlkit.contracts.weighting import PROPERTIES, Balancer, Card, Weighting

__all__ = [
    "PROPERTIES",
    "Architecture",
    "AuxiliaryLoss",
    "AuxiliaryModule",
    "Balancer",
    "Card",
    "Dataset",
    "DirectionBalancer",
    "Edge",
    "Encoder",
    "End",
    "GradientBalancer",
    "GradientWeighting",
    "Gradients",
    "GramianWeighting",
    "Place",
    "Plugin",
    "Task",
    "Transfer",
    "Weighting",
    "Weights",
]
