"""Where clients that are elsewhere may be passed: for values at the clients, to a runtime that reaches them."""

from __future__ import annotations

from typing import Any

from hansa.language.context import Runtime, current_runtime
from hansa.types import CLIENTS, FederatedType, StructType, Type, is_federated
from hansa.types import names as _names
from hansa.types.elsewhere import Elsewhere
from hansa.types.values import field_values


def check_argument(kind: Type | None, value: Any, what: str, runtime: Runtime) -> None:
    """Checks an argument of the type `kind` for clients that are elsewhere; of other values nothing is checked.

    Raises:
        TypeError: if they stand for a value that is not the clients', or the runtime does not reach them.
    """
    if isinstance(value, Elsewhere):
        if not (isinstance(kind, FederatedType) and kind.placement is CLIENTS and not kind.all_equal):
            raise TypeError(
                f"{what}: expected {kind}, found {value!r}, which stands for values at the clients, {{T}}@CLIENTS; "
                "pass a value of that type"
            )
        check_reached(what, value, runtime)
    elif isinstance(kind, StructType) and is_federated(kind):
        for i, ((name, member), part) in enumerate(zip(kind.fields, field_values(value, kind, what), strict=True)):
            check_argument(member, part, what + _names.step(name, i), runtime)


def check_reached(what: str, value: Any, runtime: Runtime | None = None) -> None:
    """Checks that a runtime, by default the current one, reaches clients that are elsewhere; others are not looked at.

    Raises:
        TypeError: if it does not; `what` names them.
    """
    chosen = current_runtime() if runtime is None and isinstance(value, Elsewhere) else runtime
    if isinstance(value, Elsewhere) and not getattr(chosen, "reaches_elsewhere", False):
        raise TypeError(
            f"{what} is {value!r}, whose data is elsewhere, and {type(chosen).__name__} works on data that it is "
            "given; pass the clients' data, such as data.cohort([0, 1]), or choose a runtime that reaches them: "
            "with hansa.runtime(…)"
        )
