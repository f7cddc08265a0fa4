"""The recipe: a frozen model made from the loaded plugins, read with all faults at once."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import partial, reduce
from operator import or_
from pathlib import Path
from types import GenericAlias
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    Field,
    PrivateAttr,
    SerializeAsAny,
    ValidationError,
    create_model,
    field_validator,
)

from mtlkit.contracts import (
    Architecture,
    AuxiliaryLoss,
    Dataset,
    Edge,
    Encoder,
    Plugin,
    Task,
    Weighting,
)
from mtlkit.document import Document, Location, plugin_files, read_document
from mtlkit.errors import Fault, RecipeError, suggest
from mtlkit.faults import by_line, name_faults, schema_faults
from mtlkit.graph import edge_problems, expand, graph_problems, raw_end_problems
from mtlkit.optimization import ConstantSection, OptimizerSection, ScheduleSection
from mtlkit.plugins import Plugins
from mtlkit.sections import Loader, Section, Train, one_or_several
from mtlkit.sets import offers_of, problems_of
from mtlkit.structures import FieldSpec


class Recipe(Section):
    """A run, whole: every part is a frozen plugin or section."""

    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
        max_length=100,
        description="letters, digits, dots, dashes and underlines, a letter or digit first",
    )
    seed: int = Field(0, ge=0, lt=2**62, description="of initial weights, order and augmentation")
    plugins: tuple[str, ...] = Field((), description="plugin files in the recipe's own folder")
    data: SerializeAsAny[Dataset] | tuple[SerializeAsAny[Dataset], ...]
    loader: Loader
    encoder: SerializeAsAny[Encoder] | None = None
    architecture: SerializeAsAny[Architecture]
    tasks: dict[str, SerializeAsAny[Task]] = Field(min_length=1)
    edges: tuple[SerializeAsAny[Edge], ...] = ()
    auxiliary_losses: tuple[SerializeAsAny[AuxiliaryLoss], ...] = ()
    weighting: SerializeAsAny[Weighting]
    optimizer: OptimizerSection
    schedule: ScheduleSection = ConstantSection()
    train: Train

    _loaded: Plugins | None = PrivateAttr(None)
    _document: Document | None = PrivateAttr(None)

    @field_validator("tasks", mode="before")
    @classmethod
    def _key_names_the_task(cls, tasks: Any) -> Any:
        if not isinstance(tasks, dict):
            return tasks
        named = {name: {} if task is None else task for name, task in tasks.items()}
        return {
            name: {"type": name, **task, "name": name} if isinstance(task, dict) else task
            for name, task in named.items()
        }

    @property
    def loaded(self) -> Plugins:
        """The plugins that the recipe was read with."""
        assert self._loaded is not None  # set by load_recipe, the only door
        return self._loaded

    def fault(self, location: Location, message: str) -> Fault:
        """Return a fault at the line of the file that the recipe was read from.

        Args:
            location: keys from the top.
            message: what is wrong and what to do.
        """
        assert self._document is not None  # set by load_recipe, the only door
        return self._document.fault(location, message)

    @property
    def sets(self) -> tuple[Dataset, ...]:
        """The data sets: `data`, be it one or several."""
        return (self.data,) if isinstance(self.data, Dataset) else self.data

    def place_of(self, index: int) -> tuple[str | int, ...]:
        """Return the keys under which a data set stands.

        Args:
            index: of `sets`.
        """
        return ("data",) if isinstance(self.data, Dataset) else ("data", index)

    @property
    def offers(self) -> Mapping[str, FieldSpec]:
        """Every label and extra that the data gives; what plugins should ask, not `data`."""
        return offers_of(self.sets)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the samples; what plugins should ask, not `data`."""
        return self.sets[0].size

    @property
    def all_edges(self) -> list[Edge]:
        """The edges with `all` expanded."""
        return expand(self.edges, self.tasks)

    @property
    def wants(self) -> frozenset[str]:
        """Names of the labels that tasks read, and of the offered extras that they use."""
        reads = {name for task in self.tasks.values() for name in task.reads}
        uses = {name for task in self.tasks.values() for name in task.uses}
        return frozenset(reads | (uses & self.offers.keys()))


def recipe_model(plugins: Plugins) -> type[Recipe]:
    """Return the Recipe class whose sections know every loaded type.

    Args:
        plugins: what is loaded.
    """
    task, edge = _union(plugins, "task"), _union(plugins, "edge")
    auxiliary = _union(plugins, "auxiliary loss")
    part = _union(plugins, "dataset")
    fields: dict[str, Any] = {
        "data": (one_or_several(part, GenericAlias(tuple, (part, ...))), ...),
        "encoder": (_union(plugins, "encoder") | None, None),
        "architecture": (_union(plugins, "architecture"), ...),
        "tasks": (GenericAlias(dict, (str, task)), Field(min_length=1)),
        "edges": (GenericAlias(tuple, (edge, ...)), ()),
        "auxiliary_losses": (GenericAlias(tuple, (auxiliary, ...)), ()),
        "weighting": (_union(plugins, "weighting"), ...),
    }
    model: type[Recipe] = create_model("Recipe", __base__=Recipe, **fields)
    return model


def _union(plugins: Plugins, kind: str) -> Any:
    classes = list(plugins.types(kind).values())
    if not classes:
        return Annotated[Any, AfterValidator(partial(_refuse, kind))]
    if len(classes) == 1:
        return classes[0]
    return Annotated[reduce(or_, classes), Field(discriminator="type")]


def _refuse(kind: str, value: Any) -> Any:
    raise ValueError(f"no loaded plugin offers any {kind}. Load one with --plugin, block none")


def load_recipe(
    path: str | Path,
    overrides: Mapping[str, Any] | None = None,
    plugins: Sequence[str | Path] = (),
    blocked: Iterable[str] = (),
    lenient: Sequence[str] = (),
) -> Recipe:
    """Return the recipe of a YAML file.

    Args:
        path: the file.
        overrides: dotted key to value, such as {"train.epochs": 1}.
        plugins: more plugin files.
        blocked: names of plugins to leave out.
        lenient: top-level keys under which an unset `${ENV}` is no error.

    Raises:
        RecipeError: with every fault, each as file:line: key: what is wrong. What to do.
        PluginError: a plugin is missing, broken or in conflict.
    """
    return recipe_of(read_document(Path(path), overrides, lenient), plugins, blocked)


def recipe_of(
    document: Document, plugins: Sequence[str | Path] = (), blocked: Iterable[str] = ()
) -> Recipe:
    """Return the recipe of a document.

    Args:
        document: from `read_document` or `parse_document`.
        plugins: more plugin files.
        blocked: names of plugins to leave out.

    Raises:
        RecipeError: with every fault.
        PluginError: a plugin is missing, broken or in conflict.
    """
    files = [*plugin_files(document), *map(Path, plugins)]
    loaded = Plugins.load(list(dict.fromkeys(files)), blocked)
    stem = re.sub(r"[^A-Za-z0-9._-]", "-", document.path.stem).lstrip("._-")
    document.data.setdefault("name", stem[:100] or "run")
    recipe = _validate(document, loaded)
    recipe._loaded, recipe._document = loaded, document
    faults = list(_whole_faults(recipe, document))
    if faults:
        raise RecipeError(faults)
    return recipe


def _validate(document: Document, plugins: Plugins) -> Recipe:
    faults = list(document.faults)
    tasks, edges = document.data.get("tasks"), document.data.get("edges")
    if isinstance(tasks, dict):
        faults += name_faults(document, tasks)
        ends = raw_end_problems(tasks, edges if isinstance(edges, list) else [])
        faults += [document.fault(("edges", i, key), text) for (i, key), text in ends]
    told = {fault.key for fault in faults}
    with plugins.blaming("a part of this recipe cannot be made"):
        try:
            recipe = recipe_model(plugins).model_validate(document.data)
        except ValidationError as error:
            found = schema_faults(error, document, Recipe, plugins)
            faults += [fault for fault in found if fault.key not in told]
    if faults:
        raise RecipeError(sorted(faults, key=by_line))
    return recipe


def _whole_faults(recipe: Recipe, document: Document) -> Iterable[Fault]:
    """Yield what only the recipe as a whole can show: the core's sentences, then the plugins'."""
    with recipe.loaded.blaming("the data set fails"):
        found, offers = list(problems_of(recipe.sets, recipe.wants)), recipe.offers
    in_data = [document.fault((*recipe.place_of(i), key), text) for (i, key), text in found]
    yield from in_data
    for message in graph_problems(recipe.all_edges):
        yield document.fault(("edges",), message)
    for i, message in edge_problems(recipe.edges, recipe.all_edges, recipe.tasks):
        yield document.fault(("edges", i), message)
    labels = [name for name, spec in offers.items() if spec.is_label]
    for name, task in recipe.tasks.items():
        for label in () if in_data else task.reads:  # what is wrong there may be all of it
            if label not in labels:
                titles = " or ".join(repr(part.title) for part in recipe.sets)
                message = f"reads the label {label!r}, which data set {titles} does not offer. "
                yield document.fault(("tasks", name), f"{message}It offers: {', '.join(labels)}")
    needs = type(recipe.architecture).uses_encoder
    if needs != (recipe.encoder is not None):
        word = "needs an encoder. Add one" if needs else "has its own. Remove the key"
        message = f"architecture {recipe.architecture.type_name()!r} {word}"
        yield document.fault(("encoder",), message)
    for i, auxiliary in enumerate(recipe.auxiliary_losses):
        if auxiliary.task not in recipe.tasks:
            message = (
                f"no task is called {auxiliary.task!r}; {suggest(auxiliary.task, recipe.tasks)}"
            )
            yield document.fault(("auxiliary_losses", i, "task"), message)
        same = [(other.task, other.type_name()) for other in recipe.auxiliary_losses[:i]]
        if (auxiliary.task, auxiliary.type_name()) in same:
            message = "this task has a loss of this type already. Remove one"
            yield document.fault(("auxiliary_losses", i), message)
    for location, plugin in _parts(recipe):
        with recipe.loaded.blaming(f"{plugin.type_name()}: problems() fails"):
            sentences = list(plugin.problems(recipe))
        yield from (document.fault(location, sentence) for sentence in sentences)


def _parts(recipe: Recipe) -> Iterable[tuple[tuple[str | int, ...], Plugin]]:
    yield from ((recipe.place_of(i), part) for i, part in enumerate(recipe.sets))
    if recipe.encoder is not None:
        yield ("encoder",), recipe.encoder
    yield ("architecture",), recipe.architecture
    yield from ((("tasks", name), task) for name, task in recipe.tasks.items())
    yield from ((("edges", i), edge) for i, edge in enumerate(recipe.edges))
    yield from ((("auxiliary_losses", i), loss) for i, loss in enumerate(recipe.auxiliary_losses))
    yield ("weighting",), recipe.weighting
