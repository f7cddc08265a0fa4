"""What every weighting promises: totals, state, rests between solutions, and the properties."""

from __future__ import annotations

import pytest
from arguments import checked, make, marks_of, registered, variants

from mtlkit.contracts import PROPERTIES
from mtlkit.testing import WEIGHTING, faults

CARDS = {name: kind.card for name, kind in registered("weighting").items()}
CASES = [
    case
    for case in checked(WEIGHTING)
    if case.values[2].name.removeprefix("property_") not in CARDS[case.values[0]].exceptions
]
EXCUSED = [
    pytest.param(name, law, id=f"{name}-{law}", marks=marks_of("weighting", name))
    for name, card in CARDS.items()
    for law in card.exceptions
]


@pytest.mark.parametrize(("name", "fields", "check"), CASES)
def test_a_weighting_keeps_its_promises(name, fields, check):
    check(make("weighting", name, **fields))


def test_every_property_is_checked():
    names = {check.name for check in WEIGHTING.checks}
    assert {f"property_{law}" for law in PROPERTIES} == {n for n in names if "property_" in n}


@pytest.mark.parametrize(("name", "law"), EXCUSED)
def test_an_excuse_is_needed(name, law):
    cases = [case.values[1] for case in variants("weighting") if case.values[0] == name]
    assert law in PROPERTIES, f"{name} is excused from {law!r}, none of {', '.join(PROPERTIES)}"
    assert any(any(faults(make("weighting", name, **fields), law)) for fields in cases), (
        f"{name} is excused from {law!r} ({PROPERTIES[law]}), and has it: take the excuse away"
    )


@pytest.mark.parametrize("card", CARDS.values(), ids=CARDS.keys())
def test_a_card_says_all(card):
    said = (card.title, card.paper, card.invariant, card.use, *card.exceptions.values())
    assert all(text.strip() for text in said)
