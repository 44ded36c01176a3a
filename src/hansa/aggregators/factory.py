"""`Factory`: a rule that makes an aggregation for each type of value, and what all rules are written with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

import jax
import jax.numpy as jnp

from hansa._tracebacks import boundaries
from hansa.aggregators.aggregation import Aggregation
from hansa.language import intrinsics as on
from hansa.language.computation import Computation
from hansa.language.computations import PolymorphicComputation
from hansa.language.each import federated_stack
from hansa.language.tracing import federated_computation, jax_computation
from hansa.templates import MeasuredOutput
from hansa.types import CLIENTS, SERVER, FederatedType, StructType, TensorType, Type, tensor_leaves, to_type
from hansa.types.dtypes import kind as dtype_kind


@boundaries
class Factory:
    """A rule of aggregation, for values of any type: called with a type, it makes the `Aggregation` of such values.

    Args:
        name: what the state and the measurements of the rule are called where another one takes it in.
        create: from the types of value and weight to the aggregation.
        settings: what the rule was made with, by name, for people.

    Examples:
        >>> rule = hansa.aggregators.zeroing(hansa.aggregators.clipping(quantile=0.8), bound=100.0)
        >>> rule
        zeroing(clipping(mean(), bound=1.0, quantile=0.8, rate=0.2), bound=100.0)
        >>> print(rule("float32[3]").state_type)
        <clipping=<bound=float32>>@SERVER

        A rule of your own, the largest value:

        >>> def largest(value_type, weight_type):
        ...     none = hansa.federated_computation(lambda: hansa.federated_value([], hansa.SERVER))
        ...     places = [hansa.FederatedType(kind, hansa.CLIENTS) for kind in (value_type, weight_type)]
        ...     @hansa.federated_computation(none.type_signature.result, *places)
        ...     def next(state, value, weight):
        ...         return hansa.templates.MeasuredOutput(state, hansa.federated_max(value), state)
        ...     return hansa.aggregators.Aggregation(none, next)
        >>> hansa.aggregators.Factory("largest", largest)("float32").needs
        'extremes'
    """

    def __init__(
        self, name: str, create: Callable[[Type, Type], Aggregation], settings: Mapping[str, object] | None = None
    ) -> None:
        self._name, self._create, self._settings = name, create, dict(settings or {})

    @property
    def name(self) -> str:
        """What the state and the measurements of the rule are called where another one takes it in.

        Examples:
            >>> hansa.aggregators.median().name
            'median'
        """
        return self._name

    def __call__(self, value_type: object, weight_type: object = "float32") -> Aggregation:
        """The aggregation of values of a type, with weights of another, an integer or float scalar."""
        return self._create(to_type(value_type), to_type(weight_type))

    def __repr__(self) -> str:
        given = [f"{value}" if name == "inner" else f"{name}={value!r}" for name, value in self._settings.items()]
        return f"{self._name}({', '.join(given)})"


def check_factory(inner: object, what: str) -> Factory:
    """The factory that another one takes in."""
    if isinstance(inner, Factory):
        return inner
    raise TypeError(
        f"{what} takes in another rule, such as hansa.aggregators.mean(), found {inner!r}; give numbers by name"
    )


def check_number(what: str, value: object, *, above: float | None = None, below: float | None = None) -> float:
    """A finite number strictly between two."""
    good = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < float("inf")
    if good and (above is None or value > above) and (below is None or value < below):  # type: ignore[operator]
        return float(value)  # type: ignore[arg-type]
    limits = [f"{word} {limit:g}" for word, limit in (("above", above), ("below", below)) if limit is not None]
    raise ValueError(f"{what} must be a number {' and '.join(limits)}, found {value!r}")


def check_whole(what: str, value: object, least: int) -> int:
    """An integer that is not less than another."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= least:
        return value
    raise ValueError(f"{what} must be an integer of at least {least}, found {value!r}")


def check_floats(what: str, kind: Type) -> None:
    """Checks that a type has tensors of a float dtype only."""
    for leaf in tensor_leaves(kind):
        if dtype_kind(leaf.dtype) != "float":
            raise TypeError(f"{what} takes tensors of float dtypes, found {leaf} in {kind}; cast it at the clients")


def nothing() -> Any:
    """No state, or no measurements, at the server."""
    return on.federated_value([], SERVER)


none = cast(Computation, federated_computation(nothing))
"""The first state of a rule that has none."""


def aggregation(
    initialize: Computation, step: Callable[[Any, Any, Any], MeasuredOutput], value: Type, weight: Type
) -> Aggregation:
    """An aggregation of a function of the state, the clients' values and their weights."""
    places = [FederatedType(kind, CLIENTS) for kind in (value, weight)]

    @federated_computation(initialize.type_signature.result, *places)
    def next(state: Any, value: Any, weight: Any) -> Any:
        return step(state, value, weight)

    return Aggregation(initialize, next)


def stateless(step: Callable[[Any, Any], Any], value: Type, weight: Type) -> Aggregation:
    """An aggregation that has no state and measures nothing: a function of values and weights."""
    return aggregation(
        none, lambda state, values, weights: MeasuredOutput(state, step(values, weights), nothing()), value, weight
    )


def of_all(rule: Computation | PolymorphicComputation, value: Type, weight: Type) -> Aggregation:
    """An aggregation by a function of all clients' values at once: `<value,one>`, in rows, as `counted` makes them."""

    def step(values: Any, weights: Any) -> Any:
        of_each = counted(values, weights)
        rows = federated_stack(on.federated_zip({"value": of_each.value, "one": of_each.one}))
        return on.federated_map(rule, rows)

    return stateless(step, value, weight)


def empty(kind: Type) -> bool:
    """Whether a type at the server holds nothing."""
    member = kind.member if isinstance(kind, FederatedType) else kind
    return isinstance(member, StructType) and not len(member)


def nested(own: Mapping[str, Any], name: str, inner: Any) -> Any:
    """One value at the server of a rule's own fields and, by name, what the rule inside has, if it has anything."""
    fields = dict(own) if empty(inner.type_signature) else {**own, name: inner}
    return on.federated_zip(fields) if fields else nothing()


def counted(value: Any, weight: Any) -> Any:
    """`<value,weight,one>` of each client, all zero for one of weight 0, and `one` 1 for each other.

    What is zero here has no part in any sum, not even a value that is not a number.
    """

    def count(value: Any, weight: Any) -> Any:
        there = weight > 0
        kept = jax.tree.map(lambda leaf: jnp.where(there, leaf, jnp.zeros((), leaf.dtype)), value)
        return {"value": kept, "weight": jnp.where(there, weight, 0), "one": there.astype(jnp.int32)}

    return on.federated_map(jax_computation(count), [value, weight])


def at_least_single(value: Any) -> list[Any]:
    """The arrays of a value, those of half precision as float32, for norms and distances."""
    return [leaf.astype(jnp.promote_types(leaf.dtype, jnp.float32)) for leaf in jax.tree.leaves(value)]


FLOAT = TensorType("float32")
