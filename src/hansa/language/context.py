"""What is going on right now: which computation is being traced, and which runtime executes calls.

Both are context variables, so threads and asyncio tasks do not see each other's. The language only knows what a
runtime is (`Runtime`); the runtimes themselves live in `hansa.runtimes`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import FrameType
from typing import TYPE_CHECKING, Any, Protocol

from hansa import _reading

if TYPE_CHECKING:  # for `import hansa` needs this module, and NumPy only where types are made
    from hansa.language.computation import Computation

_PACKAGE = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))


class Runtime(Protocol):
    """Something that executes computations.

    It may also have a method `plan(computation)`, which says in a line how it would go about it; `hansa.explain` shows
    that. Another, `prepare(computation, argument)`, compiles what a call with an argument of these shapes needs, works
    through none of its sequences, and gives nothing; `hansa.DeviceStage.prepare` calls it. In `invoke`,
    `hansa.current_occasion()` says what the call is part of. A method `counted(occasion)` may say, after the call, who
    was counted: a `hansa.Counted`, or None if all were that it was given. With an attribute `reaches_elsewhere` that is
    True it is given a `hansa.Elsewhere`, too, in place of clients' values. With an attribute `reads_examples` that is
    True it is given cohorts whose examples have not been read, where it is known how to (`hansa.types.unread`).
    """

    def invoke(self, computation: Computation, argument: Any) -> Any:
        """Run `computation` on `argument` (None if it takes none) and return its result.

        `argument` is what the caller passed: a value for the parameter's type, where a federated value at the
        clients is a list with one entry per client, or a `hansa.ClientValues`; of what the clients of a population
        keep, a `hansa.ClientStates`, of which those of the call's clients are meant.
        """
        ...


class Trace:
    """One call of a Python function that records a graph. Compared by identity."""

    def __init__(self, name: str, kind: str) -> None:
        self.name = name
        self.kind = kind

    def __repr__(self) -> str:
        return f"the {self.kind} {self.name!r}"


_trace: ContextVar[Trace | None] = ContextVar("hansa_trace", default=None)
_runtime: ContextVar[Runtime | None] = ContextVar("hansa_runtime", default=None)
_default: list[Callable[[], Runtime]] = []

_reading.say(lambda: bool(getattr(_runtime.get(), "reads_examples", False)))


def current_trace() -> Trace | None:
    """The innermost computation whose Python function is running now, or None outside all of them."""
    return _trace.get()


@contextmanager
def tracing(trace: Trace) -> Iterator[Trace]:
    """Make `trace` the innermost one for the duration."""
    token = _trace.set(trace)
    try:
        yield trace
    finally:
        _trace.reset(token)


def set_default_runtime(factory: Callable[[], Runtime]) -> None:
    """Say how to make the runtime that is used where none was set. Called once, by the `hansa` package."""
    _default[:] = [factory]


def default_runtime() -> Runtime:
    """The runtime that is used where none was set."""
    return _default[0]()


def current_runtime() -> Runtime:
    """The runtime that executes calls made here."""
    current = _runtime.get()
    return default_runtime() if current is None else current


def set_runtime(runtime: Runtime | None) -> None:
    """Execute the calls made from here on with `runtime`; None goes back to the default one.

    Examples:
        >>> hansa.set_runtime(hansa.InProcessRuntime(clients_at_once=8))
        >>> hansa.set_runtime(None)
    """
    _runtime.set(None if runtime is None else _checked(runtime))


@contextmanager
def runtime(value: Runtime) -> Iterator[Runtime]:
    """Execute the calls in a `with` block with the runtime `value`.

    Examples:
        >>> add = hansa.jax_computation(lambda a, b: a + b, "int32", "int32")
        >>> with hansa.runtime(hansa.ReferenceRuntime()):
        ...     print(add(1, 2))
        3
    """
    token = _runtime.set(_checked(value))
    try:
        yield value
    finally:
        _runtime.reset(token)


def _checked(value: Any) -> Runtime:
    if isinstance(value, type):
        raise TypeError(f"a runtime is an object, found the class {value.__name__}; make one: {value.__name__}()")
    if not callable(getattr(value, "invoke", None)):
        raise TypeError(
            "a runtime is an object with a method invoke(computation, argument), such as hansa.InProcessRuntime(); "
            f"found {value!r}"
        )
    checked: Runtime = value
    return checked


@contextmanager
def explaining_recursion(name: str) -> Iterator[None]:
    """While the function `name` is traced: says why it is not there, where it looks for itself."""
    try:
        yield
    except NameError as error:
        if error.name == name:
            error.add_note(
                f"{name!r} is still being traced, and a computation cannot call itself: tracing it would never end. "
                "Repeat with hansa.sequence_reduce or, in a local computation, jax.lax.while_loop or jax.lax.fori_loop."
            )
        raise


def user_line() -> str:
    """`file:line` of the innermost frame that is not Hansa's own, or an empty string."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if not frame.f_code.co_filename.startswith(_PACKAGE):
            return f"{frame.f_code.co_filename}:{frame.f_lineno}"
        frame = frame.f_back
    return ""
