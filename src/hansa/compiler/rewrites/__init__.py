"""Replaces operations of a compiled program by others that XLA's CPU backend runs faster, with the same results.

A rule looks at one equation of a jaxpr and gives a JAX function of the same operands, or None where it knows of no
faster form. `faster` applies the rules everywhere in a program, in the bodies of its loops and branches too: that is
where a round spends its time, and XLA's own pass for convolutions does not look there. What a user wrote, in Keras or
Flax or plain JAX, is by then differentiated, so gradients are rewritten like everything else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
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
from hansa.compiler.rewrites.orders import kept_in_order
from hansa.compiler.rewrites.pooling import maximum_gradient
from hansa.compiler.rewrites.sorted_rows import read_by_rows
from hansa.compiler.rewrites.sorting import few_long_rows, stable_sort

Rule = Callable[[Any], Callable[..., Any] | None]
"""From an equation to a function of its operands that gives its result."""

_RULES: dict[str, Rule] = {
    "conv_general_dilated": convolution,
    "dot_general": contraction,
    "select_and_scatter_add": maximum_gradient,
    "scan": products_outside,
    "sort": few_long_rows,
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
        plain = _Rewriting({"sort": stable_sort}).jaxpr(closed.jaxpr)
        return ClosedJaxpr(_on_cpu(_fully(plain, _of_any_size, _where_it_can(read_by_rows)), plain), closed.consts)
    return ClosedJaxpr(_fully(closed.jaxpr, lambda rule: rule, read_by_rows), closed.consts)


def _fully(jaxpr: Jaxpr, applied: Callable[[Rule], Rule], of_sorts: Callable[[Jaxpr], Jaxpr]) -> Jaxpr:
    in_order: dict[str, Rule] = dict.fromkeys(("while", "scan"), kept_in_order)
    for rules in (in_order, {"while": transposed_in_loops}, _RULES, {"while": updated_in_place}):
        whole = of_sorts if "sort" in rules else None
        jaxpr = _Rewriting({name: applied(rule) for name, rule in rules.items()}, whole).jaxpr(jaxpr)
    return jaxpr


def _where_it_can(rule: Callable[[Jaxpr], Jaxpr]) -> Callable[[Jaxpr], Jaxpr]:
    """A rule of a whole jaxpr that leaves those of symbolic sizes as they are."""

    def form(jaxpr: Jaxpr) -> Jaxpr:
        try:
            return rule(jaxpr)
        except Exception:  # whatever comes of asking how large a symbolic size is
            return jaxpr

    return form


def with_products_outside(closed: ClosedJaxpr) -> ClosedJaxpr:
    """A function with the products in its scans taken out where they can be: faster on any platform, of any size."""
    if closed not in _REWRITTEN:
        _REWRITTEN[closed] = ClosedJaxpr(_Rewriting({"scan": products_outside}).jaxpr(closed.jaxpr), closed.consts)
    return _REWRITTEN[closed]


_REWRITTEN: WeakKeyDictionary[ClosedJaxpr, ClosedJaxpr] = WeakKeyDictionary()


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


class _Rewriting:
    """Applies rules, by the names of their primitives, to the equations of a jaxpr and of those within it.

    A jaxpr without any such primitive is not gone through: most are.

    Args:
        rules: of equations.
        whole: a rule that looks at all equations of a jaxpr together, before the others.
    """

    def __init__(self, rules: dict[str, Rule], whole: Callable[[Jaxpr], Jaxpr] | None = None) -> None:
        self._rules, self._whole = rules, whole
        self._concerned: dict[int, tuple[Jaxpr, bool]] = {}  # by id, with the jaxpr, whose id it stays

    def jaxpr(self, jaxpr: Jaxpr) -> Jaxpr:
        """The jaxpr, rewritten; the same object if no rule has another form."""
        if not self._concerns(jaxpr):
            return jaxpr
        jaxpr = jaxpr if self._whole is None else self._whole(jaxpr)
        equations = [self._equation(eqn) for eqn in jaxpr.eqns]
        if all(new is old for new, old in zip(equations, jaxpr.eqns, strict=True)):
            return jaxpr
        after: Jaxpr = jaxpr.replace(eqns=equations)
        return after

    def _concerns(self, jaxpr: Jaxpr) -> bool:
        """Whether a jaxpr has a primitive that a rule is for, or one within it has."""
        if id(jaxpr) not in self._concerned:
            found = any(
                eqn.primitive.name in self._rules or any(map(self._concerns, _within(eqn.params.values())))
                for eqn in jaxpr.eqns
            )
            self._concerned[id(jaxpr)] = jaxpr, found
        return self._concerned[id(jaxpr)][1]

    def _equation(self, eqn: Any) -> Any:
        if any(map(self._concerns, _within(eqn.params.values()))):
            params = {name: self._parameter(value) for name, value in eqn.params.items()}
            if any(params[name] is not value for name, value in eqn.params.items()):
                eqn = eqn.replace(params=params)
        rule = self._rules.get(eqn.primitive.name)
        function = None if rule is None else rule(eqn)
        if function is None:
            return eqn
        (call,) = jax.make_jaxpr(jax.jit(function))(*_avals(eqn)).jaxpr.eqns
        return call.replace(invars=eqn.invars, outvars=eqn.outvars)

    def _parameter(self, value: Any) -> Any:
        if isinstance(value, ClosedJaxpr):
            inner = self.jaxpr(value.jaxpr)
            return value if inner is value.jaxpr else ClosedJaxpr(inner, value.consts)
        if isinstance(value, Jaxpr):
            return self.jaxpr(value)
        if type(value) in (tuple, list):
            parts = [self._parameter(part) for part in value]
            same = all(new is old for new, old in zip(parts, value, strict=True))
            return value if same else type(value)(parts)
        return value


def _within(values: Iterable[Any]) -> Iterator[Jaxpr]:
    """The jaxprs among an equation's parameters."""
    for value in values:
        if isinstance(value, ClosedJaxpr):
            yield value.jaxpr
        elif isinstance(value, Jaxpr):
            yield value
        elif type(value) in (tuple, list):
            yield from _within(value)
