"""Sections of a recipe that no plugin fills: loading and training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, get_origin

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    model_validator,
)

from mtlkit.device import DEVICE_PATTERN, DEVICE_WORDS

ONE, SEVERAL = "<one>", "<several>"
"""Tags of a value that is one thing or a collection of them."""


def one_or_several(one: Any, several: Any) -> Any:
    """Return the type of either; a mistake is told of the one that was written.

    Args:
        one: type of one thing.
        several: type of the collection, which needs an entry at least.
    """
    kinds = (dict,) if get_origin(several) is dict else (list, tuple)
    return Annotated[
        Annotated[one, Tag(ONE)] | Annotated[several, Field(min_length=1), Tag(SEVERAL)],
        Discriminator(lambda x: SEVERAL if isinstance(x, kinds) else ONE),
    ]


Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]
if TYPE_CHECKING:
    Shares = float | dict[str, float]
else:
    Shares = one_or_several(Share, dict[str, Share])
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Section(BaseModel):
    """A part of a recipe: frozen, and every key is known."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class LabelsPerImage(Section):
    """Which labels of the training images are hidden, for studies of partial labels.

    The choice depends on the seed, the labels' names and the number of images alone: `random_one`
    keeps one label of each image, every label equally often; `random_share` keeps each label on the
    given share of the images, each label on its own.
    """

    mode: Literal["random_one", "random_share"] = Field(description="how labels are chosen")
    seed: int = Field(0, ge=0, lt=2**62, description="of the choice; the run's own has no part")
    share: Shares = Field(
        1.0, description="of random_share: of the images, for every label or by label"
    )
    among: tuple[str, ...] | None = Field(
        None, description="labels to choose among; null: all that the tasks read"
    )


class Loader(Section):
    """How samples become batches."""

    batch_size: Count = Field(description="samples of a batch")
    workers: int = Field(
        0, ge=0, le=256, description="processes that load, at most one a core; 0: none"
    )
    cache: Literal["auto", "none", "ram", "disk"] = Field(
        "auto", description="where decoded samples are kept; auto: as the data set advises"
    )
    on_bad_sample: Literal["fail", "skip"] = Field(
        "fail", description="what an unreadable sample does; skip: it is named, counted, replaced"
    )
    drop_last: bool = Field(False, description="leave out an incomplete last training batch")


class KeepBest(Section):
    """Which checkpoint is the best one."""

    metric: str = Field(description="such as loss/total or segmentation/miou")
    mode: Literal["min", "max"] = Field(description="which way is better")


Modules = Annotated[tuple[str, ...], BeforeValidator(lambda x: (x,) if isinstance(x, str) else x)]


class Phase(Section):
    """A part of the training, in which some parameters do not move.

    The learning rate's schedule begins anew in every phase.
    """

    epochs: Count = Field(description="passes over the training split")
    only: Modules = Field((), description="module paths that learn, such as edges; none: all")
    freeze: Modules = Field((), description="module paths that do not learn")


class Train(Section):
    """How long, where and how exactly."""

    epochs: Count | None = Field(
        None, description="passes over the training split; null: those of the phases"
    )
    phases: tuple[Phase, ...] = Field(
        (), description="parts of the training, in which some parameters do not move"
    )
    edges_per_step: Count | None = Field(
        None, description="edges drawn for each step, likelier the more they weigh; null: all"
    )
    device: str = Field(
        "auto",
        pattern=DEVICE_PATTERN,
        description=DEVICE_WORDS,
    )
    precision: Literal["auto", "fp32", "tf32", "bf16", "fp16"] = Field(
        "auto",
        description="auto: bf16 where the hardware has it natively, else fp32; tf32: of NVIDIA's "
        "GPUs; fp16: with a scaler",
    )
    compile: bool = Field(
        False, description="whether torch.compile makes kernels of the model; minutes at the start"
    )
    memory: Literal["keep", "checkpoint"] = Field(
        "keep",
        description="checkpoint: the maps inside decoders and transfer networks are computed again "
        "in the backward pass, for less memory and more time",
    )
    sync_batchnorm: bool = Field(
        False, description="whether batch norms see the batches of all ranks; on GPUs alone"
    )
    keep_best: KeepBest | None = Field(None, description="null: only the last state is kept")
    on_nonfinite: Literal["stop", "skip_task"] = Field(
        "stop",
        description="what a loss or gradient that is no number does; skip_task: its task is left "
        "out of the step, counted and shown",
    )
    clip: Positive | None = Field(None, description="largest norm of all gradients together")
    accumulate: Count = Field(1, description="batches per step")
    init_from: str | None = Field(None, description="checkpoint to start the weights from")
    checkpoint_every: Count = Field(500, description="steps between checkpoints")
    checkpoint_minutes: Positive = Field(10.0, description="longest time between checkpoints")
    log_every: Count = Field(20, description="steps between lines of the log")
    threads: Count | None = Field(None, description="CPU threads; null: as torch chooses")
    pictures: int = Field(6, ge=0, le=64, description="validation samples drawn")

    @model_validator(mode="after")
    def _has_one_length(self) -> Train:
        if self.epochs is None and not self.phases:
            raise ValueError("`epochs` is missing. Add it")
        if self.epochs is not None and self.phases:
            raise ValueError("epochs are those of the phases. Remove `epochs`, or `phases`")
        return self

    @model_validator(mode="after")
    def _recomputes_once(self) -> Train:
        if self.compile and self.memory == "checkpoint":
            raise ValueError(
                "with `compile`, torch chooses itself what to compute again. Remove `memory`"
            )
        return self

    @property
    def parts(self) -> tuple[Phase, ...]:
        """The phases; one of all epochs where none is named."""
        return self.phases or (Phase(epochs=self.epochs or 1),)

    @property
    def length(self) -> int:
        """Epochs in all."""
        return sum(part.epochs for part in self.parts)

    def phase_of(self, epoch: int) -> tuple[int, int]:
        """Return the number of a phase in `parts`, and the epochs before it.

        Args:
            epoch: 1 for the first; one after the last belongs to the last phase.
        """
        before = 0
        for index, part in enumerate(self.parts[:-1]):
            if epoch <= before + part.epochs:
                return index, before
            before += part.epochs
        return len(self.parts) - 1, before
