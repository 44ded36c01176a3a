"""Takes matrix products out of loops over time, where one product of all steps does.

A recurrent layer is a scan whose every step multiplies few rows by its weights. Three kinds of product need not wait
for the step before: of a step's input with a weight; of a step's result with a weight, if only the scan's result needs
it, such as the gradient of the input; and those that a step adds to a running sum, such as the gradient of a weight.
The first are computed before the loop, the others after it, from what the loop leaves of each step: the same numbers
but for the order of sums, in products with as many times more rows as there are steps.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
from jax import export, lax
from jax.extend.core import Jaxpr

from hansa.compiler.jaxprs import is_variable, operands, variables, within
from hansa.compiler.products import is_plain_product, transposed_product

# What the loop leaves of all steps, in bytes, is at most so much; a symbolic size counts as so many.
_MOST_BYTES = 2**28
_SYMBOLIC = 64

_FIXED, _GIVEN, _RECURRENT = range(3)
"""What a value in a step depends on: on nothing of the step, on the step's input only, on the steps before."""


def products_outside(eqn: Any) -> Callable[..., list[Any]] | None:
    """The rule for `scan`."""
    body = _Body(eqn)
    if body.jaxpr.effects or not (body.sums or body.before or body.after):
        return None
    if sum(map(_bytes, [*body.before_out, *body.left])) * eqn.params["length"] > _MOST_BYTES:
        return None

    def scan(*operands: Any) -> list[Any]:
        return _evaluate(body, operands)

    return scan


def scan_parts(eqn: Any) -> tuple[int, int]:
    """Where in a scan's inputs its carry and its sequences begin: sequences have an axis more outside than inside."""
    inner = eqn.params["jaxpr"]
    inputs = [len(outer.aval.shape) > len(aval.shape) for outer, aval in zip(eqn.invars, inner.in_avals, strict=True)]
    outputs = [
        len(outer.aval.shape) > len(aval.shape) for outer, aval in zip(eqn.outvars, inner.out_avals, strict=True)
    ]
    sequences = len(inputs) - sum(inputs)
    return sequences - (len(outputs) - sum(outputs)), sequences


@dataclass(frozen=True)
class _Sum:
    """A carry to which each step adds a product and nothing else.

    Attributes:
        carry: its position in the carry.
        product: the equation of the product.
        orders: the transposes that follow it, in order.
        removed: the equations that are not needed in the loop then.
    """

    carry: int
    product: Any
    orders: tuple[tuple[int, ...], ...]
    removed: tuple[Any, ...] = field(repr=False)


class _Body:
    """A scan's body, and which of its equations are done where.

    Attributes:
        consts, carry, xs, carried, ys: the body's variables, by their part.
        sums: the running sums of products.
        fixed: equations that are the same in every step, as far as others outside the loop need them.
        before, after: equations for all steps at once, before and after the loop.
        loop: the equations that stay.
        before_out: what `before` gives to others.
        left: what the loop leaves of each step for `after` and `sums`, besides what its results need.
    """

    def __init__(self, eqn: Any) -> None:
        self.params = eqn.params
        self.jaxpr: Jaxpr = eqn.params["jaxpr"].jaxpr
        self.values = eqn.params["jaxpr"].consts
        n, m = scan_parts(eqn)
        self.consts, self.carry, self.xs = self.jaxpr.invars[:n], self.jaxpr.invars[n:m], self.jaxpr.invars[m:]
        self.carried, self.ys = self.jaxpr.outvars[: m - n], self.jaxpr.outvars[m - n :]
        self._depends: dict[Any, int] = dict.fromkeys(self.xs, _GIVEN) | dict.fromkeys(self.carry, _RECURRENT)
        self._kept: set[int] = set()
        for equation in self.jaxpr.eqns:
            level = max(map(self.depends, equation.invars), default=_FIXED)
            if level > _FIXED and _draws_step_by_step(equation):
                level = _RECURRENT
                self._kept.add(id(equation))
            self._depends.update(dict.fromkeys(equation.outvars, level))
        self.sums = self._sums()
        summed = {id(equation) for each in self.sums for equation in each.removed}
        rest = [equation for equation in self.jaxpr.eqns if id(equation) not in summed]
        self.before = self._before(rest)
        self.after = self._after([equation for equation in rest if not _among(equation, self.before)])
        fixed = self._fixed()
        loop = [
            equation
            for equation in rest
            if not any(_among(equation, others) for others in (self.before, self.after, fixed))
        ]
        turns, self.loop = self._turned(loop)
        self.fixed = [*fixed, *turns]

    def depends(self, atom: Any) -> int:
        return self._depends.get(atom, _FIXED) if is_variable(atom) else _FIXED

    def _sums(self) -> list[_Sum]:
        uses = Counter(variables([*operands(self.jaxpr.eqns), *self.jaxpr.outvars]))
        made = {var: equation for equation in self.jaxpr.eqns for var in equation.outvars}
        found = []
        for i, (carry, out) in enumerate(zip(self.carry, self.carried, strict=True)):
            add = made.get(out) if is_variable(out) else None
            if add is None or add.primitive.name not in ("add", "add_any") or carry not in variables(add.invars):
                continue
            if uses[out] != 1 or uses[carry] != 1 or out.aval.shape != carry.aval.shape:
                continue
            term = add.invars[1] if add.invars[0] is carry else add.invars[0]
            removed, orders = [add], []
            while is_variable(term) and uses[term] == 1 and term in made:
                equation = made[term]
                removed.append(equation)
                if equation.primitive.name != "transpose":
                    break
                orders.append(tuple(equation.params["permutation"]))
                term = equation.invars[0]
            product = removed[-1]
            if _is_product(product) and all(self.depends(atom) > _FIXED for atom in product.invars):
                found.append(_Sum(i, product, tuple(reversed(orders)), tuple(removed)))
        return found

    def _before(self, equations: list[Any]) -> list[Any]:
        """The products of a step's input with what is fixed, and what they are computed from."""
        wanted: set[Any] = set()
        found = []
        for equation in reversed(equations):
            level = max(map(self.depends, equation.invars), default=_FIXED)
            if level == _GIVEN and (self._is_weighting(equation) or wanted & set(equation.outvars)):
                wanted.update(variables(equation.invars))
                found.append(equation)
        return found[::-1]

    def _after(self, equations: list[Any]) -> list[Any]:
        """The products with what is fixed that no later step needs, and what is computed from them."""
        summed = {each.carry for each in self.sums}
        needed = set(variables(out for i, out in enumerate(self.carried) if i not in summed))
        needed.update(variables(operands(each.product for each in self.sums)))
        later = []
        for equation in reversed(equations):
            if needed & set(equation.outvars) or id(equation) in self._kept:
                needed.update(variables(equation.invars))
            else:
                later.append(equation)
        made: set[Any] = set()
        found = []
        for equation in reversed(later):
            if self._is_weighting(equation) or made & set(variables(equation.invars)):
                made.update(equation.outvars)
                found.append(equation)
        return found

    def _fixed(self) -> list[Any]:
        wanted = set(variables(operands([*self.before, *self.after])))
        found = []
        for equation in reversed(self.jaxpr.eqns):
            if wanted & set(equation.outvars) and max(map(self.depends, equation.invars), default=_FIXED) == _FIXED:
                wanted.update(variables(equation.invars))
                found.append(equation)
        return found[::-1]

    def _turned(self, equations: list[Any]) -> tuple[list[Any], list[Any]]:
        """Transposes of fixed matrices, and the equations with them: a product with a matrix whose columns it contracts
        takes more than twice as long."""
        turns: dict[Any, Any] = {}
        after = []
        for equation in equations:
            if self._is_weighting(equation) and self.depends(equation.invars[1]) == _FIXED:
                a, b = equation.invars
                over, batch = equation.params["dimension_numbers"]
                made_here = any(b in other.outvars for other in equations)
                if over[1] == (1,) and len(b.aval.shape) == 2 and not batch[1] and not made_here:
                    turns[b] = turns[b] if b in turns else _transpose(b)
                    numbers = {"dimension_numbers": ((over[0], (0,)), batch)}
                    equation = equation.replace(invars=[a, turns[b].outvars[0]], params=equation.params | numbers)
            after.append(equation)
        return list(turns.values()), after

    def _is_weighting(self, equation: Any) -> bool:
        """Whether an equation is a product of something of the step with something fixed."""
        return _is_product(equation) and sum(self.depends(atom) > _FIXED for atom in equation.invars) == 1

    @cached_property
    def before_out(self) -> list[Any]:
        read = {
            *variables(operands([*self.loop, *self.after, *(each.product for each in self.sums)])),
            *variables(self.ys),
        }
        return [var for equation in self.before for var in equation.outvars if var in read]

    @cached_property
    def left(self) -> list[Any]:
        """What is computed in the loop (or carried into it), read after it."""
        outside = {var for equation in [*self.before, *self.after, *self.fixed] for var in equation.outvars}
        read = variables(operands([*self.after, *(each.product for each in self.sums)]))
        here = [var for var in read if self.depends(var) > _FIXED and var not in outside and var not in self.xs]
        return list(dict.fromkeys(here))


def _evaluate(body: _Body, inputs: Sequence[Any]) -> list[Any]:
    n, m = len(body.consts), len(body.consts) + len(body.carry)
    fixed = dict(zip([*body.jaxpr.constvars, *body.consts], [*body.values, *inputs[:n]], strict=True))
    _run(body.fixed, fixed)
    steps = dict(zip(body.xs, inputs[m:], strict=True))
    _run_steps(body.before, fixed, steps)

    summed = {each.carry for each in body.sums}
    kept = [i for i in range(len(body.carry)) if i not in summed]
    later = {var for equation in body.after for var in equation.outvars}
    left = list(dict.fromkeys([*body.left, *(y for y in variables(body.ys) if y not in later and y not in steps)]))
    read = set(variables([*operands(body.loop), *(body.carried[i] for i in kept)]))
    given = [var for var in steps if var in read]

    def step(state: list[Any], rows: list[Any]) -> tuple[list[Any], list[Any]]:
        env = fixed | dict(zip([body.carry[i] for i in kept], state, strict=True)) | dict(zip(given, rows, strict=True))
        _run(body.loop, env)
        carried = [_value(body.carried[i], env) for i in kept]
        return [lax.convert_element_type(x, body.carry[i].aval.dtype) for i, x in zip(kept, carried, strict=True)], [
            env[var] for var in left
        ]

    start = [lax.convert_element_type(inputs[n + i], body.carry[i].aval.dtype) for i in kept]
    last, stacks = lax.scan(
        step,
        start,
        [steps[var] for var in given],
        body.params["length"],
        body.params["reverse"],
        unroll=body.params["unroll"],
    )
    steps.update(zip(left, stacks, strict=True))
    _run_steps(body.after, fixed, steps)
    carried = dict(zip(kept, last, strict=True))
    carried.update((each.carry, inputs[n + each.carry] + _total(each, steps)) for each in body.sums)
    results = [carried[i] for i in range(len(body.carry))]
    for y in body.ys:
        length = body.params["length"]
        of_each = is_variable(y) and y in steps
        results.append(steps[y] if of_each else jnp.broadcast_to(_value(y, fixed), (length, *y.aval.shape)))
    return results


def _total(each: _Sum, steps: dict[Any, Any]) -> Any:
    """The sum of a product over the steps, as one product that contracts the steps too."""
    product, orders = each.product, each.orders
    if orders[:1] == ((1, 0),) and is_plain_product(product):
        product, orders = transposed_product(product, product.outvars[0]), orders[1:]
    params = product.params
    over, batch = params["dimension_numbers"]
    a, b = (steps[atom] for atom in product.invars)
    numbers: Any = (
        tuple((0, *(axis + 1 for axis in axes)) for axes in over),
        tuple(tuple(axis + 1 for axis in axes) for axes in batch),
    )
    total = lax.dot_general(
        a, b, numbers, precision=params["precision"], preferred_element_type=params["preferred_element_type"]
    )
    for order in orders:
        total = lax.transpose(total, order)
    return total


def _transpose(matrix: Any) -> Any:
    """An equation that transposes a variable."""
    aval = jax.ShapeDtypeStruct(matrix.aval.shape, matrix.aval.dtype)
    (equation,) = jax.make_jaxpr(lambda x: lax.transpose(x, (1, 0)))(aval).jaxpr.eqns
    return equation.replace(invars=[matrix])


def _run(equations: Sequence[Any], env: dict[Any, Any]) -> None:
    """Adds what equations compute to the values of variables."""
    for equation in equations:
        params = equation.primitive.get_bind_params(equation.params)
        with equation.ctx.manager:
            outs = equation.primitive.bind(*(_value(atom, env) for atom in equation.invars), **params)
        env.update(zip(equation.outvars, outs if equation.primitive.multiple_results else [outs], strict=True))


def _run_steps(equations: Sequence[Any], fixed: dict[Any, Any], steps: dict[Any, Any]) -> None:
    """Adds what equations compute for all steps to the values of variables in all steps."""
    read = [var for var in dict.fromkeys(variables(operands(equations))) if var in steps]
    made = [var for equation in equations for var in equation.outvars]

    def of_step(*values: Any) -> list[Any]:
        env = fixed | dict(zip(read, values, strict=True))
        _run(equations, env)
        return [env[var] for var in made]

    if equations:
        steps.update(zip(made, jax.vmap(of_step)(*(steps[var] for var in read)), strict=True))


def _value(atom: Any, env: dict[Any, Any]) -> Any:
    return env[atom] if is_variable(atom) else atom.val


def _draws_step_by_step(equation: Any) -> bool:
    """Whether it makes of a key what differs where several keys are taken at once, as with all keys but Threefry's."""
    inner = (jaxpr for param in equation.params.values() for jaxpr in within(param))
    if any(_draws_step_by_step(each) for jaxpr in inner for each in jaxpr.eqns):
        return True
    keys = (str(atom.aval.dtype) for atom in equation.invars if jnp.issubdtype(atom.aval.dtype, jax.dtypes.prng_key))
    return equation.primitive.name == "rng_bit_generator" or any(key != "key<fry>" for key in keys)


def _is_product(equation: Any) -> bool:
    floating = all(jnp.issubdtype(atom.aval.dtype, jnp.floating) for atom in equation.invars)
    return equation.primitive.name == "dot_general" and floating and equation.params.get("out_sharding") is None


def _among(equation: Any, others: Sequence[Any]) -> bool:
    return any(equation is other for other in others)


def _bytes(var: Any) -> int:
    shape = [_SYMBOLIC if export.is_symbolic_dim(size) else size for size in var.aval.shape]
    return int(math.prod(shape)) * int(var.aval.dtype.itemsize)
