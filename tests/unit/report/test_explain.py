"""What explain prints, at any width of the terminal."""

import io

import pytest
from rich.console import Console

from mtlkit import load_recipe
from mtlkit.listing import shipped
from mtlkit.report.explain import edge_table, formulas, graph_tree, objective_lines, sums

LONG = {"L_a": ["0.98·cross_entropy(a, label)", "0.02·l1(T[a → b], stop(b))"], "L": ["L_a"]}


@pytest.fixture(scope="module")
def five_tasks():
    return load_recipe(shipped()["five_tasks_streets"])


def printed(what, width):
    stream = io.StringIO()
    Console(width=width, file=stream).print(what)
    return [line.rstrip() for line in stream.getvalue().splitlines()]


def test_formulas_stand_in_one_line_each_where_all_have_room():
    line = "L_a = 0.98·cross_entropy(a, label) + 0.02·l1(T[a → b], stop(b))"
    assert printed(formulas(LONG), len(line)) == [line, "L = L_a"]


def test_formulas_without_room_have_a_line_for_each_term_with_the_signs_in_one_column():
    assert printed(formulas(LONG), 62) == [
        "L_a = 0.98·cross_entropy(a, label)",
        "    + 0.02·l1(T[a → b], stop(b))",
        "  L = L_a",
    ]


def test_a_task_without_any_term_is_told_to_have_the_loss_0():
    assert printed(formulas({"L_a": []}), 20) == ["L_a = 0"]
    assert printed(formulas({"L_a": [], "L": ["x" * 20]}), 20)[0] == "L_a = 0"


@pytest.mark.parametrize("width", [80, 100, 120])
def test_no_formula_of_five_tasks_is_wider_than_the_terminal_or_loses_a_term(five_tasks, width):
    lines = printed(formulas(sums(five_tasks)), width)
    assert max(map(len, lines)) <= width
    flat = " ".join(" ".join(lines).split())
    assert all(line in flat for line in objective_lines(five_tasks)[:-1])


def test_the_formulas_and_what_they_leave_out_are_lines_for_programs(five_tasks):
    lines = objective_lines(five_tasks)
    assert [line.partition(" = ")[0] for line in lines[:-1]] == list(sums(five_tasks))
    assert lines[4] == "L_weather = cross_entropy(weather, label)"
    assert "5 of 14 edges are drawn for each step" in lines[-1]


def test_edges_that_differ_in_their_end_alone_share_a_line_of_the_tree(five_tasks):
    tree = printed(graph_tree(five_tasks), 80)
    assert "│   ├── → segmentation, normals, boundary: xtc, λ = 0.01" in tree
    assert "│   └── → normals → segmentation: xtc, λ = 0.01" in tree
    other = load_recipe(shipped()["five_tasks_streets"], {"edges.1.weight": 0.02})
    assert "│   └── → normals → segmentation: xtc, λ = 0.02" in printed(graph_tree(other), 80)


def test_an_edge_and_a_path_between_two_tasks_have_a_line_each_in_the_table(five_tasks):
    rows = [line.split("│") for line in printed(edge_table(five_tasks), 120) if "│" in line]
    cells = [row[2].strip() for row in rows]
    assert cells[1:3] == ["xtc 0.01", "xtc 0.01 via normals"]


def test_columns_of_the_table_are_numbered_where_their_names_have_no_room(five_tasks):
    wide, narrow = (printed(edge_table(five_tasks), width) for width in (120, 60))
    assert "┃ boundary ┃ weather ┃" in wide[2]
    assert narrow[2].replace("┃", "").split() == ["1", "2", "3", "4", "5"]
    assert [line.split("│")[1].strip() for line in narrow if "·" in line][-1] == "5 weather"
    assert max(map(len, narrow)) <= 60
