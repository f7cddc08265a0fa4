"""Which samples of a user's own data validate."""

from __future__ import annotations

import fnmatch
import hashlib
from collections.abc import Sequence
from pathlib import Path

from pydantic import Field, model_validator

from mtlkit.errors import MissingError, nearest
from mtlkit.sections import Section

from ._listing import read_names, some


class Validation(Section):
    """Which samples validate; the others train. One of `list`, `share` and `matching` says it.

    `share` takes exactly that part, of the samples with the smallest hashes of seed and name. Files
    that are added move others between the splits only at its edge, and in one direction. Neighbours
    in a video look alike: do not part them by share.
    """

    list_file: str | None = Field(
        None, alias="list", description="text file below root with a name a line: these validate"
    )
    train_list: str | None = Field(
        None, description="beside list, the names that train; null: all others"
    )
    share: float | None = Field(None, gt=0, lt=1, description="of all samples, by chance")
    seed: int = Field(0, ge=0, description="of that chance")
    matching: str | None = Field(None, description="names such as scene7_* (* is any text)")

    @model_validator(mode="after")
    def _says_one_thing(self) -> Validation:
        given = [x for x in (self.list_file, self.share, self.matching) if x is not None]
        if len(given) != 1:
            raise ValueError("takes one of `list`, `share` and `matching`. Give exactly one")
        if self.train_list is not None and self.list_file is None:
            raise ValueError("train_list goes with `list`. Add the list of what validates")
        return self

    def parted(self, root: Path, names: Sequence[str]) -> dict[str, list[str]]:
        """Return the names of each split, in their order.

        Args:
            root: folder of the lists.
            names: of all samples, sorted.

        Raises:
            MissingError: a list cannot be read, names what is not there, or what the other names.
        """
        if self.share is not None:
            val = set(self._drawn(names, self.share))
        elif self.list_file is not None:
            val = _listed(root, "list", self.list_file, names)
        else:
            val = {name for name in names if fnmatch.fnmatchcase(name, self.matching or "")}
        train = set(names) - val
        if self.train_list is not None:
            train = _listed(root, "train_list", self.train_list, names)
            both = sorted(train & val)
            if both:
                raise MissingError(
                    f"data.val: {self.list_file} and {self.train_list} share {some(both)}. Name "
                    "every sample in one of the two"
                )
        return {
            "train": [name for name in names if name in train],
            "val": [name for name in names if name in val],
        }

    def _drawn(self, names: Sequence[str], share: float) -> list[str]:
        """Return the share of names that validate; of two names or more, neither none nor all."""
        count = min(max(1, round(share * len(names))), max(1, len(names) - 1))

        def hashed(name: str) -> bytes:
            return hashlib.sha256(f"{self.seed}/{name}".encode()).digest()

        return sorted(names, key=hashed)[:count]


def _listed(root: Path, key: str, file: str, names: Sequence[str]) -> set[str]:
    """Return the names that a file lists, after a check that there are such images."""
    path = root / file
    if not path.is_file():
        raise MissingError(f"data.val.{key}: {path} is no file. Give one with a name a line")
    listed, known = read_names(path), set(names)
    for name, line in listed.items():
        if name not in known:
            like = nearest(name.rsplit(".", 1)[0], names) or f"one is {names[0]!r}. "
            raise MissingError(
                f"{path}:{line}: no image is called {name!r}; {like}Write what {{id}} stands for, "
                "without folder and ending"
            )
    return set(listed)
