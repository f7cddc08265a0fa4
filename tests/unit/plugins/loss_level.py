"""What the tests of methods that see losses alone share."""

from __future__ import annotations

import torch

DTYPES = (torch.float32, torch.float64)
SCALES = (1e-8, 1.0, 1e8)


def scalars(values, dtype=torch.float64, device="cpu"):
    """Leaves as the engine makes them: detached losses, by task."""
    return {
        n: torch.tensor(v, dtype=dtype, device=device).requires_grad_() for n, v in values.items()
    }


def weights(balancer, values, dtype=torch.float64):
    """The weight of every task present: the total's derivative by its loss."""
    losses = scalars(values, dtype)
    found = torch.autograd.grad(balancer.total(losses), list(losses.values()))
    return {name: weight.item() for name, weight in zip(losses, found, strict=True)}


def state(balancer):
    """A copy of the state."""
    return {name: value.clone() for name, value in balancer.state_dict().items()}


def is_unmoved(balancer, before):
    """Whether the state is still what `state` returned."""
    now = balancer.state_dict()
    return now.keys() == before.keys() and all(torch.equal(now[n], before[n]) for n in now)


def run_without_values(balancer, tasks):
    """Weigh on a device whose numbers cannot be read, so that waiting for one is an error."""
    balancer = balancer.to("meta").train()
    losses = scalars(dict.fromkeys(tasks, 1.0), torch.float32, "meta")
    balancer.total(losses).backward()
    balancer.after_step(lambda: {name: loss.detach() for name, loss in losses.items()})
    balancer.after_epoch()
    return [losses[name].grad.device.type for name in tasks]
