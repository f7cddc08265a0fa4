"""What a contract is made of: checks, each a promise and what looks whether it is kept."""

from __future__ import annotations

import contextlib
import linecache
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mtlkit.contracts import Plugin
from mtlkit.errors import MtlkitError, UsageError, suggest
from mtlkit.plugin_file import first_line, innermost

ROUNDING = 1e-5
"""Of a distance of predictions in float32 that should be 0."""


class BrokenPromise(AssertionError):
    """What a check found; an `assert` of the plugin's own code is never taken for it."""


@dataclass(frozen=True)
class Check:
    """One promise, and what looks whether a plugin keeps it.

    Args:
        kind: of plugin.
        name: the promise as an identifier, for the ids of tests.
        promise: the promise as a sentence.
        test: called with the plugin and what it works with; raises BrokenPromise.
        is_of_options: whether each option of a class is looked at, and not only its defaults.
    """

    kind: str
    name: str
    promise: str
    test: Callable[..., None]
    is_of_options: bool = True

    def __call__(self, plugin: Plugin, *partners: Any) -> None:
        """Run the check.

        Args:
            plugin: of the check's kind.
            partners: what it works with, as the contract's `check_…` says.

        Raises:
            AssertionError: the promise is not kept; the text says what was found, and what to do.
        """
        __tracebackhide__ = True  # pytest: show the message, not this frame
        broken = f"{self.kind} {plugin.type_name()!r} breaks its contract.\nPromised: "
        broken += f"{self.promise}\nFound: "
        try:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                self.test(plugin, *partners)
        except BrokenPromise as error:
            cause = error.__cause__  # what `told` caught
            reason = f" ({_reason(plugin, cause)})" if cause else ""
            raise AssertionError(f"{broken}{error}{reason}") from cause
        except MtlkitError as error:  # what mtlkit says of a plugin is a sentence already
            raise AssertionError(f"{broken}{error}") from error
        except Exception as error:  # whatever the plugin's code raises, be it by `assert`
            reason = _reason(plugin, error)
            raise AssertionError(f"{broken}{reason}. Mend the plugin") from error


def _reason(plugin: Plugin, error: BaseException) -> str:
    """Return class and first line of an error, and the plugin's line at which it came up."""
    file, line = innermost(error, _files_of(plugin))
    words = first_line(error)
    if file and not words:  # an `assert` without a sentence of its own
        words = linecache.getline(file, line).strip()
    place = f" ({Path(file).name}, line {line})" if file else ""
    return (f"{type(error).__name__}: {words}" if words else type(error).__name__) + place


def _files_of(plugin: Plugin) -> set[str | None]:
    """Return the files of the plugin's module and of its package; of mtlkit's, its own alone."""
    own = type(plugin).__module__
    package = own.partition(".")[0]
    modules = sys.modules.copy().items()
    return {
        getattr(module, "__file__", None)
        for name, module in modules
        if name == own or (package != "mtlkit" and name.startswith(f"{package}."))
    }


@dataclass
class Contract:
    """All that a kind of plugin promises.

    Args:
        kind: as in `mtlkit.plugins.KINDS`.
        checks: in the order of the file.
    """

    kind: str
    checks: list[Check] = field(default_factory=list)

    def promises(self, test: Callable[..., None]) -> Callable[..., None]:
        """Add a check that is run for each option of a class; a decorator.

        Args:
            test: its name and docstring are those of the promise.
        """
        return self.add(test, is_of_options=True)

    def promises_once(self, test: Callable[..., None]) -> Callable[..., None]:
        """Add a check that is run for a class with its defaults alone; a decorator.

        Args:
            test: its name and docstring are those of the promise.
        """
        return self.add(test, is_of_options=False)

    def add(
        self,
        test: Callable[..., None],
        is_of_options: bool,
        name: str = "",
        promise: str = "",
    ) -> Callable[..., None]:
        """Add a check, and return its function.

        Args:
            test: called with the plugin and its partners.
            is_of_options: as in `Check`.
            name: default: the function's.
            promise: default: the first line of its docstring.
        """
        told = promise or (test.__doc__ or "").split("\n")[0]
        self.checks.append(
            Check(self.kind, name or test.__name__, told, test, is_of_options),
        )
        return test

    def run(self, plugin: Plugin, *partners: Any) -> None:
        """Run every check.

        Args:
            plugin: of this kind.
            partners: what it works with.

        Raises:
            AssertionError: a promise is not kept.
        """
        __tracebackhide__ = True
        for check in self.checks:
            check(plugin, *partners)

    def check(self, name: str) -> Check:
        """Return a check by name.

        Args:
            name: of its function.

        Raises:
            UsageError: there is none.
        """
        found = {check.name: check for check in self.checks}
        if name not in found:
            raise UsageError(f"no check of {self.kind}s is called {name!r}; {suggest(name, found)}")
        return found[name]


def require(claim: object, found: str) -> None:
    """Raise a BrokenPromise unless a claim holds; `assert` would vanish under `python -O`.

    Args:
        claim: a bool, or a tensor of one.
        found: what is wrong, and what to do.

    Raises:
        BrokenPromise: the claim does not hold.
    """
    __tracebackhide__ = True
    if not claim:
        raise BrokenPromise(found)


def require_scalar(found: Any, what: str) -> None:
    """Raise a BrokenPromise unless something is a scalar tensor on the graph.

    Args:
        found: what a plugin returned.
        what: it is, in words.
    """
    __tracebackhide__ = True
    form = f"shape {tuple(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
    is_scalar = isinstance(found, Tensor) and found.shape == ()
    require(is_scalar, f"{what} is of {form}. Return a scalar tensor")
    require(found.requires_grad, f"{what} has no gradient. Compute it without detaching anything")


def require_equal(found: Tensor, wanted: Tensor, sentence: str) -> None:
    """Raise a BrokenPromise unless two tensors are equal, bit for bit.

    Args:
        found: any.
        wanted: any.
        sentence: what is wrong, and what to do.
    """
    __tracebackhide__ = True
    require(torch.equal(found, wanted), sentence)


def require_close(
    found: Tensor,
    wanted: Tensor,
    sentence: str,
    rtol: float | None = None,
    atol: float | None = None,
) -> None:
    """Raise a BrokenPromise unless two tensors are equal but for rounding; NaN equals NaN.

    Args:
        found: any.
        wanted: any.
        sentence: what is wrong, and what to do.
        rtol: relative difference; None: as torch has it for the dtype.
        atol: absolute difference; both or none.
    """
    __tracebackhide__ = True
    try:
        torch.testing.assert_close(found, wanted, rtol=rtol, atol=atol, equal_nan=True)
    except AssertionError:
        raise BrokenPromise(sentence) from None


def require_distances(values: Tensor, shape: tuple[int, ...], name: str) -> None:
    """Raise a BrokenPromise unless all values are finite and none is below 0 but for rounding.

    Args:
        values: what a method returned.
        shape: that it should have.
        name: of the method.
    """
    __tracebackhide__ = True
    seen = f"`{name}` has the shape {tuple(values.shape)}, not {shape}"
    require(values.shape == shape, f"{seen}. Return one number per pixel, (N,1,H,W)")
    low, high = values.amin(), values.amax()
    seen = f"`{name}` reaches from {number(low)} to {number(high)}"
    is_good = bool(values.isfinite().all()) and low >= -ROUNDING
    require(is_good, f"{seen}. Return finite numbers from 0 up")


def backward(loss: Tensor) -> None:
    """Run the backward pass, which torch leaves untyped.

    Args:
        loss: a scalar on the graph.
    """
    loss.backward()  # type: ignore[no-untyped-call]


def number(value: Tensor) -> str:
    """Return a scalar in words.

    Args:
        value: may be on the graph.
    """
    return f"{float(value.detach()):g}"


@contextlib.contextmanager
def told(sentence: str) -> Iterator[None]:
    """Tell whatever is raised inside as a BrokenPromise, of which it is the cause.

    Args:
        sentence: what is wrong, and what to do.
    """
    __tracebackhide__ = True
    try:
        yield
    except Exception as error:
        raise BrokenPromise(sentence) from error


def has_gradient(gradient: Tensor | None) -> bool:
    """Return whether a gradient is there, finite and somewhere other than 0.

    Args:
        gradient: `.grad`, or what `torch.autograd.grad` returned.
    """
    return gradient is not None and bool(gradient.isfinite().all() and gradient.any())
