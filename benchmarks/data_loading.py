"""How fast samples come from 1024×2048 PNGs: decoded every epoch, or kept in memory or on disk.

python benchmarks/data_loading.py [--images 32] [--names 10] [--workers 2] [--rounds 3] [--quick]

Writes Cityscapes' files (rendered at 128×256 and enlarged, which PNG decoders find no easier per
pixel than the labels of real ones), then times whole epochs in turns: `plain` decodes and resizes
every file of every epoch with the released code's steps (Pillow, resize to the nearest, numpy to
tensor, its random flip and scale-crop), `none` does so with mtlkit's reader, `ram` and `disk` have
seen every sample once. All give batches of the same sizes through the same number of workers. Every
file has several names (links), so that an epoch is long enough to be timed.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

import mtlkit
from mtlkit.data import build_loader
from mtlkit_plugins.datasets._cityscapes_labels import label_to_class
from mtlkit_plugins.datasets._scenes.writing import all_jobs

SIZE = (128, 256)
ENLARGED, BARELY_ENLARGED = 8, 2  # how often: to 1024×2048, or only to see that it runs
RECIPE = """
data: {{type: cityscapes, root: "{root}", size: [128, 256], labels: [segmentation, depth]}}
loader: {{batch_size: 8, workers: {workers}, cache: {cache}}}
encoder: {{type: resnet, depth: 18, weights: null}}
architecture: {{type: shared_encoder}}
tasks: {{segmentation: {{classes: 7}}, depth: {{}}}}
weighting: {{type: equal}}
optimizer: {{type: adam, lr: 0.0001}}
train: {{epochs: 1}}
"""


class Plain(Dataset[tuple[torch.Tensor, ...]]):
    """The released code's steps for one sample (akarimoon/xtask_mt, dataloader.py), re-stated."""

    def __init__(self, root: Path) -> None:
        self.images = sorted(root.glob("leftImg8bit/train/*/*.png"))
        self.table = label_to_class(7)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, ...]:
        path = str(self.images[index])
        size = SIZE[::-1]
        image = Image.open(path).convert("RGB").resize(size, Image.Resampling.NEAREST)
        label_file = path.replace("_leftImg8bit.png", "_gtFine_labelIds.png")
        label = Image.open(label_file.replace("leftImg8bit", "gtFine"))
        label = label.resize(size, Image.Resampling.NEAREST)
        depth = Image.open(path.replace("leftImg8bit", "disparity"))
        depth = depth.resize(size, Image.Resampling.NEAREST)
        pixels = torch.from_numpy(np.asarray(image, np.float32).transpose(2, 0, 1) / 255)
        classes = torch.from_numpy(self.table[np.asarray(label)].astype(np.int64))
        disparity = torch.from_numpy((np.asarray(depth, np.float32)[None] - 1) / 65536)
        if random.random() < 0.5:
            pixels, classes, disparity = (x.flip(-1) for x in (pixels, classes, disparity))
        return self._scale_crop(pixels, classes, disparity)

    def _scale_crop(self, *maps: torch.Tensor) -> tuple[torch.Tensor, ...]:
        scale = random.choice((1.0, 1.2, 1.5))
        h, w = int(SIZE[0] / scale), int(SIZE[1] / scale)
        top, left = random.randint(0, SIZE[0] - h), random.randint(0, SIZE[1] - w)
        views = [x[..., top : top + h, left : left + w] for x in maps]
        image = functional.interpolate(views[0][None], SIZE, mode="bilinear", align_corners=True)[0]
        classes = functional.interpolate(views[1][None, None].float(), SIZE)[0, 0].long()
        disparity = functional.interpolate(views[2][None], SIZE)[0]
        return image, classes, disparity, disparity > 0


def write_files(root: Path, options: argparse.Namespace) -> None:
    """Write the files of Cityscapes, enlarged to its size, and give each several names."""
    factor = BARELY_ENLARGED if options.quick else ENLARGED
    for job in all_jobs("streets", {"train": options.images, "val": 1}, 0, SIZE, root):
        job.write()
    for folder in ("leftImg8bit", "gtFine", "disparity"):
        for path in sorted((root / folder).rglob("*.png")):
            enlarge(path, factor)
            for number in range(1, options.names):
                city, rest = path.name.split("_", 1)
                path.with_name(f"{city}_9{number:03d}{rest}").hardlink_to(path)


def enlarge(path: Path, factor: int) -> None:
    """Enlarge a PNG; an image gets noise, as cameras have, lest it compress too well."""
    with Image.open(path) as small:
        values = np.asarray(small).repeat(factor, 0).repeat(factor, 1)
    if values.ndim == 3 and values.shape[2] == 3:
        noise = np.random.default_rng(0).integers(-4, 5, values.shape)
        values = (values.astype(np.int16) + noise).clip(0, 255).astype(np.uint8)
    Image.fromarray(values).save(path)


def epochs(loader: DataLoader) -> Callable[[int], float]:
    """Return what runs an epoch and gives its samples per second."""

    def run(number: int) -> float:
        began = time.perf_counter()
        images = sum(len(batch[0] if isinstance(batch, list) else batch.image) for batch in loader)
        return images / (time.perf_counter() - began)

    return run


def main() -> None:
    """Print samples per second of each way, and how many times as fast as plain it is."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--names", type=int, default=10)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="small files, to see that it runs")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "cityscapes"
        os.environ["MTLKIT_CACHE"] = str(Path(folder) / "cache")
        write_files(root, options)
        ways = {"plain": epochs(plain_loader(root, options.workers))}
        for cache in ("none", "ram", "disk"):
            ways[cache] = epochs(our_loader(root, cache, options.workers, Path(folder)))
        found: dict[str, list[float]] = {name: [] for name in ways}
        for number in range(options.rounds + 1):
            for name, run in ways.items():
                found[name].append(run(number))
    report(found)


def plain_loader(root: Path, workers: int) -> DataLoader:
    """Return the loader of the released code's steps."""
    return DataLoader(
        Plain(root), 8, shuffle=True, num_workers=workers, persistent_workers=workers > 0
    )


def our_loader(root: Path, cache: str, workers: int, folder: Path) -> DataLoader:
    """Return mtlkit's loader."""
    path = folder / f"{cache}.yaml"
    path.write_text(RECIPE.format(root=root, workers=workers, cache=cache))
    return build_loader(mtlkit.load_recipe(path), "train", torch.device("cpu"))[0]


def report(found: dict[str, list[float]]) -> None:
    """Print a row for each way; the first epoch fills the caches and is told apart."""
    print(f"{'':8}{'first epoch':>14}{'later':>10}{'times plain':>13}   (samples/s, medians)")
    plain = statistics.median(found["plain"][1:])
    for name, (first, *later) in found.items():
        speed = statistics.median(later)
        print(f"{name:8}{first:14.1f}{speed:10.1f}{speed / plain:13.1f}")


if __name__ == "__main__":
    main()
