"""What there is in the data of a recipe: sizes, labels, what is broken, what leaks into validation.

A survey visits every sample in processes of its own (`mtlkit.walk`) and keeps numbers that add up.
"""

from mtlkit.survey.files import SizesOfKind
from mtlkit.survey.labels import (
    ClassCounts,
    Coverage,
    Distribution,
    EdgeCounts,
    LabelNumbers,
    NormalCounts,
)
from mtlkit.survey.summary import Leaks, Learnable, SplitSurvey, leaks, learnable, summed
from mtlkit.survey.visit import Look, Seen, Visits, looks_of

__all__ = [
    "ClassCounts",
    "Coverage",
    "Distribution",
    "EdgeCounts",
    "LabelNumbers",
    "Leaks",
    "Learnable",
    "Look",
    "NormalCounts",
    "Seen",
    "SizesOfKind",
    "SplitSurvey",
    "Visits",
    "leaks",
    "learnable",
    "looks_of",
    "summed",
]
