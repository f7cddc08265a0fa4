"""The state before a step, so that a step that went wrong can be looked at again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from mtlkit.device import restore_rng, rng_state
from mtlkit.learner import Learner


@dataclass(frozen=True)
class Moment:
    """Weights, buffers and random generators at one time.

    Args:
        tensors: of the objective, by name.
        generators: as `rng_state` gives them.
    """

    tensors: dict[str, Tensor]
    generators: dict[str, Any]

    @classmethod
    def of(cls, learner: Learner) -> Moment:
        """Return the state of now.

        Args:
            learner: of a run.
        """
        state = learner.objective.state_dict()
        return cls({name: x.clone() for name, x in state.items()}, rng_state())

    def restore(self, learner: Learner) -> None:
        """Go back to it.

        Args:
            learner: that it is of.
        """
        learner.objective.load_state_dict(self.tensors)
        restore_rng(self.generators)
