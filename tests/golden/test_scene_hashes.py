"""The bytes of the rendered scenes; scene_hashes.json says how its numbers were made."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mtlkit_plugins.datasets._scenes.disparity import encoded, full_disparity
from mtlkit_plugins.datasets._scenes.render import render
from mtlkit_plugins.datasets._scenes.room import room
from mtlkit_plugins.datasets._scenes.scene import Scene
from mtlkit_plugins.datasets._scenes.street import street

GOLDEN = json.loads(Path(__file__).with_name("scene_hashes.json").read_text())
KINDS = {"streets": street, "rooms": room}


def hashes(build: Callable[[int], Scene], seed: int) -> dict[str, str]:
    """Return the start of a scene's SHA-256 for each field."""
    frame = render(build(seed), *GOLDEN["size"])
    fields = {
        "image": frame.image,
        "classes": frame.classes,
        "instances": frame.instances,
        "edges": frame.edges,
        "disparity": encoded(full_disparity(frame)),
    }
    return {name: digest(values) for name, values in fields.items()}


def digest(values: np.ndarray) -> str:
    little_endian = values.astype(values.dtype.newbyteorder("<"))
    return hashlib.sha256(little_endian.tobytes()).hexdigest()[: GOLDEN["digits"]]


# What alters a hash alters everything that was ever measured on these scenes.
@pytest.mark.parametrize("kind", KINDS)
def test_every_byte_is_the_same_on_every_machine(kind):
    golden = GOLDEN[kind]
    assert len(golden) == 10
    found = {seed: hashes(KINDS[kind], int(seed)) for seed in golden}
    changed = [
        f"{name} of seed {seed}"
        for seed, fields in golden.items()
        for name in fields
        if found[seed].get(name) != fields[name]
    ]
    assert changed == []
    assert found == golden  # no field is missing from the file


if __name__ == "__main__":  # what the file should hold
    note = {name: GOLDEN[name] for name in ("how", "size", "digits")}
    tables = {
        kind: {str(seed): hashes(build, seed) for seed in range(10)}
        for kind, build in KINDS.items()
    }
    print(json.dumps(note | tables, indent=1))
