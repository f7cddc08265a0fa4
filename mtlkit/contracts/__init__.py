"""READ FIRST: what a plugin is. Fields are the recipe's keys, methods are the behaviour.

Every plugin class is a frozen pydantic model with `type: Literal["name"] = "name"`; what holds
weights is an `nn.Module` that a `build_*` method returns. The tensors that flow between plugins are
described in `mtlkit.structures`.
"""

from mtlkit.contracts.edge import AuxiliaryLoss, AuxiliaryModule, Edge, End, Transfer
from mtlkit.contracts.plugin import Architecture, Dataset, Encoder, Plugin
from mtlkit.contracts.task import Task
from mtlkit.contracts.weighting import Balancer, GradientBalancer, Gradients, Weighting

__all__ = [
    "Architecture",
    "AuxiliaryLoss",
    "AuxiliaryModule",
    "Balancer",
    "Dataset",
    "Edge",
    "Encoder",
    "End",
    "GradientBalancer",
    "Gradients",
    "Plugin",
    "Task",
    "Transfer",
    "Weighting",
]
