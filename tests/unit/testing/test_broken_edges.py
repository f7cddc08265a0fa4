"""Ways in which an edge may break what it promises of void pixels, its own loss and paths."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pydantic import field_validator

from mtlkit.testing import EDGE, check_edge
from mtlkit.testing.stand_ins import pair_of
from mtlkit_plugins.commands._new.templates.edge import OwnPlugin as Healthy

ENDS = {"source": "near", "target": "far"}
VOID = "what_is_void_changes_no_loss"
OWN = "its_own_loss_trains_the_network_alone"
PATH = "as_a_path_it_keeps_its_promises"


def learned(transfer):
    """Return what the network makes of the source's label, and the target's label."""
    source = transfer.source
    return transfer.network(source.task.label_as_input(source.label)), transfer.target.label


def own_loss(edge, transfer):
    if transfer.source.label is None or transfer.target.label is None:
        return None
    return transfer.target.task.loss(*learned(transfer))


def own_loss_of_all(edge, transfer):
    transferred, label = learned(transfer)
    return (transferred - label.value).abs().mean()


def scaled_by_the_source(edge, transfer):
    return Healthy.loss(edge, transfer) * transfer.source.prediction.detach().abs().mean()


def without_labels_no_number(edge, transfer):
    found = own_loss(edge, transfer)
    return transfer.transferred.sum() * torch.nan if found is None else found


BY_ITS_OWN_LOSS = {"trains_network": False, "own_loss": own_loss}
BROKEN: list[tuple[str, dict[str, Any], str]] = [
    (VOID, {"loss": scaled_by_the_source}, "with other values in an image where both are void the"),
    (VOID, {**BY_ITS_OWN_LOSS, "own_loss": own_loss_of_all}, "void pixels the own loss is"),
    (OWN, {"own_loss": own_loss}, "there is one, and `loss` trains the network too. Set"),
    (OWN, {"trains_network": False}, "nothing trains the network: `own_loss` is None with both"),
    (
        OWN,
        {"trains_network": False, "own_loss": without_labels_no_number},
        "it is not finite without labels. Return None there",
    ),
    (
        PATH,
        {"as_maths": lambda self, source, target: f"T[{self.source} → {self.target}]"},
        "with `path: ['near', 'near_far', 'far']`, it is 'T[ → ]'. Write the names of both",
    ),
    (
        PATH,
        {"charged_to": property(lambda self: self.source)},
        "with `path: ['near', 'near_far', 'far']`, `charged_to` is '', not 'near'",
    ),
]


class WithoutPaths(Healthy):
    """Asks for its own network, which a path does not have, and refuses to be one."""

    @field_validator("path")
    @classmethod
    def _is_none(cls, path: tuple[str, ...]) -> tuple[str, ...]:
        if path:
            raise ValueError("it has no paths. Write from and to")
        return path

    def loss(self, transfer):
        assert transfer.network is not None
        return super().loss(transfer)


@pytest.mark.parametrize(("name", "broken", "words"), BROKEN)
def test_it_is_caught(name, broken, words):
    edge = type("Broken", (Healthy,), broken)(**ENDS)
    with pytest.raises(AssertionError) as caught:
        EDGE.check(name)(edge, *pair_of("near", "far")[2])
    assert words in str(caught.value)


def test_a_network_that_learns_from_an_own_loss_alone_passes():
    edge = type("Taught", (Healthy,), BY_ITS_OWN_LOSS)(**ENDS)
    EDGE.check(OWN)(edge, *pair_of("near", "far")[2])
    EDGE.check(VOID)(edge, *pair_of("near", "far")[2])


def test_an_edge_that_refuses_paths_is_not_asked_to_be_one():
    check_edge(WithoutPaths(**ENDS))
