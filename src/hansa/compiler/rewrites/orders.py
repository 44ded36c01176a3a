"""Arrays of images that keep one order of their axes through a training step, whatever order the program asks for.

Convolutions are fast with the channels last (`convolution`). Where a model has them behind the batch, as PyTorch's do,
each is between two transposes, and what is between two convolutions is computed in the other order: XLA then writes
activations and their gradients to memory in both, and sums them slowly. Here a transpose moves nothing: the array is
known to lie in another order, what is computed from it element by element, by windows, by reductions or by
convolutions lies in that order too, and only what needs the order that the program asks for brings it there.
The numbers are the same but for the order of sums in reductions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jax import lax
from jax.extend.core import ClosedJaxpr, Jaxpr

from hansa.compiler.jaxprs import is_variable, within
from hansa.compiler.rewrites.elementwise import CALLS, ELEMENTWISE, REDUCTIONS, bound

Order = tuple[int, ...]
"""For each axis of an array as the program has it, which axis of what lies in memory that is."""

# What is called once, in a step that is already differentiated, and the parameter that it is.
_CALLS = dict.fromkeys(CALLS, "jaxpr") | {"custom_jvp_call": "call_jaxpr", "custom_vjp_call": "call_jaxpr"}
# Matrices and vectors are left alone: products read them in either order.
_LEAST_RANK = 3


def kept_in_order(eqn: Any) -> Callable[..., list[Any]] | None:
    """The rule for `while` and `scan`: of loops whose steps have convolutions and transposes of images."""
    name = "body_jaxpr" if eqn.primitive.name == "while" else "jaxpr"
    body: ClosedJaxpr = eqn.params[name]
    if body.effects or not _has_transposed_images(body.jaxpr):
        return None
    avals = [jax.ShapeDtypeStruct(aval.shape, aval.dtype, weak_type=aval.weak_type) for aval in body.in_avals]

    def step(*operands: Any) -> list[Any]:
        results = [_plain(value) for value in _evaluate(body, operands)]
        return [
            lax.convert_element_type(result, aval.dtype) for result, aval in zip(results, body.out_avals, strict=True)
        ]

    def loop(*operands: Any) -> list[Any]:
        return list(eqn.primitive.bind(*operands, **(eqn.params | {name: jax.make_jaxpr(step)(*avals)})))

    return loop


def _has_transposed_images(jaxpr: Jaxpr) -> bool:
    """Whether there are convolutions, and images with their channels behind the batch or in another order."""
    numbers = [eqn.params["dimension_numbers"] for eqn in _equations(jaxpr, "conv_general_dilated")]
    first = any(spec[:2] == (0, 1) for each in numbers for spec in (each.lhs_spec, each.out_spec))
    permutations = (eqn.params["permutation"] for eqn in _equations(jaxpr, "transpose"))
    return bool(numbers) and (first or any(len(each) >= _LEAST_RANK for each in permutations))


def _equations(jaxpr: Jaxpr, name: str) -> Iterator[Any]:
    """The equations of a primitive in a jaxpr and in the functions that it calls."""
    for eqn in jaxpr.eqns:
        if eqn.primitive.name == name:
            yield eqn
        elif eqn.primitive.name in _CALLS:
            for inner in within(eqn.params[_CALLS[eqn.primitive.name]]):
                yield from _equations(inner, name)


class _Laid:
    """An array that lies in memory in another order, or of which none lies there yet.

    Args:
        forms: the arrays that there are, by their orders; the first one is what was computed.
        shape: as the program has it.
        fast: whether it lies as a convolution has left it, which others give way to.
        make: makes a form, if there is none: what comes of a broadcast has any order.
    """

    def __init__(
        self, forms: dict[Order, Any], shape: Any, fast: bool = False, make: Callable[[Order], Any] | None = None
    ) -> None:
        self.forms, self.shape, self.fast, self._make = forms, shape, fast, make

    def get(self, order: Order) -> Any:
        """The array in an order."""
        if order not in self.forms:
            if self.forms:
                other, array = next(iter(self.forms.items()))
                self.forms[order] = lax.transpose(array, _permutation(other, order))
            else:
                assert self._make is not None
                self.forms[order] = self._make(order)
        return self.forms[order]


def _permutation(before: Order, after: Order) -> list[int]:
    """By which a form becomes another."""
    return [before[after.index(axis)] for axis in range(len(after))]


def _identity(rank: int) -> Order:
    return tuple(range(rank))


def _plain(value: Any) -> Any:
    """The array in the program's order."""
    return value.get(_identity(len(value.shape))) if isinstance(value, _Laid) else value


def _in_order(value: Any, order: Order) -> Any:
    """The array in an order; a scalar has none."""
    if isinstance(value, _Laid):
        return value.get(order)
    return value if np.ndim(value) == 0 or order == _identity(len(order)) else lax.transpose(value, _from_plain(order))


def _from_plain(order: Order) -> list[int]:
    return _permutation(_identity(len(order)), order)


def _laid(array: Any, order: Order, fast: bool = False) -> Any:
    """An array that lies in an order."""
    if order == _identity(len(order)) and not fast:
        return array
    return _Laid({order: array}, tuple(array.shape[axis] for axis in order), fast)


def _spread(values: Sequence[Any], order: Order) -> list[Any]:
    """For each axis in memory, the value of the program's axis that it is."""
    return [values[order.index(axis)] for axis in range(len(order))]


def _evaluate(closed: ClosedJaxpr, given: Sequence[Any]) -> list[Any]:
    """The results of a jaxpr on arrays in whatever order."""
    jaxpr = closed.jaxpr
    env: dict[Any, Any] = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*closed.consts, *given], strict=True))

    def value(atom: Any) -> Any:
        return env[atom] if is_variable(atom) else atom.val

    for eqn in jaxpr.eqns:
        with eqn.ctx.manager:
            env.update(zip(eqn.outvars, _results(eqn, [value(atom) for atom in eqn.invars]), strict=True))
    return [value(atom) for atom in jaxpr.outvars]


def _results(eqn: Any, inputs: list[Any]) -> list[Any]:
    """What an equation gives."""
    name = eqn.primitive.name
    if name in _CALLS:
        return _evaluate(eqn.params[_CALLS[name]], inputs)
    if name == "conv_general_dilated":
        return [_convolution(eqn, inputs)]
    if name == "transpose" and len(eqn.params["permutation"]) >= _LEAST_RANK:
        return [_transposed(eqn, inputs[0])]
    if name == "broadcast_in_dim" and len(eqn.params["shape"]) >= _LEAST_RANK and len(inputs) == 1:
        return [_broadcast(eqn, inputs[0])]
    if any(isinstance(x, _Laid) for x in inputs):
        rank = len(eqn.outvars[0].aval.shape)
        if name in ELEMENTWISE and all(len(atom.aval.shape) in (0, rank) for atom in eqn.invars):
            return [_elementwise(eqn, inputs)]
        rule = _reduced if name in REDUCTIONS else _RULES.get(name)
        found = _order_of(inputs)
        if rule is not None and found is not None:
            order, fast = found
            results, order = rule(eqn, [_in_order(x, order) for x in inputs], order)
            return [_laid(result, order, fast) for result in (results if eqn.primitive.multiple_results else [results])]
    return bound(eqn, [_plain(x) for x in inputs])


def _order_of(inputs: Sequence[Any]) -> tuple[Order, bool] | None:
    """The order of what a convolution has left among the operands, else that of the largest one, else the program's;
    and whether a convolution has left it. None if none of them lies anywhere yet."""
    best: tuple[tuple[bool, int, bool], Order] | None = None
    for x in inputs:
        if isinstance(x, _Laid):
            if not x.forms:
                continue
            order, fast = next(iter(x.forms)), x.fast
        elif np.ndim(x) < _LEAST_RANK:
            continue
        else:
            order, fast = _identity(np.ndim(x)), False
        rank = (fast, _size(x.shape), order == _identity(len(order)))
        if best is None or rank > best[0]:
            best = rank, order
    return None if best is None else (best[1], best[0][0])


def _size(shape: Sequence[Any]) -> int:
    """The number of elements; of an array of any size, as if that were one."""
    return math.prod(size for size in shape if isinstance(size, int))


def _elementwise(eqn: Any, inputs: list[Any]) -> Any:
    found = _order_of(inputs)
    if found is None:

        def make(order: Order) -> Any:
            return bound(eqn, [_in_order(x, order) for x in inputs])[0]

        return _Laid({}, eqn.outvars[0].aval.shape, make=make)
    order, fast = found
    return _laid(bound(eqn, [_in_order(x, order) for x in inputs])[0], order, fast)


def _transposed(eqn: Any, x: Any) -> Any:
    permutation = eqn.params["permutation"]
    if not isinstance(x, _Laid):
        return _laid(x, tuple(permutation))
    if not x.forms:
        x.get(_identity(len(x.shape)))
    forms = {tuple(order[axis] for axis in permutation): array for order, array in x.forms.items()}
    return _Laid(forms, eqn.outvars[0].aval.shape, x.fast)


def _broadcast(eqn: Any, x: Any) -> Any:
    """`broadcast_in_dim`, in the order that is asked for."""
    x, axes, shape = _plain(x), eqn.params["broadcast_dimensions"], eqn.params["shape"]

    def make(order: Order) -> Any:
        places = [order[axis] for axis in axes]
        first = sorted(range(len(places)), key=places.__getitem__)
        small = x if first == list(range(len(places))) else lax.transpose(x, first)
        return lax.broadcast_in_dim(small, _spread(shape, order), sorted(places))

    return _Laid({}, shape, make=make)


def _convolution(eqn: Any, inputs: list[Any]) -> Any:
    """A convolution of operands as they lie, whose result has the channels last; gradients of kernels stay."""
    params = dict(eqn.params)
    numbers = params.pop("dimension_numbers")
    operands, specs = [], []
    for x, spec in zip(inputs, (numbers.lhs_spec, numbers.rhs_spec), strict=True):
        found = _order_of([x])
        order = _identity(len(spec)) if found is None else found[0]
        operands.append(_in_order(x, order))
        specs.append(tuple(order[axis] for axis in spec))
    out, rank = numbers.out_spec, len(numbers.out_spec)
    images = out[0] == 0
    last = (0, rank - 1, *range(1, rank - 1)) if images else out
    order = tuple(last[out.index(axis)] for axis in range(rank))
    result = eqn.primitive.bind(
        *operands, dimension_numbers=lax.ConvDimensionNumbers(specs[0], specs[1], last), **params
    )
    return _laid(result, order, fast=images)


def _without(order: Order, axes: Sequence[int]) -> Order:
    """The order of what is left when some of the program's axes are gone."""
    left = [place for axis, place in enumerate(order) if axis not in axes]
    return tuple(sorted(left).index(place) for place in left)


def _reduced(eqn: Any, inputs: list[Any], order: Order) -> tuple[Any, Order]:
    axes = eqn.params["axes"]
    places = tuple(sorted(order[axis] for axis in axes))
    return eqn.primitive.bind(*inputs, **(eqn.params | {"axes": places})), _without(order, axes)


def _squeezed(eqn: Any, inputs: list[Any], order: Order) -> tuple[Any, Order]:
    axes = eqn.params["dimensions"]
    return lax.squeeze(inputs[0], sorted(order[axis] for axis in axes)), _without(order, axes)


def _concatenated(eqn: Any, inputs: list[Any], order: Order) -> tuple[Any, Order]:
    return lax.concatenate(inputs, order[eqn.params["dimension"]]), order


def _split(eqn: Any, inputs: list[Any], order: Order) -> tuple[Any, Order]:
    return lax.split(inputs[0], eqn.params["sizes"], order[eqn.params["axis"]]), order


def _reversed(eqn: Any, inputs: list[Any], order: Order) -> tuple[Any, Order]:
    return lax.rev(inputs[0], [order[axis] for axis in eqn.params["dimensions"]]), order


def _by_axis(*names: str) -> Callable[[Any, list[Any], Order], tuple[Any, Order]]:
    """The rule of primitives whose parameters of these names have a value for each axis."""

    def rule(eqn: Any, inputs: list[Any], order: Order) -> tuple[Any, Order]:
        changed = {name: tuple(_spread(eqn.params[name], order)) for name in names if eqn.params.get(name) is not None}
        return eqn.primitive.bind(*inputs, **(eqn.params | changed)), order

    return rule


_POOLING = _by_axis("window_dimensions", "window_strides", "padding", "base_dilation", "window_dilation")
_RULES: dict[str, Callable[[Any, list[Any], Order], tuple[Any, Order]]] = {
    "concatenate": _concatenated,
    "pad": _by_axis("padding_config"),
    "reduce_window_max": _POOLING,
    "reduce_window_min": _POOLING,
    "reduce_window_sum": _POOLING,
    "rev": _reversed,
    "select_and_scatter_add": _POOLING,
    "slice": _by_axis("start_indices", "limit_indices", "strides"),
    "split": _split,
    "squeeze": _squeezed,
}
