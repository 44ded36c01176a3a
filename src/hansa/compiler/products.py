"""Matrix products in the forms that a machine computes fastest."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
from jax import export, lax
from jax.extend.core import Jaxpr

from hansa.compiler.jaxprs import is_variable, operands, variables

# Up to this many rows, and from this many elements of the result on, a sum of outer products is faster on a CPU.
# Measured for 5 to 32 rows and 784x10 to 784x512 elements: 0.3 to 0.8 of the time at 5 and 10 rows, more than 1 at 32.
_MOST_ROWS = 12
_LEAST_ELEMENTS = 4096

# Measured for steps of a linear model of 64 to 3000 rows, 1 to 128 columns, batches of 5 to 100: with 2 to 32 columns a
# step with the transpose takes 0.4 to 0.9 of the time; with more columns, or with fewer rows, about the same.
_MOST_COLUMNS = 32
_LEAST_ROWS = 128


def is_narrow(shape: Sequence[Any]) -> bool:
    """Whether it is that of a matrix of so few columns that products with its transpose are faster on a CPU."""
    if len(shape) != 2 or not all(isinstance(size, int) for size in shape):
        return False
    rows, columns = shape
    return bool(2 <= columns <= _MOST_COLUMNS and rows >= max(_LEAST_ROWS, 4 * columns))


def contract_few(avals: Sequence[Any], params: dict[str, Any], rows: int) -> Callable[[Any, Any], Any] | None:
    """A faster form of a product of two matrices that contracts a few rows, or None if there is none.

    A weight's gradient in a small batch is such a product. XLA's CPU backend computes a matrix product apart from what
    follows it; a sum of outer products is fused with the optimizer's update, so the gradient never goes to memory.

    Args:
        avals: of the two matrices, of which the contracted size may be symbolic.
        params: of `dot_general`.
        rows: the contracted size. Where it is symbolic, in a function that is exported, both forms are there, and one
            is left when the size is known.
    """
    is_open = export.is_symbolic_dim(rows)
    if (not is_open and rows > _MOST_ROWS) or not _is_plain(avals, params):
        return None
    over, _ = params["dimension_numbers"]
    shape = [aval.shape[1 - axes[0]] for aval, axes in zip(avals, over, strict=True)]
    same = all(aval.dtype == jnp.float32 for aval in avals) and params["preferred_element_type"] in (None, jnp.float32)
    if any(map(export.is_symbolic_dim, shape)) or math.prod(shape) < _LEAST_ELEMENTS or not same:
        return None
    if is_narrow(sorted(shape, reverse=True)):
        return None

    def product(a: Any, b: Any) -> Any:
        return lax.dot_general(a, b, params["dimension_numbers"], precision=params["precision"])

    def outer(a: Any, b: Any) -> Any:
        a, b = jnp.moveaxis(a, over[0][0], 0), jnp.moveaxis(b, over[1][0], 0)
        a, b = _computed(a), _computed(b)
        if is_open:
            return _sum_of_up_to(_MOST_ROWS, a, b, rows)
        total = a[0][:, None] * b[0][None, :]
        for row in range(1, rows):
            total += a[row][:, None] * b[row][None, :]
        return total

    def either(a: Any, b: Any) -> Any:
        return lax.cond(jnp.asarray(rows) <= _MOST_ROWS, outer, product, a, b)

    return lambda a, b: lax.platform_dependent(a, b, cpu=either if is_open else outer, default=product)


def _sum_of_up_to(most: int, a: Any, b: Any, rows: Any) -> Any:
    """The sum of the outer products of so many rows, or fewer, as XLA reduces it to that when it knows how many."""

    def term(row: int) -> Any:
        x, y = (lax.dynamic_index_in_dim(matrix, row, keepdims=False) for matrix in (a, b))
        return x[:, None] * y[None, :]

    total = term(0)
    for row in range(1, most):
        total = jnp.where(row < jnp.asarray(rows), total + term(row), total)
    return total


def _computed(rows: Any) -> Any:
    """The same rows, as a product: what a product gives is computed once, not again for each element that needs it.

    Rows of images are often in another order in memory, as a convolution leaves them: with PyTorch's order of axes, a
    round of a CNN in batches of 10 took twice as long while each element of a gradient gathered its own.
    """
    return jnp.eye(rows.shape[0], dtype=rows.dtype) @ rows


def without_transposes(jaxpr: Jaxpr) -> list[Any]:
    """The equations of a jaxpr, with each product of matrices that is only transposed as the product that it then is.

    JAX writes the gradient of `x @ w` as the transpose of `d.T @ x`; what is fused with it wants the layout of `w`.
    """
    uses = Counter[Any](variables([*operands(jaxpr.eqns), *jaxpr.outvars]))
    transposed = {
        eqn.invars[0]: eqn.outvars[0]
        for eqn in jaxpr.eqns
        if eqn.primitive.name == "transpose"
        and eqn.params["permutation"] == (1, 0)
        and is_variable(eqn.invars[0])
        and uses[eqn.invars[0]] == 1
    }
    found, equations = set(), []
    for eqn in jaxpr.eqns:
        if eqn.primitive.name == "dot_general" and eqn.outvars[0] in transposed:
            if is_plain_product(eqn):
                found.add(eqn.outvars[0])
                eqn = transposed_product(eqn, transposed[eqn.outvars[0]])
        elif eqn.primitive.name == "transpose" and is_variable(eqn.invars[0]) and eqn.invars[0] in found:
            continue
        equations.append(eqn)
    return equations


def transposed_product(eqn: Any, out: Any) -> Any:
    """The product whose result is the transpose of an equation's."""
    (over, batch), precision = eqn.params["dimension_numbers"], eqn.params["precision"]
    swapped = precision[::-1] if isinstance(precision, tuple) else precision
    params = eqn.params | {"dimension_numbers": (over[::-1], batch), "precision": swapped}
    return eqn.replace(invars=eqn.invars[::-1], outvars=[out], params=params)


def is_plain_product(eqn: Any) -> bool:
    """Whether an equation is a product of two matrices, of which one axis each is contracted."""
    return eqn.primitive.name == "dot_general" and _is_plain([atom.aval for atom in eqn.invars], eqn.params)


def _is_plain(avals: Sequence[Any], params: dict[str, Any]) -> bool:
    """Whether a product is that of two matrices, of which one axis each is contracted."""
    over, batch = params["dimension_numbers"]
    matrices = all(len(aval.shape) == 2 and len(axes) == 1 for aval, axes in zip(avals, over, strict=True))
    return matrices and not any(batch) and params.get("out_sharding") is None
