"""`mtlkit affinity`: results on stdout, progress on stderr."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from mtlkit.actions import Source, results, talk
from mtlkit.document import parse_document
from mtlkit.errors import UsageError
from mtlkit.folder import describe, write_recipe
from mtlkit.recipe import recipe_of

from .._progress import stoppable, tracked
from .._steps import fresh_folder
from .chart import Chart, title
from .choice import Choice
from .picture import draw_graph
from .report import print_report, say, write_json
from .study import Study
from .subject import Subject, Wish, subject_of
from .writer import check_target, text_of, write_new


def visit(source: Source, wish: Wish, out: Path) -> None:
    """Probe a recipe, print which edges help, and keep the numbers and a picture.

    Args:
        source: a recipe, or a run folder or checkpoint in its place.
        wish: how much of what.
        out: where run folders are made.

    Raises:
        UsageError: there is nothing to probe, or it cannot be written as asked for.
        PluginError: a part of the recipe fails.
        MissingError: data, the device or a label is not there, or a file cannot be written.
        DivergedError: a loss or a gradient is no number.
        InterruptedRun: Ctrl-C was pressed.
    """
    subject = subject_of(source, wish.kind)
    if wish.write is not None:
        check_target(wish.write, subject, source.settings)
    if subject.is_trained and wish.warm_up is None:
        wish = replace(wish, warm_up=0)
    study = Study(subject.run, wish)
    with fresh_folder(out, f"{subject.run.recipe.name}-affinity") as folder:
        _measure(study)
        print_report(study.chart)
        _keep(subject, study.chart, folder)
    if wish.write is not None:
        _write(wish.write, subject, source, study.chart)


def _measure(study: Study) -> None:
    with stoppable("stopped before the last probe; nothing was written"):
        if study.steps:
            for _ in tracked(study.warm_up(), "warm-up", study.steps):
                pass
        for _ in tracked(study.probes(), "probes", study.tries):
            pass


def _keep(subject: Subject, chart: Chart, folder: Path) -> None:
    """Write what was measured, with the recipe and where it ran."""
    run = subject.run
    describe(folder, chart.recipe, run.placement.line, run.threads)
    write_recipe(folder, chart.recipe)
    write_json(chart, folder / "affinity.json")
    drawn = draw_graph(chart, folder / "affinity.png")
    say("")
    if drawn is None:
        talk.print("picture      not drawn: pip install 'mtlkit[viz]'", markup=False)
    else:
        results.print(f"picture      {drawn}", soft_wrap=True, markup=False)
    results.print(f"numbers      {folder / 'affinity.json'}", soft_wrap=True, markup=False)


def _write(path: Path, subject: Subject, source: Source, chart: Chart) -> None:
    choice = Choice(chart)
    text = text_of(subject, choice)
    _compare(path, text, source, choice)
    write_new(path, text)
    say("")
    for line in _kept_lines(choice):
        say(line)
    say("")
    results.print(f"recipe       {path}", soft_wrap=True, markup=False)


def _compare(path: Path, text: str, source: Source, choice: Choice) -> None:
    """Read the text before it is a file: it must give the edges that are kept."""
    document = parse_document(text, path, source.overrides(), lenient=("data",))
    recipe = recipe_of(document, source.plugins, source.blocked)
    if {edge.key for edge in recipe.all_edges} != choice.kept:
        raise UsageError(
            f"--write {path}: the edges cannot be told apart in the recipe's text. Write each of "
            "them on a line of its own, without anchors"
        )


def _kept_lines(choice: Choice) -> Iterator[str]:
    edges = choice.chart.edges
    titles = [title(edge, edges) for edge in edges]
    width = max(map(len, titles))
    for edge, words in zip(edges, titles, strict=True):
        word = "kept" if edge.key in choice.kept else "dropped"
        yield f"{word:<8} {words:<{width}}  {choice.reason(edge)}"
