"""The recipe: every fault at once and at its line, defaults, round trips, schema, and junk."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import mtlkit
from mtlkit.document import parse_document
from mtlkit.errors import MtlkitError, RecipeError
from mtlkit.folder import recipe_text, resolved
from mtlkit.listing import shipped
from mtlkit.plugins import KINDS, Plugins
from mtlkit.recipe import recipe_model, recipe_of

WHOLE = """\
data: {type: streets, size: [32, 64]}
loader: {batch_size: 2}
encoder: {type: resnet, depth: 18}
architecture: {type: shared_encoder}
tasks:
  segmentation: {classes: 7}
  depth:
weighting: {type: equal}
optimizer: {type: adam}
train: {epochs: 1}
"""


def read(text, path="my_recipe.yaml", overrides=None):
    return recipe_of(parse_document(text, Path(path), overrides))


def faults_of(text):
    with pytest.raises(RecipeError) as caught:
        read(text)
    return [(fault.where.rpartition(":")[2], fault.key) for fault in caught.value.faults]


def test_the_key_of_a_task_is_its_name_type_and_label():
    recipe = read(WHOLE)
    depth = recipe.tasks["depth"]
    assert (depth.name, depth.type_name(), depth.reads) == ("depth", "depth", ("depth",))
    near = read(WHOLE, overrides={"tasks.near": "{type: depth, label: depth, weight: 2}"})
    task = near.tasks["near"]
    assert (task.name, task.type_name(), task.reads) == ("near", "depth", ("depth",))
    assert list(near.tasks) == ["segmentation", "depth", "near"]
    assert near.wants == {"segmentation", "depth", "depth_at_one"}


def test_the_file_names_the_run():
    assert read(WHOLE).name == "my_recipe"
    assert read(WHOLE, path="a b/.my recipe!.yaml").name == "my-recipe-"
    assert read(f"name: other\n{WHOLE}").name == "other"


def test_sections_have_the_defaults_that_the_design_names():
    recipe = read(WHOLE)
    assert (recipe.seed, recipe.edges, recipe.auxiliary_losses) == (0, (), ())
    assert (recipe.loader.workers, recipe.loader.cache) == (0, "auto")
    assert (recipe.schedule.type, recipe.optimizer.lr) == ("constant", 1e-4)
    assert (recipe.train.device, recipe.train.precision) == ("auto", "auto")
    assert recipe.train.keep_best is None and recipe.train.accumulate == 1


def test_a_recipe_is_frozen_and_its_edges_expand():
    recipe = read(WHOLE + "edges: [{from: all, to: all, type: xtc}]")
    assert [edge.hops for edge in recipe.all_edges] == [
        ("segmentation", "depth"),
        ("depth", "segmentation"),
    ]
    with pytest.raises(ValueError, match="frozen"):
        recipe.seed = 1


MANY = """\
data: {type: streets, size: [32, 64], sise: 3}
loader: {batch_size: 0}
encoder: {type: resnet, depth: 19}
architecture: {type: shared_encoder}
tasks:
  segmentation: {classes: one}
  not-a-name: {type: depth}
  depth:
    los: l1
edges:
  - {from: depth, to: dept, type: xtc,
     weight: 2}
weighting: {type: equl}
optimizer:
  lr: -1
train: {}
"""


def test_all_faults_are_told_at_once_in_the_order_of_their_lines():
    assert faults_of(MANY) == [
        ("1", "data.sise"),
        ("2", "loader.batch_size"),
        ("3", "encoder.depth"),
        ("6", "tasks.segmentation.classes"),
        ("7", "tasks.not-a-name"),
        ("9", "tasks.depth.los"),
        ("11", "edges.0.to"),
        ("12", "edges.0.weight"),
        ("13", "weighting"),
        ("14", "optimizer"),
        ("16", "train"),
    ]


def test_faults_of_whole_recipes_name_the_line_too():
    text = WHOLE.replace("classes: 7", "classes: 5").replace("  depth:", "  depth: {label: dept}")
    assert faults_of(text) == [("7", "tasks.depth"), ("6", "tasks.segmentation")]


@pytest.mark.parametrize("name", sorted(shipped()))
def test_a_resolved_recipe_reads_back_as_itself(name, tmp_path):
    recipe = mtlkit.load_recipe(shipped()[name], lenient=["data"])
    text = recipe_text(recipe)
    again = recipe_of(parse_document(text, tmp_path / "recipe.yaml", None, ["data"]))
    assert again.model_dump() == recipe.model_dump()
    assert [type(task) for task in again.tasks.values()] == [
        type(task) for task in recipe.tasks.values()
    ]
    assert recipe_text(again) == text
    assert json.loads(json.dumps(resolved(recipe))) == resolved(recipe)


def test_a_resolved_recipe_holds_options_and_plugin_files(recipe, tmp_path):
    data = resolved(recipe)
    assert data["plugins"] == ["tiny_encoder.py"]
    assert data["edges"][0]["from"] == "segmentation" and "source" not in data["edges"][0]
    assert data["tasks"]["depth"]["loss"] == "l1" and data["train"]["clip"] is None


def test_the_schema_is_json_and_lists_every_type():
    plugins = Plugins.load()
    schema = json.loads(json.dumps(recipe_model(plugins).model_json_schema(by_alias=True)))
    consts = {
        definition["properties"]["type"].get("const")
        for definition in schema["$defs"].values()
        if "type" in definition.get("properties", {})
    }
    types = {name for kind in KINDS for name in plugins.types(kind)}
    assert types | {"adam", "adamw", "sgd", "step", "cosine", "poly", "constant"} <= consts
    assert {"data", "loader", "architecture", "tasks", "weighting", "optimizer", "train"} <= set(
        schema["required"]
    )
    assert schema["additionalProperties"] is False
    edge = schema["$defs"]["CrossTaskConsistency"]["properties"]
    assert {"from", "to", "weight"} <= set(edge) and "source" not in edge


def test_every_field_of_a_section_that_is_no_plain_word_is_described():
    schema = recipe_model(Plugins.load()).model_json_schema(by_alias=True)
    for name in ("match", "warmup"):
        found = [
            d["properties"][name]
            for d in schema["$defs"].values()
            if name in d.get("properties", {})
        ]
        assert found and all("description" in field for field in found)


words = st.sampled_from(
    ["data", "tasks", "edges", "type", "from", "to", "all", "depth", "segmentation", "xtc", "name",
     "streets", "encoder", "resnet", "train", "epochs", "size", "plugins", "weighting", "loader",
     "equal", "optimizer", "groups", "match", "adam", "label", "classes", "auxiliary_losses",
     "schedule", "keep_best", "metric", "mode", "${NOT_SET}", "loss"]
)  # fmt: skip
leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    words,
    st.text(max_size=5),
)
values = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(words | st.text(max_size=4), inner, max_size=4)
    ),
    max_leaves=12,
)


@settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
@given(junk=st.dictionaries(words | st.text(max_size=4), values, max_size=6), keep=st.booleans())
@example(junk={"tasks": {"depth": {"name": {"a": 1}}}}, keep=True)
@example(junk={"tasks": {"": None}, "edges": [None, {"from": []}]}, keep=True)
@example(junk={"tasks": {"depth": {"type": ["depth"]}}}, keep=True)
@example(junk={"edges": [{"from": {"a": 1}, "to": "depth"}]}, keep=True)
@example(junk={"optimizer": {"groups": [{"matsch": 1}]}}, keep=True)
@example(junk={"plugins": "a.py"}, keep=True)
@example(junk={"name": 5}, keep=True)
@example(junk={"train": {"epochs": 1, "keep_best": {"metrik": 1}}}, keep=True)
def test_junk_never_raises_anything_but_an_error_of_ours(junk, keep):
    whole = parse_document(WHOLE, Path("x.yaml")).data if keep else {}
    text = json.dumps({**whole, **junk})
    try:
        read(text)
    except MtlkitError as error:
        assert str(error) and "Traceback" not in str(error)


@settings(max_examples=25, deadline=None)
@given(text=st.text(max_size=60))
def test_any_text_is_a_recipe_or_an_error_of_ours(text):
    with pytest.raises(MtlkitError):
        read(text)


@settings(max_examples=25, deadline=None)
@given(key=st.lists(words | st.integers(0, 3).map(str), min_size=1, max_size=4), value=values)
def test_any_override_is_taken_or_refused_in_words(key, value):
    try:
        read(
            WHOLE + "edges: [{from: depth, to: segmentation, type: xtc}]",
            overrides={".".join(key): value},
        )
    except MtlkitError as error:
        assert str(error)
