"""`Factory`: a rule that makes an aggregation for each type of value."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import ContextVar

from hansa._tracebacks import boundaries
from hansa.aggregators.aggregation import Aggregation
from hansa.types import Type, to_type


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
        token = _given_finite.set(_asked_finite.get() is self)
        try:
            return self._create(to_type(value_type), to_type(weight_type))
        finally:
            _given_finite.reset(token)

    def __repr__(self) -> str:
        given = [f"{value}" if name == "inner" else f"{name}={value!r}" for name, value in self._settings.items()]
        return f"{self._name}({', '.join(given)})"


_asked_finite: ContextVar[Factory | None] = ContextVar("asked_finite", default=None)
_given_finite: ContextVar[bool] = ContextVar("given_finite", default=False)


def of_finite(rule: Factory, value_type: Type, weight_type: Type) -> Aggregation:
    """The aggregation of a rule to which only finite values are given, so that it need not look."""
    token = _asked_finite.set(rule)
    try:
        return rule(value_type, weight_type)
    finally:
        _asked_finite.reset(token)


def given_finite() -> bool:
    """Whether the rule of which an aggregation is being made is given finite values only."""
    return _given_finite.get()


def check_factory(inner: object, what: str) -> Factory:
    """The factory that another one takes in."""
    if isinstance(inner, Factory):
        return inner
    raise TypeError(
        f"{what} takes in another rule, such as hansa.aggregators.mean(), found {inner!r}; give numbers by name"
    )
