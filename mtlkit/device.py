"""Device, precision, memory format, seeds, threads: the only file that knows hardware by name."""

from __future__ import annotations

import contextlib
import os
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mtlkit.errors import CheckpointError, MissingError, UsageError
from mtlkit.ranks import Ranks
from mtlkit.structures import Batch, Label

DEVICE_PATTERN = r"^(auto|cpu|cuda(:\d{1,2})?)$"
"""What `train.device` may be."""
DEVICE_WORDS = "auto, cpu, cuda or cuda:1"
"""The same in words."""
FUSED_DEVICES = ("cpu", "cuda")
"""Device types with fused optimizer kernels."""


@dataclass(frozen=True)
class Placement:
    """Where and in what precision a run computes."""

    device: torch.device
    precision: str

    @property
    def line(self) -> str:
        """What the first line of a run says."""
        if self.device.type == "cuda":
            name = torch.cuda.get_device_name(self.device)
        else:
            name = f"{torch.get_num_threads()} threads"
        return f"{self.device} ({name}), {self.precision}"


def place(device: str, precision: str) -> Placement:
    """Return the device and precision that a recipe asks for.

    Args:
        device: auto, cpu, cuda or cuda:N.
        precision: auto, fp32, tf32, bf16 or fp16.

    Raises:
        MissingError: the device is not there, or has no such precision.
        UsageError: started as one of several processes that do not know each other, or all of
            them are to share one device.
    """
    ranks = Ranks.here()
    if ranks.count == 1 and (count := os.environ.get("WORLD_SIZE", "1")) != "1":
        raise UsageError(
            f"WORLD_SIZE is {count}, but the processes do not know each other. Start them by "
            "`torchrun -m mtlkit run`, or begin your script with `mtlkit.launch.joined()`"
        )
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    chosen = torch.device(device)
    if chosen.type == "cuda":
        chosen = _own_cuda(chosen, ranks)
        _need_cuda(chosen, device)
        torch.cuda.set_device(chosen)
    if precision == "auto":
        precision = "bf16" if has_native_bf16(chosen) else "fp32"
    if precision == "tf32" and not _is_ampere(chosen):
        raise MissingError(
            f"train.precision: tf32: {chosen} has none; NVIDIA's GPUs have it from Ampere on. "
            "Write auto, or fp32"
        )
    if chosen.type == "cuda":  # fp32 is fp32: torch lets convolutions use TF32 unless told
        torch.backends.cudnn.allow_tf32 = precision != "fp32"
        torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    return Placement(chosen, precision)


def _own_cuda(device: torch.device, ranks: Ranks) -> torch.device:
    """Return the device of this rank, with its number."""
    if device.index is not None and ranks.count > 1:
        raise UsageError(f"train.device: {device}: is one device for all ranks. Write cuda")
    mine = int(os.environ.get("LOCAL_RANK", "0")) if device.index is None else device.index
    return torch.device("cuda", mine)


def distributed_backend() -> str:
    """Return the backend of torch.distributed: gloo, and NCCL for what is on a GPU."""
    return "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"


def has_synced_norms(device: torch.device) -> bool:
    """Return whether torch's batch norms can see the batches of all ranks there.

    Args:
        device: of the batches.
    """
    return device.type == "cuda"


def _need_cuda(device: torch.device, asked: str) -> None:
    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if found <= (device.index or 0):
        raise MissingError(
            f"train.device: {asked}: torch {torch.__version__} sees {found} CUDA devices here, no "
            f"{device}. Use --device cpu, or install a driver and a CUDA build of torch"
        )


def has_native_bf16(device: torch.device) -> bool:
    """Return whether a device has instructions for bf16, so that it beats fp32 there.

    Args:
        device: any.
    """
    if device.type != "cpu":
        return _is_ampere(device)
    onednn: Any = torch.backends.mkldnn  # torch has no types for it
    return bool(onednn.is_available()) and _is_bf16_fast()


def _is_ampere(device: torch.device) -> bool:
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)


def _is_bf16_fast() -> bool:
    """OneDNN also emulates bf16 on AVX512 without instructions for it, slower than fp32."""
    cpu: Any = torch.cpu
    names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(cpu, name)() for name in names if hasattr(cpu, name))


def autocast(placement: Placement) -> contextlib.AbstractContextManager[Any]:
    """Return the autocast context of a placement.

    Args:
        placement: from `place`.
    """
    low = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(placement.precision)
    return torch.autocast(placement.device.type, dtype=low, enabled=low is not None)


def gradient_scaler(placement: Placement) -> torch.amp.GradScaler:
    """Return what keeps gradients within the range of fp16; with other precisions it does nothing.

    Args:
        placement: from `place`.
    """
    enabled = placement.precision == "fp16"
    return torch.amp.GradScaler(placement.device.type, enabled=enabled)


def without_autocast(device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """Return a context in which nothing is cast; meta tensors know no autocast.

    Args:
        device: of the tensors inside.
    """
    if device.type == "meta":
        return contextlib.nullcontext()
    return torch.autocast(device.type, enabled=False)


def to_device(module: nn.Module, placement: Placement) -> nn.Module:
    """Return the module on its device, its convolutions in channels_last order.

    Args:
        module: any.
        placement: from `place`.
    """
    moved: nn.Module = module.to(memory_format=torch.channels_last).to(placement.device)
    return moved


def move(batch: Batch, device: torch.device) -> Batch:
    """Return the batch on the device, the copy overlapping with compute where memory is pinned.

    Args:
        batch: from a loader.
        device: where to.
    """

    def there(x: Tensor) -> Tensor:
        return x.to(device, non_blocking=True)

    def label(x: Label) -> Label:
        return replace(x, value=there(x.value), valid=there(x.valid))

    return replace(
        batch,
        image=there(batch.image).contiguous(memory_format=torch.channels_last),
        labels={name: label(x) for name, x in batch.labels.items()},
        extras={name: there(x) for name, x in batch.extras.items()},
        counts={n: type(c)(*map(there, c)) for n, c in batch.counts.items()},
    )


def pins_memory(device: torch.device) -> bool:
    """Return whether a loader should pin its batches for this device."""
    return device.type == "cuda"


def usable_cores() -> int:
    """Return the number of CPU cores for this process: its share, where torchrun started more."""
    has_affinity = hasattr(os, "sched_getaffinity")
    cores = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
    return max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def set_threads(threads: int | None) -> int:
    """Set the number of CPU threads, and return the number in force.

    Args:
        threads: None leaves it as it is.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    return torch.get_num_threads()


def seed_everything(seed: int) -> None:
    """Seed torch, numpy and random.

    Args:
        seed: any.
    """
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)  # plugins may use the global generator
    random.seed(seed)


@contextlib.contextmanager
def seeded_draws(*seeds: int) -> Iterator[None]:
    """Draw from (seeds) inside, then restore torch's, numpy's and random's generators.

    Args:
        seeds: such as (seed, epoch, index).
    """
    state = random.getstate(), np.random.get_state()
    mixed = np.random.SeedSequence(seeds).generate_state(2, np.uint32)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(int(mixed[0]) << 31 | int(mixed[1]) >> 1)
        np.random.seed(int(mixed[0]))
        random.seed(int(mixed[1]))
        try:
            yield
        finally:
            random.setstate(state[0])
            np.random.set_state(state[1])


def rng_state() -> dict[str, Any]:
    """Return the state of every generator as tensors and plain values."""
    legacy: Any = np.random.get_state(legacy=True)
    kind, keys, position, has_gauss, gauss = legacy
    version, words, gauss_next = random.getstate()
    state: dict[str, Any] = {
        "torch": torch.get_rng_state(),
        "numpy": [kind, torch.from_numpy(keys.astype(np.int64)), position, has_gauss, gauss],
        "python": [version, list(words), gauss_next],
    }
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def restore_rng(state: Mapping[str, Any]) -> None:
    """Set every generator to a saved state.

    Args:
        state: from `rng_state`.

    Raises:
        CheckpointError: it is not such a state.
    """
    try:
        torch.set_rng_state(state["torch"])
        kind, keys, position, has_gauss, gauss = state["numpy"]
        words = keys.numpy().astype(np.uint32)
        np.random.set_state((kind, words, position, has_gauss, gauss))
        version, integers, gauss_next = state["python"]
        random.setstate((version, tuple(integers), gauss_next))
        if "cuda" in state and torch.cuda.device_count() == len(state["cuda"]):
            torch.cuda.set_rng_state_all(state["cuda"])
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"the state of the random generators is damaged: {error}") from None


def columns_at_once(device: torch.device) -> int:
    """Return how many columns of a wide matrix to work on at once: what fits into a cache.

    Args:
        device: of the matrix.
    """
    return 1 << 16 if device.type == "cpu" else 1 << 22
