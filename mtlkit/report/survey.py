"""The survey of a recipe's data as lines and tables for the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby

from rich.table import Table

from mtlkit.report.table import format_number
from mtlkit.survey import (
    ClassCounts,
    Coverage,
    Distribution,
    EdgeCounts,
    LabelNumbers,
    Leaks,
    Learnable,
    NormalCounts,
    SizesOfKind,
    SplitSurvey,
)
from mtlkit.transforms import DepthMap

MOST_NAMED = 20  # of files and samples in a list
MOST_ODD = 3  # files of an odd size that are named, of each kind
BAR = 20  # letters of the longest bar
LEAST_FACING = 0.9  # of all normals; edges of things round off a few, wrong axes most
LEAST_UNIT = 0.99
QUANTILES = {"1 %": 0.01, "median": 0.5, "99 %": 0.99}


def survey_report(surveys: Sequence[SplitSurvey]) -> Iterator[str | Table]:
    """Yield what was found in each data set: lines, and tables with a column per split.

    Args:
        surveys: of all splits, those of a data set beside each other.
    """
    for number, (_, group) in enumerate(groupby(surveys, lambda s: s.look.dataset.title)):
        splits = list(group)
        if number:
            yield ""
        yield from _heading(splits)
        if any(survey.labels for survey in splits):
            yield _coverage_table(splits)
            for table in _value_tables(splits):
                yield from ("", table)
        yield from (f"! {text}" for survey in splits for text in _warnings(survey))


def tasks_table(found: Mapping[str, Learnable]) -> Table:
    """Return a table of what each task can learn from.

    Args:
        found: by task.
    """
    table = _table("task", "training images with its labels", "share")
    for name, one in found.items():
        share = percent(one.images, one.total)
        table.add_row(name, f"{one.images} of {one.total}", share)
    return table


def leak_lines(found: Leaks) -> Iterator[str]:
    """Yield what is in both training and validation data; nothing where nothing is.

    Args:
        found: files and images.
    """
    if found.files:
        yield f"leakage: {_several(len(found.files), 'file')} of train and val alike:"
        yield from named(map(str, found.files), len(found.files))
    if found.images:
        count = _several(len(found.images), "validation image")
        yield f"leakage: {count} with the very pixels of a training image:"
        pairs = (f"{val} is {train}" for train, val in found.images)
        yield from named(pairs, len(found.images))


def bad_lines(texts: Sequence[str]) -> Iterator[str]:
    """Yield what cannot be used and why; nothing where all is well.

    Args:
        texts: a sentence each.
    """
    if texts:
        yield f"{_several(len(texts), 'problem')} with files or samples:"
        yield from named(texts, len(texts))


def named(texts: Iterator[str] | Sequence[str], count: int) -> Iterator[str]:
    """Yield the first lines of a list, and how many there are more.

    Args:
        texts: the lines.
        count: of them.
    """
    for _, text in zip(range(MOST_NAMED), texts, strict=False):
        yield f"  {text}"
    if count > MOST_NAMED:
        yield f"  … and {count - MOST_NAMED} more"


def percent(part: int, whole: int) -> str:
    """Return a share in percent, which says 0 or 100 only where that is exact.

    Args:
        part: of the whole.
        whole: 0 gives a dash.
    """
    if not whole:
        return "–"
    if part in (0, whole):
        return f"{100 * part // whole} %"
    share = 100 * part / whole
    if share < 0.1 or share > 99.9:
        return "< 0.1 %" if share < 0.1 else "> 99.9 %"
    return f"{share:.1f} %"


def _heading(splits: Sequence[SplitSurvey]) -> Iterator[str]:
    dataset = splits[0].look.dataset
    height, width = dataset.size
    counts = ", ".join(f"{s.look.split} {_count(s)}" for s in splits)
    yield f"{dataset.title}: samples of {height}×{width}; {counts}"
    for survey in splits:
        sizes = survey.sizes
        if sizes:
            yield f"  {survey.look.split} files: {', '.join(map(_sizes, sizes))}"
            yield from (line for kind in sizes for line in _odd(kind))


def _count(survey: SplitSurvey) -> str:
    seen, count = len(survey.seen), survey.look.count
    return str(count) if seen == count else f"{seen} of {count}"


def _sizes(kind: SizesOfKind) -> str:
    parts = [f"{_size(size)} ×{count}".strip() for size, count in kind.counts.items()]
    return f"{kind.kind} {' and '.join(parts[:MOST_ODD])}" + " and others" * (len(parts) > MOST_ODD)


def _size(size: Sequence[int]) -> str:
    return "×".join(map(str, size))


def _odd(kind: SizesOfKind) -> Iterator[str]:
    usual = _size(next(iter(kind.counts))) or "without a size"
    for path, size in kind.odd[:MOST_ODD]:
        yield f"    {path} is {_size(size) or 'unreadable'}; most are {usual}"
    if len(kind.odd) > MOST_ODD:
        yield f"    … and {len(kind.odd) - MOST_ODD} more of another size"


def _several(count: int, word: str) -> str:
    return f"{count} {word}{'s' * (count != 1)}"


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(columns[0], overflow="fold")
    for title in columns[1:]:
        table.add_column(title, justify="right", no_wrap=True)
    return table


def _coverage_table(splits: Sequence[SplitSurvey]) -> Table:
    titles = [f"{s.look.split} {word}" for s in splits for word in ("images", "pixels")]
    table = _table("label or extra", *titles)
    for name, spec in splits[0].look.specs.items():
        if spec.is_label:
            cells = [cell for s in splits for cell in _coverage_cells(s, name)]
        else:
            cells = [c for s in splits for c in (percent(s.extras[name], s.readable), "")]
        table.add_row(name, *cells)
    return table


def _coverage_cells(survey: SplitSurvey, name: str) -> tuple[str, str]:
    found = survey.labels.get(name)
    coverage = found.coverage if found is not None else Coverage(0, 0, 0)
    return percent(coverage.images, survey.readable), percent(coverage.valid, coverage.total)


def _value_tables(splits: Sequence[SplitSurvey]) -> Iterator[Table]:
    """Yield a table for each class map, and one for all labels of every other kind."""
    distances = _table("distances", "split", "min", *QUANTILES, "max", "unit")
    normals = _table("normal maps", "split", "of unit length", "towards the camera")
    edges = _table("edge maps", "split", "of the known pixels")
    for name in splits[0].look.specs:
        found = {s.look.split: s.labels[name] for s in splits if name in s.labels}
        values = {split: numbers.values for split, numbers in found.items()}
        if any(isinstance(x, ClassCounts) for x in values.values()):
            yield _class_table(name, splits[0].look.specs[name].classes, found)
        for split, x in values.items():
            if isinstance(x, Distribution) and x.total:
                middle = [format_number(x.quantile(share)) for share in QUANTILES.values()]
                ends = format_number(x.low), format_number(x.high)
                unit = splits[0].look.specs[name].unit
                distances.add_row(name, split, ends[0], *middle, ends[1], unit)
            if isinstance(x, NormalCounts):
                cells = percent(x.unit, x.valid), percent(x.facing, x.valid)
                normals.add_row(name, split, *cells)
            if isinstance(x, EdgeCounts):
                edges.add_row(name, split, percent(x.edges, x.known))
    yield from (table for table in (distances, normals, edges) if table.row_count)


def _class_table(name: str, classes: Sequence[str], found: Mapping[str, LabelNumbers]) -> Table:
    counted = {s: x.values for s, x in found.items() if isinstance(x.values, ClassCounts)}
    table = _table(f"classes of {name}", *counted)
    table.add_column("", no_wrap=True)
    first = next(iter(counted.values())).shares
    largest = max(float(first.max()), 1e-12)
    for i in range(len(first)):
        counts = [int(x.counts[i]) for x in counted.values()]
        if not classes and not any(counts):
            continue  # an id that is no class
        totals = [int(x.counts.sum()) for x in counted.values()]
        cells = [
            percent(*pair) if pair[0] else "never" for pair in zip(counts, totals, strict=True)
        ]
        bar = _bar(float(first[i]) / largest)
        table.add_row(classes[i] if classes else str(i), *cells, bar)
    return table


def _bar(share: float) -> str:
    full = "█" * round(BAR * share)
    return full or "▏" * (share > 0)  # what is rare is not nothing


def _warnings(survey: SplitSurvey) -> Iterator[str]:
    for name, spec in survey.look.specs.items():
        where, numbers = f"{name}, {survey.look.split}", survey.labels.get(name)
        if spec.is_label and (numbers is None or not numbers.coverage.images):
            yield f"{where}: no sample has it"
            continue
        values = None if numbers is None else numbers.values
        if isinstance(values, NormalCounts):
            yield from _normal_warnings(where, values)
        if isinstance(values, Distribution) and issubclass(spec.kind, DepthMap):
            wrong = values.total - values.above_zero
            if wrong:
                share = percent(wrong, values.total)
                yield f"{where}: {share} of the valid pixels are at 0 or below. Make them invalid"


def _normal_warnings(where: str, values: NormalCounts) -> Iterator[str]:
    if values.facing < LEAST_FACING * values.valid:
        by = "judged by the camera's rays" if values.by_rays else "judged by z < 0"
        yield (
            f"{where}: only {percent(values.facing, values.valid)} point towards the camera, "
            f"{by}: the axes are wrong. They must be x right, y down, z forward, so that a wall "
            "seen from the front is (0, 0, −1)"
        )
    if values.unit < LEAST_UNIT * values.valid:
        yield (
            f"{where}: only {percent(values.unit, values.valid)} are of unit length. Look at how "
            "the files' numbers become −1 to 1, and at resizing"
        )
