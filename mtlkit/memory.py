"""Samples as records of bytes, in shared memory or in one file, each guarded by a checksum.

A record is a checksum, a presence word and the bytes of every field; a record that is missing, torn
or damaged reads as None and is made anew. Nothing is mapped into memory, so that a full disk is an
error message and no signal.
"""

from __future__ import annotations

import contextlib
import os
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from mtlkit.camera import rewrapped
from mtlkit.errors import CacheError

_HEADER = struct.Struct("<II")  # checksum; 1 << 31 | which fields are there


class Memory(Protocol):
    """Bytes by record number, shared by all worker processes."""

    def read(self, index: int) -> bytes:
        """Return a record, or zeros."""

    def write(self, index: int, record: bytes) -> None:
        """Keep a record."""


class RamMemory:
    """Records in shared memory."""

    def __init__(self, count: int, size: int) -> None:
        try:
            self.records = torch.zeros(count, size, dtype=torch.uint8)
            self.records.share_memory_()  # type: ignore[no-untyped-call]
        except RuntimeError as error:
            raise CacheError(
                f"{count * size / 2**20:.0f} MiB of shared memory for samples cannot be had "
                f"({str(error).splitlines()[0][:200]}). Enlarge /dev/shm, or write "
                "loader.cache: disk"
            ) from None

    def read(self, index: int) -> bytes:
        """Return a record, or zeros.

        Args:
            index: its number.
        """
        record: bytes = self.records[index].numpy().tobytes()
        return record

    def write(self, index: int, record: bytes) -> None:
        """Keep a record.

        Args:
            index: its number.
            record: of the size given at construction.
        """
        self.records[index] = torch.frombuffer(bytearray(record), dtype=torch.uint8)


class DiskMemory:
    """Records in one sparse file; opened by each process for itself."""

    def __init__(self, path: Path, size: int) -> None:
        self.path, self.size = path, size
        self._file: int | None = None

    def __getstate__(self) -> dict[str, object]:
        return {"path": self.path, "size": self.size, "_file": None}

    def read(self, index: int) -> bytes:
        """Return a record, or zeros.

        Args:
            index: its number.
        """
        file = self._open()
        try:
            return os.pread(file, self.size, index * self.size)
        except OSError:  # made anew, as what is damaged
            return b""

    def write(self, index: int, record: bytes) -> None:
        """Keep a record.

        Args:
            index: its number.
            record: of the size given at construction.

        Raises:
            CacheError: the disk is full or not writable.
        """
        rest, place = memoryview(record), index * self.size
        try:
            while rest:  # a disk that fills up takes a part, and refuses the next
                written = os.pwrite(self._open(), rest, place)
                rest, place = rest[written:], place + written
        except OSError as error:
            raise self._failed(error) from None

    def _open(self) -> int:
        if self._file is None:
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
            except OSError as error:
                raise self._failed(error) from None
        return self._file

    def __del__(self) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):
                os.close(self._file)

    def _failed(self, error: OSError) -> CacheError:
        return CacheError(
            f"{self.path}: cannot keep samples here ({error.strerror}). Set MTLKIT_CACHE to "
            "another folder, or loader.cache to none"
        )


def record_size(fields: Mapping[str, Tensor]) -> int:
    """Return the bytes of one record.

    Args:
        fields: blank sample tensors by name.
    """
    return _HEADER.size + sum(x.numel() * x.element_size() for x in fields.values())


def pack(sample: Mapping[str, Tensor], fields: Mapping[str, Tensor]) -> bytes | None:
    """Return a sample as a record; None if it does not have the shape of the fields.

    Args:
        sample: tensors by name; fields may be missing.
        fields: blank sample tensors by name.
    """
    present, parts = 1 << 31, []
    for bit, (name, blank) in enumerate(fields.items()):
        value = sample.get(name, blank)
        if value.shape != blank.shape or value.dtype != blank.dtype:
            return None
        present |= (name in sample) << bit
        parts.append(value.as_subclass(Tensor).contiguous().numpy().tobytes())
    if not set(sample) <= set(fields):
        return None
    body = struct.pack("<I", present) + b"".join(parts)
    return struct.pack("<I", zlib.crc32(body)) + body


def unpack(record: bytes, fields: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
    """Return the sample of a record; None if it is missing or damaged.

    Args:
        record: from `pack`.
        fields: as it was packed.
    """
    if len(record) != record_size(fields):
        return None
    checksum, present = _HEADER.unpack_from(record)
    if not present or zlib.crc32(memoryview(record)[4:]) != checksum:
        return None
    sample, start = {}, _HEADER.size
    buffer = bytearray(record)
    for bit, (name, blank) in enumerate(fields.items()):
        flat = torch.frombuffer(buffer, dtype=blank.dtype, count=blank.numel(), offset=start)
        start += blank.numel() * blank.element_size()
        if present >> bit & 1:
            sample[name] = rewrapped(flat.reshape(blank.shape), blank)
    return sample
