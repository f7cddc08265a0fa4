"""Multi-task learning for dense vision: tasks and task transfers as plugins.

Names are imported when first used, so that `import mtlkit` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "Architecture": "contracts",
    "AuxiliaryLoss": "contracts",
    "AuxiliaryModule": "contracts",
    "Balancer": "contracts",
    "Batch": "structures",
    "Card": "contracts",
    "Counts": "structures",
    "Dataset": "contracts",
    "DirectionBalancer": "contracts",
    "Edge": "contracts",
    "Encoder": "contracts",
    "End": "contracts",
    "FeatureSpec": "structures",
    "FieldSpec": "structures",
    "GradientBalancer": "contracts",
    "GradientWeighting": "contracts",
    "Gradients": "contracts",
    "GramianWeighting": "contracts",
    "Label": "structures",
    "Losses": "structures",
    "MetricSpec": "structures",
    "MtlkitError": "errors",
    "Output": "structures",
    "Plugins": "plugins",
    "Recipe": "recipe",
    "Run": "engine",
    "Supervised": "structures",
    "Task": "contracts",
    "Transfer": "contracts",
    "Weighting": "contracts",
    "Weights": "contracts",
    "build_model": "objective",
    "build_objective": "objective",
    "hookimpl": "hookspecs",
    "load_recipe": "recipe",
}

__all__ = [
    "Architecture",
    "AuxiliaryLoss",
    "AuxiliaryModule",
    "Balancer",
    "Batch",
    "Card",
    "Counts",
    "Dataset",
    "DirectionBalancer",
    "Edge",
    "Encoder",
    "End",
    "FeatureSpec",
    "FieldSpec",
    "GradientBalancer",
    "GradientWeighting",
    "Gradients",
    "GramianWeighting",
    "Label",
    "Losses",
    "MetricSpec",
    "MtlkitError",
    "Output",
    "Plugins",
    "Recipe",
    "Run",
    "Supervised",
    "Task",
    "Transfer",
    "Weighting",
    "Weights",
    "build_model",
    "build_objective",
    "hookimpl",
    "load_recipe",
]

if TYPE_CHECKING:
    from mtlkit.contracts import (
        Architecture,
        AuxiliaryLoss,
        AuxiliaryModule,
        Balancer,
        Card,
        Dataset,
        DirectionBalancer,
        Edge,
        Encoder,
        End,
        GradientBalancer,
        Gradients,
        GradientWeighting,
        GramianWeighting,
        Task,
        Transfer,
        Weighting,
        Weights,
    )
    from mtlkit.engine import Run
    from mtlkit.errors import MtlkitError
    from mtlkit.hookspecs import hookimpl
    from mtlkit.objective import build_model, build_objective
    from mtlkit.plugins import Plugins
    from mtlkit.recipe import Recipe, load_recipe
    from mtlkit.structures import (
        Batch,
        Counts,
        FeatureSpec,
        FieldSpec,
        Label,
        Losses,
        MetricSpec,
        Output,
        Supervised,
    )


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module 'mtlkit' has no attribute {name!r}")
    value = getattr(import_module(f"mtlkit.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names too."""
    return sorted({*globals(), *_HOMES})
