"""The state of a learning process: how it begins, and the form that it has where clients keep something."""

from __future__ import annotations

from functools import partial
from typing import Any, cast

import jax
import jax.numpy as jnp

from hansa.language import intrinsics as on
from hansa.language.computation import Computation
from hansa.language.computations import LocalComputation
from hansa.language.local import is_wide, tensors, unflatten
from hansa.language.tracing import federated_computation, jax_computation, narrow_computation, wide_computation
from hansa.learning.client_work import as_struct, first_kept
from hansa.learning.finalizers import Finalizer
from hansa.learning.fixed import Names, moving, on_device, only, together
from hansa.learning.hparams import Hparams, hparams_of
from hansa.learning.screening import int64, struct_of
from hansa.models.accumulators import type_of
from hansa.models.model import FunctionalModel
from hansa.types import CLIENTS, SERVER, Struct, StructType, TensorType, Type

_COUNT = TensorType("int64")


class LearningState(Struct):
    """The state of a process whose clients keep something: `server`, the server's part, and `clients`, theirs.

    The fields of the server's part are those of the whole, too: `state.model` is `state.server.model`.

    Examples:
        >>> state = hansa.learning.build_scaffold(model, client_learning_rate=0.1, population=100).initialize()
        >>> state.model is state.server.model
        True
        >>> print(state.clients.work.control["dense/bias"].shape)
        (10,)
    """

    __slots__ = ()

    def __getattr__(self, name: str) -> Any:
        fields = () if name.startswith("_") or name in self._fields else self._server_fields()
        return self["server"][name] if name in fields else super().__getattr__(name)

    def _server_fields(self) -> tuple[str | None, ...]:
        server = self["server"] if "server" in self._fields else None
        return server._fields if isinstance(server, Struct) else ()

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *(name for name in self._server_fields() if name is not None)]


class FirstState:
    """How the state at the server begins, and its type, without that of an aggregator.

    Args:
        model: the model.
        finalizer: what takes the state to the next one.
        hparams: the hyper-parameters, by name.

    Attributes:
        type: the type: `<model,optimizer_state=<int64,…>>`, and `finalizer` and `hparams` where there are any.
    """

    def __init__(self, model: FunctionalModel, finalizer: Finalizer, hparams: Hparams) -> None:
        initial = model.initial_weights
        self._model, self._wide = model, finalizer.wide or is_wide(type_of(initial))
        with jax.enable_x64(self._wide):
            self._slots = finalizer.slots(initial.trainable)
        self._rest = {
            "finalizer": first_kept(finalizer.initial, initial, "initial, what a finalizer keeps at first"),
            "hparams": hparams_of(hparams),
        }
        self._rest = {name: value for name, value in self._rest.items() if len(value)}
        slots = [(None, _COUNT), *_fields(type_of(self._slots))]
        kinds = {name: type_of(value) for name, value in self._rest.items()}
        self.type = StructType([("model", type_of(initial)), ("optimizer_state", StructType(slots)), *kinds.items()])

    def initialize(self, changing: Names) -> Computation:
        """`( -> S@SERVER)`. Weights other than those that rounds change are the same arrays in each that is made."""
        initial, wide = self._model.initial_weights, self._wide
        count = jax_computation(lambda: int64(0))
        rest = _constant(self._slots, wide) if len(self._slots) else None
        fixed, begun = on_device(initial, but=changing), only(initial, changing)
        begin = _constant(begun, self._model.wide) if jax.tree.leaves(begun) else lambda: begun
        # Each is made as it is, whatever its dtypes are.
        more = {name: _constant(value, is_wide(type_of(value))) for name, value in self._rest.items()}

        @federated_computation
        def initialize() -> Any:
            fields = [count(), *(rest() if rest is not None else [])]
            names = [None, *self._slots._fields]
            state = Struct.of(
                model=together(initial, begin(), changing, fixed),
                optimizer_state=Struct(zip(names, fields, strict=True)),
                **{name: value() for name, value in more.items()},
            )
            if not jax.tree.leaves(fixed):
                return on.federated_value(state, SERVER)
            # Each part by itself: what is fixed goes into no program, and is not copied out of one.
            return on.federated_zip(jax.tree.map(partial(on.federated_value, placement=SERVER), state))

        return cast(Computation, initialize)

    def changing(self, update: Type, after: StructType) -> Names:
        """The weights that each state has arrays of its own for.

        Args:
            update: the type of what clients report.
            after: the type of the weights that a round may change.
        """
        reported = isinstance(update, StructType) and update.names == after.names
        return moving(self._model.initial_weights, update if reported else after)  # type: ignore[arg-type]


def at_clients(value: Struct) -> Any:
    """What each client has at first."""
    return on.federated_value(value, CLIENTS)


def selected(computation: LocalComputation, state: Any) -> Any:
    """A function of the state at the server, as a struct of values there.

    What the function hands on of the state is selected and not computed.
    """
    kind = state.type_signature.member
    numbers = computation.function.passed_on()
    parts: dict[Any, Any] = {}
    _collect(state, unflatten(kind, list(range(len(tensors(kind))))), parts)
    made = [name for name, part in numbers._items() if any(number < 0 for number in jax.tree.leaves(part))]
    rest = narrow_or_wide(kind)(kind)(lambda state: _only(computation.function.function(state), made)) if made else None
    done = None if rest is None else on.federated_map(rest, state)
    return Struct(
        [
            (name, done[str(name)] if done is not None and name in made else _picked(part, parts))
            for name, part in numbers._items()
        ]
    )


def _only(value: Any, names: list[str | None]) -> Struct:
    """Some of the fields of a struct, whatever holds them."""
    fields = as_struct(value, "what `sent` gives")
    return Struct([(name, fields[str(name)]) for name in names])


def computed(function: Any, kind: Type, what: str) -> LocalComputation:
    """A function of a struct as a local computation, which gives a struct."""

    def of_state(state: Any) -> Any:
        return function(state)

    of_state.__name__ = what
    found = narrow_or_wide(kind)(kind)(of_state)
    if not isinstance(found.type_signature.result, StructType):
        raise TypeError(
            f"{what} must give a struct, such as {{'model': state.model}}; it gives {found.type_signature.result}"
        )
    return cast(LocalComputation, found)


def narrow_or_wide(kind: Type) -> Any:
    """The decorator of functions that see the weights of a state in their own dtypes."""
    return wide_computation if is_wide(struct_of(kind)["model"]) else narrow_computation


def _collect(value: Any, numbers: Any, parts: dict[Any, Any]) -> None:
    """Each part of a value, by the numbers of the arrays in it."""
    parts.setdefault((tuple(jax.tree.leaves(numbers)), jax.tree.structure(numbers)), value)
    if isinstance(numbers, Struct):
        for index, number in enumerate(numbers):
            _collect(value[index], number, parts)


def _picked(numbers: Any, parts: dict[Any, Any]) -> Any:
    """The parts with these numbers, as large as they are to be had."""
    key = (tuple(jax.tree.leaves(numbers)), jax.tree.structure(numbers))
    if key in parts:
        return parts[key]
    return type(numbers)([(name, _picked(number, parts)) for name, number in numbers._items()])


def _fields(kind: Type) -> tuple[tuple[str | None, Type], ...]:
    return struct_of(kind).fields


def _constant(value: Struct, wide: bool) -> Any:
    decorate = wide_computation if wide else narrow_computation
    return decorate()(lambda: jax.tree.map(jnp.asarray, value))
