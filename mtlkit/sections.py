"""Sections of a recipe that no plugin fills: loading and training."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from mtlkit.device import DEVICE_PATTERN, DEVICE_WORDS

Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Section(BaseModel):
    """A part of a recipe: frozen, and every key is known."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Loader(Section):
    """How samples become batches."""

    batch_size: Count = Field(description="samples of a batch")
    workers: int = Field(
        0, ge=0, le=256, description="processes that load, at most one a core; 0: none"
    )
    cache: Literal["auto", "none", "ram", "disk"] = Field(
        "auto", description="where decoded samples are kept; auto: as the data set advises"
    )
    drop_last: bool = Field(False, description="leave out an incomplete last training batch")


class KeepBest(Section):
    """Which checkpoint is the best one."""

    metric: str = Field(description="such as loss/total or segmentation/miou")
    mode: Literal["min", "max"] = Field(description="which way is better")


class Train(Section):
    """How long, where and how exactly."""

    epochs: Count = Field(description="passes over the training split")
    device: str = Field(
        "auto",
        pattern=DEVICE_PATTERN,
        description=DEVICE_WORDS,
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto", description="auto: bf16 where the hardware has it natively"
    )
    keep_best: KeepBest | None = Field(None, description="null: only the last state is kept")
    clip: Positive | None = Field(None, description="largest norm of all gradients together")
    accumulate: Count = Field(1, description="batches per step")
    init_from: str | None = Field(None, description="checkpoint to start the weights from")
    checkpoint_every: Count = Field(500, description="steps between checkpoints")
    checkpoint_minutes: Positive = Field(10.0, description="longest time between checkpoints")
    log_every: Count = Field(20, description="steps between lines of the log")
    threads: Count | None = Field(None, description="CPU threads; null: as torch chooses")
    pictures: int = Field(6, ge=0, le=64, description="validation samples drawn")
