"""Rules that are functions of all clients' values at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from hansa.aggregators.aggregation import Aggregation
from hansa.aggregators.checks import check_floats
from hansa.aggregators.factory import Factory
from hansa.aggregators.writing import counted, stateless
from hansa.language import intrinsics as on
from hansa.language.each import federated_stack
from hansa.language.tracing import jax_computation
from hansa.types import Type


class OfRows(Factory):
    """A rule that is a function of all clients' values.

    Args:
        name: what it is called.
        rule: a function of `<value,one>`, whose tensors have a row for each client; `one` is 0 for who is left out.
        settings: what it was made with.
    """

    def __init__(self, name: str, rule: Callable[[Any], Any], settings: Mapping[str, object]) -> None:
        super().__init__(name, self._of, settings)
        self.rule = rule

    def _of(self, value: Type, weight: Type) -> Aggregation:
        check_floats(self.name, value)
        rule = jax_computation(self.rule)

        def step(values: Any, weights: Any) -> Any:
            of_each = counted(values, weights, any_number=True)
            rows = federated_stack(on.federated_zip({"value": of_each.value, "one": of_each.one}))
            return on.federated_map(rule, rows)

        return stateless(step, value, weight)
