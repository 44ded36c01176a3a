"""Replaces operations of a compiled program by others that XLA's CPU backend runs faster, with the same results.

A rule looks at one equation of a jaxpr and gives a JAX function of the same operands, or None where it knows of no
faster form. `faster` applies the rules everywhere in a program, in the bodies of its loops and branches too: that is
where a round spends its time, and XLA's own pass for convolutions does not look there. What a user wrote, in Keras or
Flax or plain JAX, is by then differentiated, so gradients are rewritten like everything else.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

import jax
from jax import lax
from jax.extend.core import ClosedJaxpr, Jaxpr, jaxpr_as_fun

from hansa.compiler.rewrites.contraction import contraction
from hansa.compiler.rewrites.convolution import convolution
from hansa.compiler.rewrites.in_place import updated_in_place
from hansa.compiler.rewrites.loops import products_outside
from hansa.compiler.rewrites.narrow import transposed_in_loops
from hansa.compiler.rewrites.pooling import maximum_gradient
from hansa.compiler.rewrites.sorting import stable_sort

Rule = Callable[[Any], Callable[..., Any] | None]
"""From an equation to a function of its operands that gives its result."""

_RULES: dict[str, Rule] = {
    "conv_general_dilated": convolution,
    "dot_general": contraction,
    "select_and_scatter_add": maximum_gradient,
    "scan": products_outside,
}


def faster(closed: ClosedJaxpr, portable: bool = False) -> ClosedJaxpr:
    """A program of the same results, for a CPU. Call it in the mode (64-bit) of the trace.

    Args:
        closed: the program.
        portable: whether it is for other platforms too, and its sizes may be symbolic. The faster form is then that of
            a CPU only, and operations that have none for every size stay as they are. Sorts are stable: a file has
            no other ones (`hansa.portable`).
    """
    if portable:
        plain = _jaxpr(closed.jaxpr, _rule("sort", stable_sort))
        return ClosedJaxpr(_on_cpu(_fully(plain, _of_any_size), plain), closed.consts)
    return ClosedJaxpr(_fully(closed.jaxpr, lambda form: form), closed.consts)


def _fully(jaxpr: Jaxpr, applied: Callable[[Rule], Rule]) -> Jaxpr:
    for form in (_rule("while", transposed_in_loops), _fast, _rule("while", updated_in_place)):
        jaxpr = _jaxpr(jaxpr, applied(form))
    return jaxpr


def with_products_outside(closed: ClosedJaxpr) -> ClosedJaxpr:
    """A function with the products in its scans taken out where they can be: faster on any platform, of any size."""
    if closed not in _REWRITTEN:
        _REWRITTEN[closed] = ClosedJaxpr(_jaxpr(closed.jaxpr, _rule("scan", products_outside)), closed.consts)
    return _REWRITTEN[closed]


_REWRITTEN: WeakKeyDictionary[ClosedJaxpr, ClosedJaxpr] = WeakKeyDictionary()


def _rule(name: str, rule: Rule) -> Rule:
    """A rule for the equations of one primitive."""
    return lambda eqn: rule(eqn) if eqn.primitive.name == name else None


def _fast(eqn: Any) -> Callable[..., Any] | None:
    rule = _RULES.get(eqn.primitive.name)
    return rule(eqn) if rule is not None else None


def _of_any_size(rule: Rule) -> Rule:
    """The rule, where it has a form for every size."""

    def form(eqn: Any) -> Callable[..., Any] | None:
        try:
            fast = rule(eqn)
            if fast is not None:
                jax.eval_shape(fast, *_avals(eqn))
        except Exception:  # whatever comes of asking how large a symbolic size is
            return None
        return fast

    return form


def _on_cpu(fast: Jaxpr, plain: Jaxpr) -> Jaxpr:
    """One program on CPUs, and another elsewhere."""
    if fast is plain:
        return plain
    taken: list[Any] = [*plain.constvars, *plain.invars]

    def of(jaxpr: Jaxpr) -> Callable[..., Any]:
        count = len(jaxpr.constvars)
        return lambda *args: jaxpr_as_fun(ClosedJaxpr(jaxpr, args[:count]))(*args[count:])

    def either(*args: Any) -> Any:
        return lax.platform_dependent(*args, cpu=of(fast), default=of(plain))

    avals = [jax.ShapeDtypeStruct(var.aval.shape, var.aval.dtype) for var in taken]
    (call,) = jax.make_jaxpr(jax.jit(either))(*avals).jaxpr.eqns
    after: Jaxpr = plain.replace(eqns=[call.replace(invars=taken)], outvars=call.outvars)
    return after


def _avals(eqn: Any) -> list[Any]:
    return [jax.ShapeDtypeStruct(atom.aval.shape, atom.aval.dtype) for atom in eqn.invars]


def _jaxpr(jaxpr: Jaxpr, form: Rule) -> Jaxpr:
    equations = [_equation(eqn, form) for eqn in jaxpr.eqns]
    if all(new is old for new, old in zip(equations, jaxpr.eqns, strict=True)):
        return jaxpr
    after: Jaxpr = jaxpr.replace(eqns=equations)
    return after


def _equation(eqn: Any, form: Rule) -> Any:
    params = {name: _parameter(value, form) for name, value in eqn.params.items()}
    if any(params[name] is not value for name, value in eqn.params.items()):
        eqn = eqn.replace(params=params)
    function = form(eqn)
    if function is None:
        return eqn
    (call,) = jax.make_jaxpr(jax.jit(function))(*_avals(eqn)).jaxpr.eqns
    return call.replace(invars=eqn.invars, outvars=eqn.outvars)


def _parameter(value: Any, form: Rule) -> Any:
    if isinstance(value, ClosedJaxpr):
        inner = _jaxpr(value.jaxpr, form)
        return value if inner is value.jaxpr else ClosedJaxpr(inner, value.consts)
    if isinstance(value, Jaxpr):
        return _jaxpr(value, form)
    if type(value) in (tuple, list):
        parts = [_parameter(part, form) for part in value]
        same = all(new is old for new, old in zip(parts, value, strict=True))
        return value if same else type(value)(parts)
    return value
