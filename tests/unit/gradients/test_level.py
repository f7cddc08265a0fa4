"""The gradient level: rows, the cut, their weights, and what each task's pass may touch."""

from __future__ import annotations

import copy
from collections import Counter
from dataclasses import replace

import pytest
import torch
from fixtures.networks import (
    SHARED,
    Fixed,
    assert_same,
    batch_of,
    fixed,
    objective_of,
    passes,
    reach_of,
    step,
    task_gradients,
    tied,
    weighted,
    weights_of,
)
from torch import nn

import mtlkit
from mtlkit.errors import UsageError
from mtlkit.gradients import Conditions, build_backward
from mtlkit.structures import Losses, Output

PLACES = ["shared", "trunk", "features", "last_shared", "decoder_entry"]
WHOLE = ["shared", "trunk", "last_shared"]  # where a step of several batches can be looked at
EDGES = [
    {"from": "segmentation", "to": "depth", "type": "alignment", "weight": 0.2, "widths": [2, 3]},
    {"from": "depth", "to": "segmentation", "type": "xtc", "weight": 0.1, "widths": [2, 3]},
]
MODELS = {"2_edges": (2, EDGES), "3": (3, []), "4_edges": (4, EDGES), "tied": (3, [])}
# losses that several decoders share, where leaving a task out is hardest
ENTANGLED = pytest.mark.parametrize("objective", ["4_edges", "tied"], indirect=True)


@pytest.fixture(scope="module")
def built():
    """Objectives by name, which tests copy: to build one takes longer than a step."""
    return {}


def copy_of(built, name, tiny):
    """Return a copy of a model by its name."""
    if name not in built:
        made = objective_of(tiny, *MODELS[name])
        built[name] = tied(made) if name == "tied" else made
    return copy.deepcopy(built[name])


@pytest.fixture(params=MODELS)
def objective(request, built, tiny):
    return copy_of(built, request.param, tiny)


@pytest.fixture
def three(built, tiny):
    return copy_of(built, "3", tiny)


@pytest.mark.parametrize("at", PLACES)
def test_shared_gradients_are_the_weighted_sum_and_private_ones_have_weights_of_their_own(
    objective, at
):
    batches = [batch_of()]
    backward = passes(fixed(objective, at), objective)
    shared, private = weights_of(objective)
    expected = weighted(task_gradients(objective, batches), reach_of(objective), shared, private)
    for _ in range(2):  # a second step finds nothing of the first
        report, found = step(backward, objective, batches)
        assert_same(found, expected)
    losses = {t: x.item() for t, x in objective(batches[0]).tasks.items()}
    assert float(report.total) == pytest.approx(sum(losses.values()))
    for task, loss in losses.items():
        assert float(report.numbers[f"weighting/weight/{task}"]) == shared[task]
        scaled = float(report.numbers[f"weighting/scaled_loss/{task}"])
        assert scaled == pytest.approx(shared[task] * loss)


@pytest.mark.parametrize("at", WHOLE)
def test_batches_are_added_up_before_weights_are_solved(objective, at):
    balancer, batches = fixed(objective, at), [batch_of(1), batch_of(2), batch_of(3)]
    backward = passes(balancer, objective, Conditions(accumulate=3))
    gradients = task_gradients(objective, batches)
    expected = weighted(gradients, reach_of(objective), *weights_of(objective))
    assert_same(step(backward, objective, batches)[1], expected)
    assert len(balancer.shown) == 1
    for task, loss in zip(balancer.shown[0].tasks, balancer.shown[0].losses, strict=True):
        mean = sum(objective(batch).tasks[task].item() for batch in batches) / 3
        assert float(loss) == pytest.approx(mean)


def places_of(objective, at):
    """Return the names of the parameters that are compared."""
    reach = reach_of(objective)
    if at == "last_shared":
        return [reach.last_shared]
    return [n for n in reach.shared if at == "shared" or n in reach.trunk]


@pytest.mark.parametrize("at", WHOLE)
def test_the_products_are_those_of_the_tasks_gradients_at_that_place(objective, at):
    check_products(objective, at, accumulate=1)


@pytest.mark.parametrize("at", WHOLE)
def test_so_are_those_of_several_batches(three, at):
    check_products(three, at, accumulate=2)


def check_products(objective, at, accumulate):
    """Fail where the Gram matrix that a balancer is shown is not that of autograd's gradients."""
    balancer = fixed(objective, at)
    batches = [batch_of(seed) for seed in range(accumulate)]
    step(passes(balancer, objective, Conditions(accumulate)), objective, batches)
    names, found = places_of(objective, at), task_gradients(objective, batches)
    zeros = {n: torch.zeros_like(p) for n, p in objective.named_parameters()}
    rows = torch.stack(
        [torch.cat([found[t].get(n, zeros[n]).flatten() for n in names]) for t in found]
    )
    assert balancer.shown[0].tasks == tuple(found)
    torch.testing.assert_close(balancer.shown[0].gramian, rows @ rows.T, rtol=1e-9, atol=0)


@pytest.mark.parametrize("at", ["features", "decoder_entry"])
def test_at_the_cut_whole_maps_are_compared_and_never_their_sum_over_the_batch(objective, at):
    balancer = fixed(objective, at)
    step(passes(balancer, objective), objective, [batch_of()])
    losses = objective(batch_of())
    maps = losses.output.features if at == "features" else losses.output.features[-1:]
    rows = torch.stack(
        [
            torch.cat([x.flatten() for x in torch.autograd.grad(loss, maps, retain_graph=True)])
            for loss in losses.tasks.values()
        ]
    )
    torch.testing.assert_close(balancer.shown[0].gramian, rows @ rows.T, rtol=1e-9, atol=0)


@pytest.mark.parametrize("at", PLACES)
def test_every_pass_is_taken_once_and_no_task_passes_the_decoder_of_another(three, at):
    """T decoder passes; T trunk passes where rows are needed, else one."""
    counts = Counter()
    architecture = three.model.architecture
    parts = {"trunk": architecture.encoder.stages[1][1]}
    parts |= {name: decoder.trunk.blocks[0][0] for name, decoder in architecture.decoders.items()}
    for name, part in parts.items():
        part.register_full_backward_hook(lambda *_, name=name: counts.update([name]))
    backward = passes(fixed(three, at), three)
    counts.clear()
    step(backward, three, [batch_of()])
    trunk = 3 if at in ("shared", "trunk") else 1
    assert counts == {"trunk": trunk, "segmentation": 1, "depth": 1, "far": 1}


@ENTANGLED
@pytest.mark.parametrize("at", PLACES)
def test_a_task_that_is_not_finite_leaves_the_others_as_if_it_were_absent(objective, at):
    def spoil(losses):
        bad = losses.tasks["depth"] * torch.tensor(float("nan"))
        return replace(losses, tasks=losses.tasks | {"depth": bad})

    def leave_out(losses):
        return replace(losses, present=losses.present - {"depth"})

    balancers = [fixed(objective, at) for _ in range(2)]
    sick, well = (passes(b, objective) for b in balancers)
    report, found = step(sick, objective, [batch_of()], spoil)
    _, expected = step(well, objective, [batch_of()], leave_out)
    assert report.left_out == ("depth",)
    assert_same(found, expected)
    assert all(grad.isfinite().all() for grad in found.values())
    shown = [b.shown[0] for b in balancers]
    assert shown[0].tasks == shown[1].tasks and "depth" not in shown[0].tasks
    torch.testing.assert_close(shown[0].gramian, shown[1].gramian, rtol=1e-12, atol=0)
    assert not any("depth" in name for name in report.numbers)


@pytest.mark.parametrize("at", PLACES)
def test_a_gradient_that_is_not_finite_is_noticed_though_the_loss_is(three, at):
    def spoil(losses):
        root = (losses.output.features[-1] * 0).sum().sqrt()  # its derivative at 0 is infinite
        return replace(losses, tasks=losses.tasks | {"far": losses.tasks["far"] + root})

    report, found = step(passes(fixed(three, at), three), three, [batch_of()], spoil)
    assert report.left_out == ("far",)
    assert all(grad.isfinite().all() for grad in found.values())


def test_a_step_whose_tasks_are_all_not_finite_leaves_no_gradient(three):
    def spoil(losses):
        return replace(losses, tasks={n: x * float("inf") for n, x in losses.tasks.items()})

    for at in PLACES:
        report, found = step(passes(fixed(three, at), three), three, [batch_of()], spoil)
        assert set(report.left_out) == set(three.model.tasks) and report.numbers == {}
        assert all(not grad.any() for grad in found.values())


@pytest.mark.parametrize("at", PLACES)
def test_an_absent_task_leaves_the_gradients_of_its_own_parameters_none(three, at):
    def leave_out(losses):
        return replace(losses, present=frozenset({"segmentation"}))

    balancer = fixed(three, at)
    _, found = step(passes(balancer, three), three, [batch_of()], leave_out)
    assert balancer.shown[0].tasks == ("segmentation",)
    assert not any("decoders.depth" in name or "decoders.far" in name for name in found)
    expected = task_gradients(three, [batch_of()])["segmentation"]
    reach = reach_of(three)
    for name, grad in found.items():
        weight = SHARED["segmentation"] if len(reach.tasks[name]) > 1 else 1
        torch.testing.assert_close(grad, weight * expected[name], rtol=1e-9, atol=1e-12)


def test_a_task_that_comes_only_in_a_later_batch_has_its_share(three):
    turns = iter((False, True))

    def every_other(losses):
        return losses if next(turns) else replace(losses, present=losses.present - {"depth"})

    balancer, batches = fixed(three), [batch_of(1), batch_of(2)]
    _, found = step(passes(balancer, three, Conditions(2)), three, batches, every_other)
    assert set(balancer.shown[0].tasks) == {"segmentation", "depth", "far"}
    gradients = task_gradients(three, batches)
    late = task_gradients(three, batches[1:])["depth"]
    gradients["depth"] = {name: grad / 2 for name, grad in late.items()}
    assert_same(found, weighted(gradients, reach_of(three), *weights_of(three)))


def test_a_step_without_any_task_is_nothing(three):
    for at in PLACES:
        balancer = fixed(three, at)
        report, found = step(
            passes(balancer, three), three, [batch_of()], lambda x: replace(x, present=frozenset())
        )
        assert found == {} and report.total == 0 and balancer.shown == []


@pytest.mark.parametrize("at", PLACES)
def test_between_solutions_the_last_weights_hold_without_another_pass_for_rows(three, at):
    balancer, batches = fixed(three, at, every=3), [batch_of()]
    backward = passes(balancer, three)
    expected = weighted(task_gradients(three, batches), reach_of(three), *weights_of(three))
    for number in range(1, 8):
        _, found = step(backward, three, batches)
        assert_same(found, expected)
        assert len(balancer.shown) == 1 + (number - 1) // 3
        balancer.shared = dict.fromkeys(SHARED, 0.0) if number % 3 else dict(SHARED)


def test_between_solutions_steps_of_several_batches_pass_the_cut(three):
    balancer, batches = fixed(three, every=2), [batch_of(1), batch_of(2)]
    backward = passes(balancer, three, Conditions(2))
    gradients = task_gradients(three, batches)
    expected = weighted(gradients, reach_of(three), *weights_of(three))
    for _ in range(2):
        assert_same(step(backward, three, batches)[1], expected)
    assert len(balancer.shown) == 1


def test_a_task_that_is_not_finite_is_left_out_between_solutions_too(three):
    def spoil(losses):
        bad = losses.tasks["depth"] * torch.tensor(float("nan"))
        return replace(losses, tasks=losses.tasks | {"depth": bad})

    backward = passes(fixed(three, every=5), three)
    step(backward, three, [batch_of()])
    report, found = step(backward, three, [batch_of()], spoil)
    assert report.left_out == ("depth",)
    assert all(grad.isfinite().all() for grad in found.values())


@pytest.mark.parametrize("at", PLACES)
def test_a_scale_multiplies_every_gradient_and_changes_no_weight(three, at):
    plain, scaled = fixed(three, at), fixed(three, at)
    report, expected = step(passes(plain, three), three, [batch_of()])
    scale = torch.tensor(1024.0)
    again, found = step(passes(scaled, three), three, [batch_of()], scale=scale)
    assert_same({n: grad / 1024 for n, grad in found.items()}, expected)
    assert torch.equal(plain.shown[0].gramian, scaled.shown[0].gramian)
    assert report.numbers.keys() == again.numbers.keys()


@pytest.mark.parametrize("at", PLACES)
def test_a_scaled_gradient_that_overflows_voids_the_step_and_moves_no_balancer(three, at):
    balancer = fixed(three, at)
    report, found = step(
        passes(balancer, three), three, [batch_of()], scale=torch.tensor(float("inf"))
    )
    assert report.left_out == () and balancer.shown == []
    assert any(not grad.isfinite().all() for grad in found.values())


def test_gradients_have_the_strides_of_their_parameters(tiny):
    for at in PLACES:
        objective = objective_of(tiny, 3).to(memory_format=torch.channels_last)
        backward = passes(fixed(objective, at), objective)
        for _ in range(2):
            step(backward, objective, [batch_of()])
        for name, parameter in objective.named_parameters():
            if parameter.grad is not None:
                assert parameter.grad.stride() == parameter.stride(), name


def test_fused_and_plain_adam_agree_on_channels_last_rows(tiny):
    found = []
    for fused in (False, True):
        torch.manual_seed(0)
        objective = objective_of(tiny, 3).float().to(memory_format=torch.channels_last)
        optimizer = torch.optim.Adam(objective.parameters(), lr=1e-2, fused=fused)
        batch = batch_of()
        batch = replace(batch, image=batch.image.float())
        reach = reach_of(objective.double())
        objective.float()
        backward = build_backward(fixed(objective), objective, reach, Conditions())
        for _ in range(3):
            step(backward, objective, [batch])
            optimizer.step()
        found.append([p.detach().clone() for p in objective.parameters()])
    for plain, fused in zip(*found, strict=True):
        torch.testing.assert_close(plain, fused, rtol=1e-5, atol=1e-6)


class Straight(mtlkit.DirectionBalancer):
    """Makes the direction of ones, and spoils the rows."""

    def prepare(self, columns, like):
        self.columns = columns

    def weights(self, gradients):
        return torch.ones(len(gradients.tasks), dtype=torch.float64)

    def direction(self, gradients, weights):
        self.seen = gradients.rows.clone()
        gradients.rows.zero_()
        return torch.ones(self.columns, dtype=gradients.rows.dtype)


def test_a_direction_replaces_the_sum_of_the_rows(three):
    balancer = Straight(tuple(three.model.tasks))
    for scale in (None, torch.tensor(8.0)):
        _, found = step(passes(balancer, three), three, [batch_of()], scale=scale)
        reach, gradients = reach_of(three), task_gradients(three, [batch_of()])
        for name in reach.shared:
            assert (found[name] == (1 if scale is None else 8)).all()
        rows = [torch.cat([gradients[t][n].flatten() for n in reach.shared]) for t in gradients]
        torch.testing.assert_close(balancer.seen, torch.stack(rows), rtol=1e-9, atol=1e-12)
        for task, found_of_task in gradients.items():
            for name in reach.private(task):
                factor = 1 if scale is None else 8
                torch.testing.assert_close(found[name], found_of_task[name] * factor)


class Pair(nn.Module):
    """Two tasks whose trunk can be reached past its features, or has none."""

    def __init__(self, past: bool, has_features: bool = True) -> None:
        super().__init__()
        self.past, self.has_features = past, has_features
        self.trunk = nn.Linear(3, 3)
        self.heads = nn.ModuleDict({name: nn.Linear(3, 1) for name in ("a", "b")})

    def forward(self, x):
        inner = self.trunk(x)
        features = [inner.view_as(inner)]
        tasks = {name: head(features[0]).square().mean() for name, head in self.heads.items()}
        if self.past:
            tasks["a"] = tasks["a"] + inner.mean()
        told = features if self.has_features else []
        return Losses(tasks, {}, None, frozenset(tasks), Output({}, features=told))


def of_pair(at, past=False, conditions=None, has_features=True):
    network, x = Pair(past, has_features).double(), torch.randn(5, 3).double()
    balancer = Fixed(("a", "b"), {"a": 1, "b": 1}, {"a": 1, "b": 1}, at)
    reach = mtlkit.gradients.probe(network, network(x))
    return build_backward(balancer, network, reach, conditions or Conditions()), network, x


@pytest.mark.parametrize("at", ["shared", "last_shared"])
@pytest.mark.parametrize("how", [{"past": True}, {"has_features": False}], ids=str)
def test_a_trunk_without_a_clean_cut_takes_the_rows(at, how):
    backward, network, x = of_pair(at, **how)
    _, found = backward(network(x)), {n: p.grad for n, p in network.named_parameters()}
    network.zero_grad()
    torch.stack(list(network(x).tasks.values())).sum().backward()
    assert_same(found, {n: p.grad for n, p in network.named_parameters()})


class Pyramid(nn.Module):
    """Two feature maps of which one is made from the other, with or without a cut."""

    def __init__(self, has_cut: bool) -> None:
        super().__init__()
        self.has_cut = has_cut
        self.parts = nn.ModuleDict({name: nn.Linear(3, 3) for name in ("deep", "fine", "a", "b")})

    def forward(self, x):
        deep = self.parts["deep"](x)
        maps = [self.parts["fine"](x) + deep, deep]
        features = mtlkit.nn.cut(maps) if self.has_cut else maps
        tasks = {n: sum(self.parts[n](m).square().mean() for m in features) for n in ("a", "b")}
        return Losses(tasks, {}, None, frozenset(tasks), Output({}, features=features))


@pytest.mark.parametrize("every", [1, 2])
@pytest.mark.parametrize("at", PLACES)
@pytest.mark.parametrize("has_cut", [True, False])
def test_feature_maps_that_depend_on_each_other_count_once(at, has_cut, every):
    network, x = Pyramid(has_cut).double(), torch.randn(5, 3).double()
    ones = {"a": 2.0, "b": 2.0}
    balancer = Fixed(("a", "b"), ones, ones, at, every)
    reach = mtlkit.gradients.probe(network, network(x))
    assert reach.is_chained is not has_cut
    if not has_cut and at in ("features", "decoder_entry"):
        with pytest.raises(UsageError, match=r"depends on another.*nn\.cut"):
            build_backward(balancer, network, reach, Conditions())
        return
    backward = build_backward(balancer, network, reach, Conditions())
    for _ in range(2):
        network.zero_grad()
        backward(network(x))
        found = {n: p.grad.clone() for n, p in network.named_parameters()}
        network.zero_grad()
        (2 * torch.stack(list(network(x).tasks.values())).sum()).backward()
        assert_same(found, {n: p.grad for n, p in network.named_parameters()})


class Aside(Pair):
    """A third task that reads no feature."""

    def __init__(self) -> None:
        super().__init__(past=False)
        self.heads["c"] = nn.Linear(3, 1)

    def forward(self, x):
        losses = super().forward(x)
        aside = self.heads["c"](x).square().mean()
        tasks = losses.tasks | {"c": aside}
        return replace(losses, tasks=tasks, present=frozenset(tasks))


@pytest.mark.parametrize("at", PLACES)
def test_a_task_off_the_trunk_has_gradient_0_there_and_its_own_elsewhere(at):
    network, x = Aside().double(), torch.randn(5, 3).double()
    weights = {"a": 0.5, "b": 2.0, "c": 3.0}
    balancer = Fixed(("a", "b", "c"), weights, weights, at)
    reach = mtlkit.gradients.probe(network, network(x))
    if at == "last_shared":  # no weight is shared by all three
        with pytest.raises(UsageError, match="share no weight"):
            build_backward(balancer, network, reach, Conditions())
        return
    build_backward(balancer, network, reach, Conditions())(network(x))
    found = {n: p.grad.clone() for n, p in network.named_parameters()}
    network.zero_grad()
    sum(weights[name] * loss for name, loss in network(x).tasks.items()).backward()
    assert_same(found, {n: p.grad for n, p in network.named_parameters()})
    assert balancer.shown[0].gramian[2].tolist() == [0, 0, 0]


def test_a_step_of_more_batches_than_the_recipe_says_is_solved_once(three):
    balancer, batches = fixed(three, "last_shared"), [batch_of(1), batch_of(2)]
    gradients = task_gradients(three, batches)
    expected = weighted(gradients, reach_of(three), *weights_of(three))
    assert_same(step(passes(balancer, three), three, batches)[1], expected)
    assert len(balancer.shown) == 1
    with pytest.raises(UsageError, match="at: features: needs a step of one batch, not 2"):
        step(passes(fixed(three, "features"), three), three, batches)


@pytest.mark.parametrize("at", PLACES)
def test_a_private_gradient_that_is_not_finite_is_noticed(three, at):
    head = three.model.architecture.decoders["far"].head

    def spoil(losses):
        root = (head.weight * 0).sum().sqrt()  # its derivative at 0 is infinite
        return replace(losses, tasks=losses.tasks | {"far": losses.tasks["far"] + root})

    balancer = fixed(three, at)
    report, found = step(passes(balancer, three), three, [batch_of()], spoil)
    assert report.left_out == ("far",) and "far" not in balancer.shown[0].tasks
    assert all(grad.isfinite().all() for grad in found.values())


@pytest.mark.parametrize("at", ["features", "decoder_entry"])
def test_places_that_a_model_lacks_are_refused_with_what_to_write(at):
    with pytest.raises(UsageError, match=f"at: {at}: .* past its features.* Write at: shared"):
        of_pair(at, past=True)
    with pytest.raises(UsageError, match=f"at: {at}: .*accumulate is 2. Write at: shared, or"):
        of_pair(at, conditions=Conditions(accumulate=2))
    with pytest.raises(UsageError, match=f"at: {at}: .* no trunk that ends in features"):
        of_pair(at, has_features=False)
    with pytest.raises(UsageError, match=r"at: trunk: this architecture tells no trunk"):
        of_pair("trunk", has_features=False)


def test_tasks_that_share_nothing_are_refused(tiny):
    alone = objective_of(tiny, 1)
    with pytest.raises(UsageError, match=r"share no parameter .* Write \{type: equal\}"):
        passes(fixed(alone), alone)
