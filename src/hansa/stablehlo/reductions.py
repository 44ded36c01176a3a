"""StableHLO operations with regions: reductions, windows, sorting, gathering, control flow, random numbers."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from hansa.stablehlo.module import Operation
from hansa.stablehlo.operations import MONOIDS, Scope, UnsupportedOperation, direction, monoid, pairs, rule


@rule("reduce")
def _reduce(scope: Scope, operation: Operation, *operands: Any) -> Any:
    half, axes = len(operands) // 2, operation.attributes["dimensions"]
    values, initial = operands[:half], operands[half:]
    name = monoid(operation.regions[0])
    if half == 1 and name is not None:
        return lax.reduce(values[0], _known(initial[0]), MONOIDS[name], axes)
    if half == 2 and len(axes) == 1 and (extreme := _index_of_extreme(operation, values, axes[0])) is not None:
        return extreme

    def combine(before: tuple[Any, ...], value: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(scope.run(operation.regions[0], *before, *value))

    return list(lax.reduce(tuple(values), tuple(initial), combine, axes))


def _known(value: Any) -> Any:
    """A constant as JAX recognises it: a reduction from the identity is one operation, whatever else is two."""
    return value[()] if isinstance(value, np.ndarray) else value


def _index_of_extreme(operation: Operation, values: Any, axis: int) -> list[Any] | None:
    """The extreme value and where it is first, if that is what a reduction of values and their positions is."""
    block = operation.regions[0]
    compared = {
        inner.attributes["comparison_direction"]
        for inner in block.operations
        if inner.name == "stablehlo.compare" and set(inner.operands) == {block.parameters[0], block.parameters[2]}
    }
    names = {inner.name for inner in block.operations}
    known = {"stablehlo.compare", "stablehlo.select", "stablehlo.and", "stablehlo.or", "stablehlo.minimum"}
    if not jnp.issubdtype(values[1].dtype, jnp.integer) or not names <= known:
        return None
    x, dtype = values[0], values[1].dtype
    if compared <= {"GT", "GE", "EQ", "NE"} and compared & {"GT", "GE"}:
        return [jnp.max(x, axis), lax.argmax(x, axis, dtype)]
    if compared <= {"LT", "LE", "EQ", "NE"} and compared & {"LT", "LE"}:
        return [jnp.min(x, axis), lax.argmin(x, axis, dtype)]
    return None


@rule("reduce_window")
def _reduce_window(scope: Scope, operation: Operation, *operands: Any) -> Any:
    found, half = operation.attributes, len(operands) // 2
    name = monoid(operation.regions[0])
    if half != 1 or name is None:
        raise UnsupportedOperation("a reduction over windows by a function of the user")
    rank = len(found["window_dimensions"])
    return lax.reduce_window(
        operands[0],
        _known(operands[1]),
        MONOIDS[name],
        found["window_dimensions"],
        found.get("window_strides") or (1,) * rank,
        [(0, 0)] * rank if found.get("padding") is None else pairs(found["padding"]),
        found.get("base_dilations") or (1,) * rank,
        found.get("window_dilations") or (1,) * rank,
    )


@rule("select_and_scatter")
def _select_and_scatter(scope: Scope, operation: Operation, x: Any, source: Any, initial: Any) -> Any:
    found = operation.attributes
    chosen, name = direction(operation.regions[0]), monoid(operation.regions[1])
    if chosen is None or name != "stablehlo.add":
        raise UnsupportedOperation("a scatter to what a function of the user selects")
    rank = len(found["window_dimensions"])
    strides = found.get("window_strides") or (1,) * rank
    padding = [(0, 0)] * rank if found.get("padding") is None else pairs(found["padding"])
    best, least = (lax.max, -np.inf) if chosen[0] in ("GE", "GT") else (lax.min, np.inf)

    def pool(x: Any) -> Any:
        return lax.reduce_window(x, x.dtype.type(least), best, found["window_dimensions"], strides, padding)

    return jax.vjp(pool, x)[1](source)[0]


@rule("sort")
def _sort(scope: Scope, operation: Operation, *operands: Any) -> Any:
    chosen, axis = direction(operation.regions[0]), operation.attributes["dimension"]
    if chosen is None:
        raise UnsupportedOperation("a sort by a function of the user")
    ascending = (chosen[0] in ("LT", "LE")) != chosen[1]
    key = operands[0]
    if ascending:
        return list(lax.sort(operands, axis, is_stable=True, num_keys=1))
    signed = not jnp.issubdtype(key.dtype, jnp.integer) and key.dtype != np.bool_
    turned = lax.neg(key) if signed else lax.bitwise_not(key)
    return list(lax.sort((turned, *operands), axis, is_stable=True, num_keys=1)[1:])


@rule("chlo.top_k")
def _top_k(scope: Scope, operation: Operation, x: Any) -> Any:
    return list(lax.top_k(x, operation.attributes["k"]))


def _with_last_axis(indices: Any, axis: int) -> Any:
    """Indices whose last axis holds the parts of each."""
    return lax.expand_dims(indices, [axis]) if axis == indices.ndim else jnp.moveaxis(indices, axis, -1)


@rule("gather")
def _gather(scope: Scope, operation: Operation, x: Any, indices: Any) -> Any:
    found = operation.attributes["dimension_numbers"]
    numbers = lax.GatherDimensionNumbers(
        found["offset_dims"],
        found["collapsed_slice_dims"],
        found["start_index_map"],
        found["operand_batching_dims"],
        found["start_indices_batching_dims"],
    )
    sizes = scope.shape(operation.attributes["slice_sizes"])
    return lax.gather(x, _with_last_axis(indices, found["index_vector_dim"]), numbers, sizes, mode="clip")


_SCATTERS: dict[str, Any] = {
    "stablehlo.add": lax.scatter_add, "stablehlo.multiply": lax.scatter_mul, "stablehlo.maximum": lax.scatter_max,
    "stablehlo.minimum": lax.scatter_min,
}  # fmt: skip


@rule("scatter")
def _scatter(scope: Scope, operation: Operation, *operands: Any) -> Any:
    found, block = operation.attributes["scatter_dimension_numbers"], operation.regions[0]
    if len(operands) != 3:
        raise UnsupportedOperation("a scatter to several tensors")
    x, indices, updates = operands
    numbers = lax.ScatterDimensionNumbers(
        found["update_window_dims"],
        found["inserted_window_dims"],
        found["scattered_dims_to_operand_dims"],
        found["input_batching_dims"],
        found["scatter_indices_batching_dims"],
    )
    name = monoid(block)
    overwrites = not block.operations and block.returned == (block.parameters[1],)
    if name not in _SCATTERS and not overwrites:
        raise UnsupportedOperation("a scatter by a function of the user")
    scatter = lax.scatter if overwrites else _SCATTERS[name or ""]
    return scatter(x, _with_last_axis(indices, found["index_vector_dim"]), updates, numbers, mode="drop")


@rule("while")
def _while(scope: Scope, operation: Operation, *operands: Any) -> Any:
    condition, body = operation.regions
    start = [lax.convert_element_type(x, kind.dtype) for x, kind in zip(operands, operation.types, strict=True)]
    if not scope.draws(condition) and not scope.draws(body):
        return lax.while_loop(lambda x: scope.run(condition, *x)[0], lambda x: scope.run(body, *x), start)

    def decide(state: Any) -> Any:
        with scope.keyed(jax.random.fold_in(state[0], 0)):
            return scope.run(condition, *state[1:])[0]

    def step(state: Any) -> Any:
        after, own = jax.random.split(state[0])
        with scope.keyed(own):
            return [after, *scope.run(body, *state[1:])]

    return lax.while_loop(decide, step, [scope.key(), *start])[1:]


@rule("if")
def _if(scope: Scope, operation: Operation, which: Any) -> Any:
    return lax.cond(which, *(lambda block=block: scope.run(block) for block in operation.regions))


@rule("case")
def _case(scope: Scope, operation: Operation, which: Any) -> Any:
    last = len(operation.regions) - 1
    inside = jnp.where((which < 0) | (which > last), last, which)
    return lax.switch(inside, [lambda block=block: scope.run(block) for block in operation.regions])


@rule("func.call")
def _call(scope: Scope, operation: Operation, *operands: Any) -> Any:
    return scope.call(operation.attributes["callee"], *operands)


@rule("map")
def _map(scope: Scope, operation: Operation, *operands: Any) -> Any:
    return scope.run(operation.regions[0], *operands)


@rule("custom_call")
def _custom_call(scope: Scope, operation: Operation, *operands: Any) -> Any:
    target = operation.attributes.get("call_target_name")
    if target == "Qr":  # Householder's, as LAPACK's geqrf packs it
        packed, scales = jnp.linalg.qr(operands[0], mode="raw")
        return (jnp.swapaxes(packed, -1, -2), scales)
    if target == "ProductOfElementaryHouseholderReflectors":
        return lax.linalg.householder_product(*operands)
    raise UnsupportedOperation(f"a call of {target!r}, which is no part of XLA")


@rule("rng")
def _rng(scope: Scope, operation: Operation, low: Any, high: Any, shape: Any) -> Any:
    kind = operation.types[0]
    size = scope.shape(kind.shape)
    if operation.attributes["rng_distribution"] == "NORMAL":
        return low + high * jax.random.normal(scope.key(), size, kind.dtype)
    if jnp.issubdtype(kind.dtype, jnp.integer):
        return jax.random.randint(scope.key(), size, low, high, kind.dtype)
    return low + (high - low) * jax.random.uniform(scope.key(), size, kind.dtype)


@rule("rng_bit_generator")
def _rng_bit_generator(scope: Scope, operation: Operation, state: Any) -> Any:
    """Random bits of the state's: JAX's own generator stands for the others, with the same state a key for it."""
    words = lax.bitcast_convert_type(state, np.uint32).reshape(-1)
    key = jax.random.key(0)
    for i in range(words.shape[0]):
        key = jax.random.fold_in(key, words[i])
    kind = operation.types[1]
    return [lax.add(state, lax.full_like(state, 1)), jax.random.bits(key, scope.shape(kind.shape), kind.dtype)]


@rule("batch_norm_training")
def _batch_norm_training(scope: Scope, operation: Operation, x: Any, scale: Any, offset: Any) -> Any:
    """Ioffe and Szegedy 2015, arXiv:1502.03167, Algorithm 1."""
    axes, spread = _feature_axes(operation, x)
    mean, variance = jnp.mean(x, axes), jnp.var(x, axes)
    return [_normalized(operation, x, scale, offset, mean, variance, spread), mean, variance]


@rule("batch_norm_inference")
def _batch_norm_inference(
    scope: Scope, operation: Operation, x: Any, scale: Any, offset: Any, mean: Any, variance: Any
) -> Any:
    return _normalized(operation, x, scale, offset, mean, variance, _feature_axes(operation, x)[1])


@rule("batch_norm_grad")
def _batch_norm_grad(
    scope: Scope, operation: Operation, x: Any, scale: Any, mean: Any, variance: Any, grad: Any
) -> Any:
    axes, spread = _feature_axes(operation, x)

    def forward(x: Any, scale: Any, offset: Any) -> Any:
        return _normalized(operation, x, scale, offset, jnp.mean(x, axes), jnp.var(x, axes), spread)

    return list(jax.vjp(forward, x, scale, jnp.zeros_like(scale))[1](grad))


def _feature_axes(operation: Operation, x: Any) -> tuple[tuple[int, ...], Any]:
    feature = operation.attributes["feature_index"]
    axes = tuple(axis for axis in range(x.ndim) if axis != feature)
    return axes, lambda value: jnp.expand_dims(value, axes)


def _normalized(operation: Operation, x: Any, scale: Any, offset: Any, mean: Any, variance: Any, spread: Any) -> Any:
    deviation = jnp.sqrt(variance + variance.dtype.type(operation.attributes["epsilon"]))
    return (x - spread(mean)) / spread(deviation) * spread(scale) + spread(offset)
