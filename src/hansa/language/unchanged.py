"""Which arrays a jaxpr hands on as they are: also with a literal zero added, or by a choice among the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal

UNKNOWN, ZERO = -1, -2
"""What a value may be, in place of the number of an argument."""


@dataclass(frozen=True)
class _Value:
    """What is known of a value.

    Attributes:
        of: the number of the argument that it is, `ZERO` or `UNKNOWN`.
        is_one: whether all its elements are the same number, by the way it was made.
    """

    of: int
    is_one: bool = False


def unchanged(closed: ClosedJaxpr) -> list[int]:
    """For each result of a jaxpr the number of the argument that it is, as far as its numbers are finite, or -1.

    A step of an optimizer that is a literal zero, as `optax.set_to_zero` makes it, changes nothing.
    """
    given = [_Value(i, not variable.aval.shape) for i, variable in enumerate(closed.jaxpr.invars)]
    return [max(found.of, UNKNOWN) for found in _through(closed.jaxpr, given)]


def _through(jaxpr: Jaxpr, given: Sequence[_Value]) -> list[_Value]:
    known: dict[Any, _Value] = dict(zip(jaxpr.invars, given, strict=True))

    def of(atom: Any) -> _Value:
        if isinstance(atom, Literal):
            return _Value(ZERO if np.ndim(atom.val) == 0 and atom.val == 0 else UNKNOWN, True)
        return known.get(atom) or _Value(UNKNOWN, not atom.aval.shape)

    for equation in jaxpr.eqns:
        found = _equation(equation, [of(atom) for atom in equation.invars])
        known.update(zip(equation.outvars, found, strict=True))
    return [of(atom) for atom in jaxpr.outvars]


def _equation(equation: JaxprEqn, given: list[_Value]) -> list[_Value]:
    name, params = equation.primitive.name, equation.params
    if name in _CALLS:
        inner = next((params[key] for key in ("jaxpr", "call_jaxpr", "fun_jaxpr") if key in params), None)
        jaxpr = inner.jaxpr if isinstance(inner, ClosedJaxpr) else inner
        if jaxpr is not None and len(jaxpr.invars) == len(given):
            return _through(jaxpr, given)
    if name == "cond":
        ways = [_through(branch.jaxpr, given[1:]) for branch in params["branches"]]
        return [_common(values) for values in zip(*ways, strict=True)]
    if name == "while":
        first, loop = params["cond_nconsts"], params["body_jaxpr"].jaxpr
        start = first + params["body_nconsts"]
        return _looped(loop, given[first:start], given[start:])
    if name == "scan":
        first = params["num_consts"]
        start = first + params["num_carry"]
        carry = _looped(params["jaxpr"].jaxpr, given[:first], given[first:start])
        return carry + [_Value(UNKNOWN)] * (len(equation.outvars) - len(carry))
    if name == "optimization_barrier":
        return given
    if len(equation.outvars) != 1:
        return [_Value(UNKNOWN) for _ in equation.outvars]
    value = _result(name, given)
    out: Any = equation.outvars[0].aval
    sources = [atom.aval for atom, each in zip(equation.invars, given, strict=True) if each.of == value.of]
    same = value.of < 0 or any(_alike(source, out) for source in sources)
    return [_Value(value.of if same else UNKNOWN, value.is_one or not out.shape)]


def _looped(body: Jaxpr, consts: list[_Value], carry: list[_Value]) -> list[_Value]:
    """What a loop's carry is after any number of steps: where each step hands it on, what it was before them."""
    before = [*consts, *carry]
    inside = [
        _Value(ZERO if i < len(consts) and value.of == ZERO else i, value.is_one) for i, value in enumerate(before)
    ]
    slices = [_Value(UNKNOWN)] * (len(body.invars) - len(inside))
    after = _through(body, [*inside, *slices])[: len(carry)]
    handed_on = [found.of == len(consts) + i for i, found in enumerate(after)]
    return [value if same else _Value(UNKNOWN) for value, same in zip(carry, handed_on, strict=True)]


def _result(name: str, given: list[_Value]) -> _Value:
    zeros = [each.of == ZERO for each in given]
    is_one = all(each.is_one for each in given)
    if name in _REARRANGING:
        return given[0]
    if name in ("neg", "reduce_sum"):
        return _Value(ZERO if zeros[0] else UNKNOWN, is_one)
    if name in ("add", "add_any"):
        return _Value(given[0].of if zeros[1] else given[1].of if zeros[0] else UNKNOWN, is_one)
    if name == "sub":
        same = given[0].of == given[1].of != UNKNOWN
        return _Value(ZERO if same else given[0].of if zeros[1] else UNKNOWN, is_one)
    if name == "mul":  # not by an array, in which one element may be infinite
        gone = (zeros[0] and given[1].is_one) or (zeros[1] and given[0].is_one)
        return _Value(ZERO if gone else UNKNOWN, is_one)
    if name == "select_n":
        return _common(given[1:])
    return _Value(UNKNOWN, is_one and name in _ELEMENTWISE)


def _common(values: Sequence[_Value]) -> _Value:
    """What a value is that may be each of some."""
    return values[0] if len(set(values)) == 1 else _Value(values[0].of if len({v.of for v in values}) == 1 else UNKNOWN)


def _alike(one: Any, other: Any) -> bool:
    return bool(one.shape == other.shape and one.dtype == other.dtype)


_CALLS = frozenset({"jit", "pjit", "closed_call", "core_call", "custom_jvp_call", "custom_vjp_call", "checkpoint"})

_REARRANGING = frozenset({"broadcast_in_dim", "convert_element_type", "copy", "copy_p", "reshape", "squeeze"})

_ELEMENTWISE = frozenset({"abs", "div", "exp", "integer_pow", "log", "max", "min", "pow", "rsqrt", "sqrt"})
