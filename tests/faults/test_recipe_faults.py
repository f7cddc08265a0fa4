"""A recipe that cannot work is refused in words, at its line, before anything is written."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from faulty import EDGE, RECIPE, Case, edited, wrong

MISSING = "is missing. Add it"
BOMB = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [{f'*a{i - 1}, ' * 9}]\n" for i in range(1, 10))
HALF = EDGE.replace("widths", "weight: 0.6, widths")


def best(metric: str) -> str:
    return f"keep_best: {{metric: {metric}, mode: min}}"


def whole(name: str, recipe: str | bytes, *says: str) -> Case:
    return Case(name, "check recipe.yaml", 2, says, recipe)


def without(section: str, line: str) -> Case:
    says = (f"recipe.yaml: {section}: {MISSING}",)
    return Case(f"{section} is missing", "check recipe.yaml", 2, says, edited((line + "\n", "")))


FILES = [
    Case("the recipe is not there", "run nope.yaml", 2, ("nope.yaml: no such file", "known: ")),
    Case(
        "a shipped recipe is misspelt",
        "run xtascnet_street",
        2,
        ("no such file", "did you mean 'xtascnet_streets'?"),
    ),
    Case("the recipe is a folder", "run .", 2, (".: cannot be read", "Give a recipe file")),
    Case("the recipe has no end", "run /dev/zero", 2, ("more than 1,000,000 bytes", "Give a")),
    whole("the recipe is empty", "", "recipe.yaml: a recipe is a mapping of sections"),
    whole("the recipe is a list", "- a\n", "recipe.yaml: a recipe is a mapping of sections"),
    whole("the recipe is one word", "hello\n", "recipe.yaml: a recipe is a mapping of sections"),
    whole("the recipe is UTF-16", RECIPE.encode("utf-16"), "not a text file in UTF-8"),
    whole("the recipe is Latin-1", b"name: \xe9\n", "recipe.yaml: not a text file in UTF-8"),
    whole("a bracket is open", RECIPE + "a: [1, 2\n", "recipe.yaml:17: not valid YAML: "),
    whole("a key is there twice", RECIPE + "name: b\n", "recipe.yaml:16: ", 'duplicate key "name"'),
    whole("it is indented by tabs", "data:\n\ttype: x\n", "recipe.yaml:2: not valid YAML: ", "\\t"),
    whole("there are two documents", RECIPE + "---\na: 1\n", "recipe.yaml:16: not valid YAML"),
    whole("there is a NUL byte", "name: a\0b\n", "recipe.yaml: not valid YAML: ", "#x0000"),
    whole("a number has 5000 digits", f"seed: {'9' * 5000}\n", "recipe.yaml: not valid YAML: "),
    whole("aliases grow without end", BOMB, "too large, or refers to itself. Write it out"),
    whole("an alias holds itself", "edges: &a [[*a]]\n" + RECIPE.replace("edges", "x"), "unknown"),
    whole("an alias is unknown", "name: *nobody\n", "recipe.yaml:1: not valid YAML: ", "nobody"),
    whole("a tag asks for an object", "name: !thing x\n", "recipe.yaml:1: name: YAML's tags"),
    whole("a brace is not quoted", edited(("1.0e-3", "${LR}")), "recipe.yaml:13: ", "quote"),
]
SECTIONS = [
    without("data", "data: {type: streets, size: [32, 64], train: 2, val: 2}"),
    without("loader", "loader: {batch_size: 2}"),
    without("architecture", "architecture: {type: shared_encoder, width: 8}"),
    without("weighting", "weighting: {type: equal}"),
    without("optimizer", "optimizer: {type: adam, lr: 1.0e-3}"),
    without("train", "train: {epochs: 1, device: cpu, precision: fp32, pictures: 0}"),
    Case(
        "the architecture lacks its encoder",
        "check recipe.yaml",
        2,
        ("recipe.yaml: encoder: architecture 'shared_encoder' needs an encoder. Add one",),
        edited(("encoder: {type: tiny}\n", "")),
    ),
]
KEYS = [
    wrong("a section is misspelt", "laoder", "loader:", "laoder:", "did you mean 'loader'?"),
    wrong("a data key is misspelt", "data.trian", "train: 2", "trian: 2", "did you mean 'train'?"),
    wrong(
        "a loader key is unknown", "loader.batch", "batch_size", "batch", "'batch_size'?", MISSING
    ),
    wrong("an encoder key is unknown", "encoder.depht", "tiny}", "tiny, depht: 1}", "known: type"),
    wrong("a task key is misspelt", "tasks.depth.los", "depth: {}", "depth: {los: l1}", "'loss'?"),
    wrong("an edge key is misspelt", "edges.0.width", "widths", "width", "did you mean 'widths'?"),
    wrong("a weighting key is unknown", "weighting.a", "equal}", "equal, a: 1}", "unknown key 'a'"),
    wrong("an optimizer key is unknown", "optimizer.rate", "lr:", "rate:", "known: betas, eps"),
    wrong("a schedule key is unknown", "schedule.x", "constant}", "constant, x: 1}", "warmup"),
    wrong("a train key is misspelt", "train.epohcs", "epochs", "epohcs", "'epochs'?"),
    wrong(
        "a group key is misspelt",
        "optimizer.groups.0.mtach",
        "lr: 1.0e-3",
        "groups: [{mtach: edges}]",
        "did you mean 'match'?",
    ),
    wrong(
        "a keep_best key is misspelt",
        "train.keep_best.mdoe",
        "pictures: 0",
        "keep_best: {metric: loss/total, mdoe: min}",
        "did you mean 'mode'?",
    ),
]
TYPES = [
    wrong("a data set is misspelt", "data", "streets", "street", "did you mean 'streets'?"),
    wrong("an encoder is misspelt", "encoder", "type: tiny", "type: resnt", "'resnet'?"),
    wrong("an architecture is unknown", "architecture.type", "shared_encoder", "mtan", "known: "),
    wrong("a task type is misspelt", "tasks.d", "depth: {}", "d: {type: dpeth}", "mean 'depth'?"),
    wrong("an edge type is misspelt", "edges.0", "type: xtc", "type: xtcc", "did you mean 'xtc'?"),
    wrong("a weighting is misspelt", "weighting", "equal", "eqaul", "did you mean 'equal'?"),
    wrong("an optimizer is misspelt", "optimizer", "adam", "adma", "did you mean 'adam'?"),
    wrong("a schedule is misspelt", "schedule", "constant", "cosin", "did you mean 'cosine'?"),
    wrong("the data set has no type", "data", "type: streets, ", "", "needs a type; known: "),
    wrong("the optimizer has no type", "optimizer", "type: adam, ", "", "known: adam, adamw, sgd"),
    wrong("the type is a list", "data", "streets", "[streets]", "did you mean 'streets'?"),
]
VALUES = [
    wrong("a text where a number belongs", "train.epochs", "epochs: 1", "epochs: x", "got 'x'"),
    wrong("a negative count", "train.epochs", "epochs: 1", "epochs: -3", "must be 1 or more"),
    wrong("a zero batch", "loader.batch_size", "size: 2", "size: 0", "must be 1 or more, got 0"),
    wrong("a fraction of an epoch", "train.epochs", "epochs: 1", "epochs: 1.5", "whole number"),
    wrong("nothing where a number belongs", "loader.batch_size", "size: 2", "size: ", "nothing"),
    wrong("a training without an end", "train", "epochs: 1, ", "", "`epochs` is missing. Add it"),
    wrong("epochs beside phases", "train", "s: 1,", "s: 1, phases: [{epochs: 1}],", "Remove `e"),
    wrong("a phase without epochs", "train.phases.0.epochs", "epochs: 1", "phases: [{}]", MISSING),
    wrong(
        "no edge a step", "train.edges_per_step", "s: 1,", "s: 1, edges_per_step: 0,", "1 or more"
    ),
    wrong("a list for a scalar", "optimizer.lr", "1.0e-3", "[1]", "must be a number, got [1]"),
    wrong("a scalar for a list", "data.size", "[32, 64]", "32", "must be a list"),
    wrong("a scalar for a section", "weighting", "{type: equal}", "equal", "a mapping of keys"),
    wrong("a scalar for a task", "tasks.depth", "depth: {}", "depth: 3", "a mapping of keys"),
    whole("a mapping for the edges", edited(("  - {from", "    {from")), "edges: must be a list"),
    wrong("a learning rate that is no number", "optimizer.lr", "1.0e-3", ".nan", "finite number"),
    wrong("an infinite learning rate", "optimizer.lr", "1.0e-3", ".inf", "finite number, got inf"),
    wrong("a negative learning rate", "optimizer.lr", "1.0e-3", "-1", "must be more than 0"),
    wrong(
        "an infinite weight", "tasks.depth.weight", "depth: {}", "depth: {weight: .inf}", "finite"
    ),
    wrong("a weight above 1", "edges.0.weight", "widths: [4, 8]", "weight: 1.7", "1 or less"),
    wrong("a weight that is no number", "edges.0.weight", "widths: [4, 8]", "weight: .nan", "nan"),
    wrong("a side above 8192", "data.size.1", "64]", "10000]", "must be 8192 or less"),
    wrong("three sides", "data.size", "64]", "64, 3]", "takes at most 2 entries"),
    wrong("no stages", "edges.0.widths", "[4, 8]", "[]", "needs an entry at least"),
    wrong("an unknown choice", "loader.cache", "size: 2", "size: 2, cache: disc", "mean 'disk'?"),
    wrong("an unknown device", "train.device", "cpu", "tpu", "cpu", "got 'tpu'", command="run"),
    wrong("a name that leaves the folder", "name", "tiny", "../../etc", "must be letters, digits"),
    wrong("a name of 200 letters", "name", "tiny", "x" * 200, "100 letters or less"),
    wrong("momentum is missing", "optimizer", "adam", "sgd, nesterov: true", "omentum"),
]
MEANINGS = [
    wrong("a size that strides do not divide", "data.size", "[32, 64]", "[33, 65]", "is [32, 64]"),
    wrong("more stages than the size has", "edges.0", "[4, 8]", "[4, 4, 4, 4, 4, 4]", "5 widths"),
    wrong("a task's name is no identifier", "tasks.my-task", "depth: {}", "my-task: {}", "Rename"),
    wrong("a task is called all", "tasks.all", "depth: {}", "all: {type: depth}", "Rename it"),
    wrong("a task is called as torch's own", "tasks.items", "depth: {}", "items: {}", "Rename"),
    wrong("a task is named twice", "tasks.depth.name", "{}", "{name: x}", "Remove `name`"),
    wrong("other classes than the data's", "tasks.segmentation", "s: 7", "s: 8", "`classes: 7`"),
    wrong("a label that is not offered", "tasks.depth", "{}", "{label: albedo}", "It offers: "),
    wrong(
        "classes from depth", "tasks.segmentation", "s: 7}", "s: 7, label: depth}", "Set `label`"
    ),
    wrong("an edge to a missing task", "edges.0.to", "to: depth", "to: dpeth", "mean 'depth'?"),
    wrong("an edge to itself", "edges.0.to", "to: depth", "to: segmentation", "Remove it"),
    wrong("an edge without its source", "edges.0", "from: segmentation, ", "", "`from` is missing"),
    wrong(
        "a path names nobody",
        "edges.0.path",
        "from: segmentation, to: depth",
        "path: [depth, segmentatoin, depth]",
        "no task is called 'segmentatoin'; did you mean 'segmentation'?",
    ),
    wrong(
        "a path without its edges",
        "edges.0",
        "from: segmentation, to: depth",
        "path: [depth, segmentation, depth]",
        "Add {from: depth, to: segmentation, type: xtc}, {from: segmentation, to: depth, ",
    ),
    wrong(
        "an edge is listed twice", "edges.1.from", "weighting", EDGE + "weighting", "twice. Remove"
    ),
    wrong("a variable is not set", "name", "tiny", '"${UNSET}"', "export UNSET=…"),
    wrong("a number is not set", "optimizer.lr", "1.0e-3", '"${UNSET}"', "UNSET is not set"),
    wrong(
        "an unknown metric",
        "train.keep_best.metric",
        "es: 0",
        f"es: 0, {best('loss/toal')}",
        "loss/total",
    ),
    wrong(
        "the wrong way up",
        "train.keep_best.mode",
        "es: 0",
        f"es: 0, {best('depth/delta1')}",
        "Write max",
    ),
    wrong(
        "a group without parameters",
        "optimizer.groups",
        "lr: 1.0e-3",
        "groups: [{match: decoder}]",
        "no parameter",
    ),
    whole(
        "edges that leave a task no share",
        edited((EDGE, HALF + HALF.replace("xtc", "alignment"))),
        "recipe.yaml:10: edges: the edges charged to task 'segmentation' weigh 1.2 together",
        "Lower their weights",
    ),
    whole(
        "all edges of one task",
        edited(("  depth: {}\n", ""), ("from: segmentation, to: depth", "from: all, to: all")),
        "recipe.yaml:10: edges.0.from: `all` means every other task, and there is one task",
    ),
    whole(
        "maps of several batches",
        edited(("equal", "mgda, at: features"), ("epochs: 1", "epochs: 1, accumulate: 2")),
        "recipe.yaml:12: weighting: at: features: needs the maps of the whole step",
        "Write at: shared, or train.accumulate: 1",
    ),
    whole(
        "gradnorm of one task",
        edited(("equal", "gradnorm"), ("  depth: {}\n", ""), ("edges:\n" + EDGE, "")),
        "recipe.yaml:9: weighting: gradnorm compares",
        "Write type: equal",
    ),
    whole(
        "a batch of one value per channel",
        edited(("size: 2", "size: 1"), ("[32, 64]", "[8, 8]"), ("[4, 8]", "[4]")),
        "recipe.yaml:4: loader.batch_size: a batch of 1 cannot be trained",
        "Write 2",
    ),
    whole(
        "no tasks",
        edited(("tasks:\n  segmentation: {classes: 7}\n  depth: {}\n", "tasks: {}\n")),
        "recipe.yaml:7: tasks: needs an entry at least",
        "recipe.yaml:9: edges.0.from: no task is called 'segmentation'",
    ),
    whole(
        "four mistakes at once",
        edited(
            ("streets", "street"), ("size: 2", "size: 0"), ("to: depth", "to: dpeth"), ("lr", "rl")
        ),
        "recipe.yaml:3: data: ",
        "recipe.yaml:4: loader.batch_size: ",
        "recipe.yaml:11: edges.0.to: ",
        "recipe.yaml:13: optimizer.rl: ",
    ),
]


@pytest.mark.parametrize(
    "case", [*FILES, *SECTIONS, *KEYS, *TYPES, *VALUES, *MEANINGS], ids=lambda case: case.name
)
def test_a_wrong_recipe_is_told_at_its_line(case: Case, refuse: Callable[[Case], None]) -> None:
    refuse(case)
