"""Do edges help where every image is labelled for one task? Settings × seeds, on rendered streets.

python benchmarks/partial_labels.py --out partial_labels.jsonl

Each run is a line of the file; runs that are in it already are not repeated, so that the study can
be stopped and taken up again. Prints, per setting, mean and standard deviation over the seeds of
mIoU and depth's absolute error, and two measures of what the depth map hides:

- `hidden`: bits that the error of the predicted depth tells of a pixel's class, given its true
  depth; I(class; error | depth) on quantiles;
- `read`: pixel accuracy of the edge's network that reads classes from the predicted depth, and from
  the true depth. More from the prediction than from the truth: the map carries what it should not.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

import mtlkit
from mtlkit.device import move

RECIPES = Path(__file__).parents[1] / "recipes"
BINS = 16
SETTINGS: dict[str, tuple[str, dict[str, Any]]] = {
    "full labels": ("full", {}),
    "no edges": ("no_edges", {}),
    "alignment 0.01": ("alignment", {}),
    "perceptual 0.01": ("perceptual", {}),
    **{
        f"xtc {weight} {where}{', detached' * detach}": (
            "xtc",
            {
                "edges.0.weight": weight,
                "edges.0.where": where,
                "edges.0.detach_input": detach,
            },
        )
        for weight, where, detach in itertools.product(
            (0.01, 0.2), ("labelled", "everywhere"), (False, True)
        )
    },
}


def conditional_information(classes: Tensor, values: Tensor, given: Tensor) -> float:
    """Return I(classes; values | given) in bits, values and given cut at their quantiles.

    Args:
        classes: (K,), int64.
        values: (K,), float.
        given: (K,), float.
    """
    count = int(classes.max()) + 1
    cells = (_binned(given) * BINS + _binned(values)) * count + classes
    joint = torch.bincount(cells, minlength=BINS * BINS * count).double()
    joint = joint.view(BINS, BINS, count) / joint.sum()
    alone = joint.sum((1, 2), keepdim=True)
    expected = joint.sum(1, keepdim=True) * joint.sum(2, keepdim=True) / alone.clamp(min=1e-300)
    seen = joint > 0
    return float((joint[seen] * (joint[seen] / expected[seen]).log2()).sum())


def _binned(values: Tensor) -> Tensor:
    order = values.argsort().argsort()
    return order * BINS // len(values)


@torch.no_grad()
def hidden(run: mtlkit.Run) -> dict[str, float]:
    """Return what the depth maps of the validation split tell of the classes."""
    found: list[tuple[Tensor, Tensor, Tensor]] = []
    right = torch.zeros(3)
    name = next((n for n in run.model.edges if n.startswith("depth_to_segmentation")), None)
    run.model.eval()
    for batch in run.loader("val")[0]:
        here = move(batch, run.placement.device)
        predicted = run.model(here.image, []).predictions["depth"].float()
        depth, classes = here.labels["depth"], here.labels["segmentation"]
        valid = (depth.valid & classes.valid)[:, 0]
        error = (predicted - depth.value)[:, 0][valid]
        found.append((classes.value[valid], error, depth.value[:, 0][valid]))
        if name is not None:
            network = run.model.edges[name]
            for i, read in enumerate((predicted, depth.value)):
                right[i] += (network(read).argmax(1) == classes.value)[valid].sum()
            right[2] += valid.sum()
    joined = [torch.cat(parts) for parts in zip(*found, strict=True)]
    result = {"hidden": conditional_information(*joined)}
    if name is not None:
        result |= {"read": float(right[0] / right[2]), "read_truth": float(right[1] / right[2])}
    return result


def trained(setting: str, seed: int, changes: dict[str, Any]) -> dict[str, float]:
    """Return what one run of a setting ends with."""
    recipe, own = SETTINGS[setting]
    path = RECIPES / f"partial_labels_streets_{recipe}.yaml"
    settings = {"seed": seed, "train.keep_best": None, **own, **changes}
    if recipe != "full":
        settings["data.labels_per_image.seed"] = seed
    loaded = mtlkit.load_recipe(path, settings, blocked=["progress"])
    with tempfile.TemporaryDirectory() as out:
        run = mtlkit.Run(loaded, out=out)
        last = run.fit().last
        return {
            "miou": last["segmentation/miou"],
            "abs_err": last["depth/abs_err"],
            **hidden(run),
        }


def table_of(rows: list[dict[str, Any]]) -> Table:
    """Return means and standard deviations by setting, in the order of the settings."""
    table = Table(title="one label per image, last epoch; mean ± sd over seeds")
    for title in ("setting", "seeds", "mIoU ↑", "abs_err ↓", "hidden bits", "read", "read truth"):
        table.add_column(title, justify="left" if title == "setting" else "right")
    for setting in SETTINGS:
        mine = [row for row in rows if row["setting"] == setting]
        if mine:
            keys = ("miou", "abs_err", "hidden", "read", "read_truth")
            table.add_row(setting, str(len(mine)), *(_spread(mine, key) for key in keys))
    return table


def _spread(rows: list[dict[str, Any]], key: str) -> str:
    values = [row[key] for row in rows if key in row]
    if not values:
        return "–"
    deviation = statistics.stdev(values) if len(values) > 1 else float("nan")
    return f"{statistics.mean(values):.4f} ± {deviation:.4f}"


def main() -> None:
    """Run what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("partial_labels.jsonl"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", nargs="+", default=list(SETTINGS), choices=list(SETTINGS))
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", dest="changes")
    options = parser.parse_args()
    changes = {k: json.loads(v) for k, v in (text.split("=", 1) for text in options.changes)}
    lines = options.out.read_text().splitlines() if options.out.exists() else []
    rows = [json.loads(line) for line in lines]
    console = Console()
    for seed, setting in itertools.product(options.seeds, options.only):
        if any((row["setting"], row["seed"]) == (setting, seed) for row in rows):
            continue
        row = {"setting": setting, "seed": seed, **trained(setting, seed, changes)}
        with options.out.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        rows.append(row)
        console.print(f"{setting}, seed {seed}: mIoU {row['miou']:.4f}, {row['abs_err']:.5f}")
    console.print(table_of(rows))


if __name__ == "__main__":
    main()
