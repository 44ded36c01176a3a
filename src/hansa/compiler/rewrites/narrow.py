"""Matrices of few columns, kept transposed in loops: the last layer of a classifier, or all of a linear model.

XLA's CPU backend multiplies matrices whose rows are long; with the ten columns of a classifier's weights, each step of
a training loop takes two to three times as long as with the ten rows of their transpose. Transposing them in each step
gives some of that away again, so what the loop carries is transposed before it and after it, and what is computed from
it in the loop is computed from the transpose. The numbers are the same but for the order of sums in products.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun

from hansa.compiler.jaxprs import is_variable, operands, variables
from hansa.compiler.products import is_narrow
from hansa.compiler.rewrites.elementwise import CALLS, ELEMENTWISE, REDUCTIONS, bound


def transposed_in_loops(eqn: Any) -> Callable[..., list[Any]] | None:
    """The rule for `while`. The loops in its body come first."""
    loop = _Loop(eqn)
    (more,) = loop.condition.out_avals
    if loop.condition.effects or loop.body.effects or more.shape:  # under vmap, each of several loops has its own end
        return None
    if not any(loop.turned):
        return None
    step, work = loop.step()
    return None if work >= _narrow_work(loop.body.jaxpr) else lambda *given: loop.run(step, given)


class _Matrix:
    """A narrow matrix in a program that is being rewritten.

    Args:
        forms: the arrays that there are, by whether they are transposed.
        work: where transposes are counted.
        make: makes a form, if there is none yet.
        leans: whether it should be transposed if either will do.
    """

    def __init__(
        self, forms: dict[bool, Any], work: _Work, make: Callable[[bool], Any] | None = None, leans: bool = False
    ) -> None:
        self._forms, self._work, self._make, self._leans = forms, work, make, leans

    @property
    def leans(self) -> bool:
        """Whether it is better used transposed."""
        return False not in self._forms if self._forms else self._leans

    @property
    def either(self) -> bool:
        """The form in which it is used where either will do: whether it is transposed."""
        return True in self._forms if self._forms else self._leans

    def get(self, turned: bool) -> Any:
        """The array in a form."""
        if turned not in self._forms:
            if self._forms:
                self._work.count += 2
                self._forms[turned] = lax.transpose(self._forms[not turned], (1, 0))
            else:
                assert self._make is not None
                self._forms[turned] = self._make(turned)
        return self._forms[turned]


class _Work:
    """How much there is to do in a step for narrow matrices: one for a product that is slow, two for a transpose."""

    count = 0


def _narrow_work(jaxpr: Any) -> int:
    """The same for a jaxpr as it is, whose transposes XLA takes into the products beside them: one for each."""
    count = 0
    for eqn in jaxpr.eqns:
        if eqn.primitive.name in CALLS:
            count += _narrow_work(eqn.params["jaxpr"].jaxpr)
        elif eqn.primitive.name in ("dot_general", "transpose"):
            count += any(is_narrow(atom.aval.shape) for atom in (*eqn.invars, *eqn.outvars))
    return count


class _Loop:
    """A `while`, and how to run it with its matrices transposed."""

    def __init__(self, eqn: Any) -> None:
        self.loop, self.params = eqn.primitive, eqn.params
        params = eqn.params
        self.condition: ClosedJaxpr = params["cond_jaxpr"]
        self.body: ClosedJaxpr = params["body_jaxpr"]
        self.asked, self.consts = params["cond_nconsts"], params["body_nconsts"]
        self.carry: list[Any] = self.body.jaxpr.invars[self.consts :]
        in_condition = set(variables([*operands(self.condition.jaxpr.eqns), *self.condition.jaxpr.outvars]))
        self.turned = [
            is_narrow(var.aval.shape) and asked not in in_condition
            for var, asked in zip(self.carry, self.condition.jaxpr.invars[self.asked :], strict=True)
        ]

    def step(self) -> tuple[ClosedJaxpr, int]:
        """A step on constants, the transposes of those that are narrow, and the state; and what is left to do in it."""
        work = _Work()
        avals = [jax.ShapeDtypeStruct(var.aval.shape, var.aval.dtype) for var in self.body.jaxpr.invars]
        consts, state = avals[: self.consts], avals[self.consts :]
        state = [_other(aval) if turned else aval for aval, turned in zip(state, self.turned, strict=True)]

        def stepped(*given: Any) -> list[Any]:
            others = iter(given[self.consts :])
            both = [
                _Matrix({False: x, True: next(others)}, _Work()) if is_narrow(x.shape) else x
                for x in given[: self.consts]
            ]
            return self._step(both, list(others), work)

        closed = jax.make_jaxpr(stepped)(*consts, *[_other(aval) for aval in consts if is_narrow(aval.shape)], *state)
        return closed, work.count

    def run(self, step: ClosedJaxpr, given: Sequence[Any]) -> list[Any]:
        """The loop's results, with a `step`."""
        first = self.asked + self.consts
        consts = given[self.asked : first]
        both = [*consts, *[lax.transpose(x, (1, 0)) for x in consts if is_narrow(x.shape)]]
        start = [lax.convert_element_type(x, var.aval.dtype) for x, var in zip(given[first:], self.carry, strict=True)]
        start = self._transposed(start)
        # What is in the loop is copied for it, so the form of a constant that is not used stays outside of it.
        used = set(variables([*operands(step.jaxpr.eqns), *step.jaxpr.outvars]))
        kept = [var in used for var in step.jaxpr.invars[: len(both)]]
        invars = [*itertools.compress(step.jaxpr.invars, kept), *step.jaxpr.invars[len(both) :]]
        asked = given[: self.asked]
        more = jax.make_jaxpr(jaxpr_as_fun(self.condition))(*asked, *start)
        params = self.params | {
            "cond_jaxpr": more,
            "body_jaxpr": ClosedJaxpr(step.jaxpr.replace(invars=invars), step.consts),
            "body_nconsts": sum(kept),
        }
        return self._transposed(self.loop.bind(*asked, *itertools.compress(both, kept), *start, **params))

    def _transposed(self, state: Sequence[Any]) -> list[Any]:
        return [lax.transpose(x, (1, 0)) if turned else x for x, turned in zip(state, self.turned, strict=True)]

    def _step(self, consts: list[Any], state: list[Any], work: _Work) -> list[Any]:
        given = [_matrix(x, work, turned) for x, turned in zip(state, self.turned, strict=True)]
        after = _evaluate(self.body, [*consts, *given], self.turned, work)
        after = [_array(x, turned) for x, turned in zip(after, self.turned, strict=True)]
        return [lax.convert_element_type(x, var.aval.dtype) for x, var in zip(after, self.carry, strict=True)]


def _matrix(value: Any, work: _Work, turned: bool = False) -> Any:
    """An array, as a matrix if it is a narrow one, or the transpose of one."""
    return _Matrix({turned: value}, work) if turned or is_narrow(jnp.shape(value)) else value


def _other(aval: Any) -> Any:
    return jax.ShapeDtypeStruct(aval.shape[::-1], aval.dtype)


def _evaluate(closed: ClosedJaxpr, given: Sequence[Any], wanted: Sequence[bool], work: _Work) -> list[Any]:
    """The results of a jaxpr on arrays and matrices, of which some are wanted transposed."""
    jaxpr = closed.jaxpr
    lean = _reaching(jaxpr, [out for out, turned in zip(jaxpr.outvars, wanted, strict=True) if turned])
    consts = [_matrix(x, work) for x in closed.consts]
    env: dict[Any, Any] = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *given], strict=True))

    def value(atom: Any) -> Any:
        return env[atom] if is_variable(atom) else _matrix(atom.val, work)

    for eqn in jaxpr.eqns:
        inputs = [value(atom) for atom in eqn.invars]
        leans = [var in lean for var in eqn.outvars]
        with eqn.ctx.manager:
            env.update(zip(eqn.outvars, _results(eqn, inputs, leans, work), strict=True))
    return [value(atom) for atom in jaxpr.outvars]


def _reaching(jaxpr: Any, outs: Iterable[Any]) -> set[Any]:
    """The narrow matrices from which some results are computed element by element."""
    found = set(variables(outs))
    for eqn in reversed(jaxpr.eqns):
        if eqn.primitive.name in ELEMENTWISE | CALLS and any(out in found for out in eqn.outvars):
            shapes = {out.aval.shape for out in eqn.outvars if out in found}
            found.update(var for var in variables(eqn.invars) if var.aval.shape in shapes)
    return found


def _results(eqn: Any, inputs: list[Any], leans: list[bool], work: _Work) -> list[Any]:
    """What an equation gives: arrays, and matrices where it is or may be narrow."""
    name = eqn.primitive.name
    matrices = [x for x in inputs if isinstance(x, _Matrix)]
    if len(eqn.outvars) == 1 and is_narrow(shape := eqn.outvars[0].aval.shape):
        make = _MAKERS.get(name)
        if name in ELEMENTWISE and all(atom.aval.shape in ((), shape) for atom in eqn.invars):
            make = _elementwise
        if name == "transpose" and eqn.params["permutation"] == (1, 0):
            return [_Matrix({True: _array(inputs[0], False)}, work)]
        if make is not None and (form := make(eqn, inputs, work)) is not None:
            lean = leans[0] or (make is _elementwise and any(x.leans for x in matrices))
            return [_Matrix({}, work, form, lean)]
    elif matrices and name in _USERS:
        return [_USERS[name](eqn, inputs, work)]
    if any(x.either for x in matrices):
        if name in CALLS:
            return _evaluate(eqn.params["jaxpr"], inputs, leans, work)
        if name == "cond" and not eqn.effects and not eqn.params.get("branches_platforms"):
            return _branches(eqn, inputs, leans, work)
    return [_matrix(x, work) for x in bound(eqn, [_array(x, False) for x in inputs])]


def _elementwise(eqn: Any, inputs: list[Any], work: _Work) -> Callable[[bool], Any]:
    return lambda turned: bound(eqn, [_array(x, turned) for x in inputs])[0]


def _spread(eqn: Any, inputs: list[Any], work: _Work) -> Callable[[bool], Any] | None:
    """`broadcast_in_dim` of a scalar, or of one row or column."""
    (x,), axes, shape = inputs, eqn.params["broadcast_dimensions"], eqn.params["shape"]
    if isinstance(x, _Matrix) or len(axes) > 1:
        return None
    return lambda turned: lax.broadcast_in_dim(
        x, shape[::-1] if turned else shape, [1 - axis for axis in axes] if turned else axes
    )


def _product(eqn: Any, inputs: list[Any], work: _Work) -> Callable[[bool], Any] | None:
    """`dot_general` whose result is narrow, of which each operand gives one axis."""
    over, batch = eqn.params["dimension_numbers"]
    free = [len(atom.aval.shape) - len(axes) for axes, atom in zip(over, eqn.invars, strict=True)]
    if any(batch) or free != [1, 1]:
        return None
    return lambda turned: _contracted(eqn, inputs, work, swapped=turned)


def _contracted(eqn: Any, inputs: list[Any], work: _Work, swapped: bool = False) -> Any:
    """A product with its operands as they are at hand; with them swapped, its result is transposed."""
    params = eqn.params
    over, batch = params["dimension_numbers"]
    # A matrix neither of whose axes is contracted gives both to the result, in their order.
    turned = [isinstance(x, _Matrix) and x.either and bool(over[i] or batch[i]) for i, x in enumerate(inputs)]
    numbers: Any = [
        tuple(tuple(1 - axis if mine else axis for axis in axes) for axes, mine in zip(each, turned, strict=True))
        for each in params["dimension_numbers"]
    ]
    operands = [_array(x, mine) for x, mine in zip(inputs, turned, strict=True)]
    precision = params["precision"]
    if swapped:
        operands, numbers = operands[::-1], [each[::-1] for each in numbers]
        precision = precision[::-1] if isinstance(precision, tuple) else precision
    work.count += not swapped and not any(turned)
    return lax.dot_general(
        operands[0],
        operands[1],
        tuple(numbers),
        precision=precision,
        preferred_element_type=params["preferred_element_type"],
        out_sharding=params["out_sharding"],
    )


def _reduced(eqn: Any, inputs: list[Any], work: _Work) -> Any:
    """A reduction over axes of a narrow matrix."""
    (x,) = inputs
    axes = tuple(1 - axis if x.either else axis for axis in eqn.params["axes"])
    return eqn.primitive.bind(x.get(x.either), **(eqn.params | {"axes": axes}))


def _transposed(eqn: Any, inputs: list[Any], work: _Work) -> Any:
    """`transpose` of a narrow matrix."""
    return inputs[0].get(True) if eqn.params["permutation"] == (1, 0) else inputs[0].get(False)


_MAKERS: dict[str, Callable[..., Callable[[bool], Any] | None]] = {"broadcast_in_dim": _spread, "dot_general": _product}
_USERS: dict[str, Callable[..., Any]] = {
    "transpose": _transposed,
    "dot_general": _contracted,
    **dict.fromkeys(REDUCTIONS, _reduced),
}


def _branches(eqn: Any, inputs: list[Any], leans: list[bool], work: _Work) -> list[Any]:
    """`cond`, whose branches are given matrices in the form in which they are at hand."""
    index, *others = inputs
    forms = [isinstance(x, _Matrix) and x.either for x in others]
    turned = [lean and is_narrow(var.aval.shape) for lean, var in zip(leans, eqn.outvars, strict=True)]

    def of(branch: ClosedJaxpr) -> Callable[..., list[Any]]:
        def run(*arrays: Any) -> list[Any]:
            given = [_matrix(array, work, form) for array, form in zip(arrays, forms, strict=True)]
            outs = _evaluate(branch, given, turned, work)
            return [
                lax.convert_element_type(_array(x, form), var.aval.dtype)
                for x, form, var in zip(outs, turned, eqn.outvars, strict=True)
            ]

        return run

    operands = [_array(x, form) for x, form in zip(others, forms, strict=True)]
    outs = lax.switch(index, [of(branch) for branch in eqn.params["branches"]], *operands)
    return [_matrix(x, work, form) for x, form in zip(outs, turned, strict=True)]


def _array(value: Any, turned: bool) -> Any:
    return value.get(turned) if isinstance(value, _Matrix) else value
