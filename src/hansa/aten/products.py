"""Products of matrices and what is made of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jax import lax

from hansa.aten.reductions import _root
from hansa.aten.table import operation, register_all

register_all(
    {
        "mm bmm mv dot matmul vdot": jnp.matmul,
        "outer ger": jnp.outer,
        "inner": jnp.inner,
        "kron": jnp.kron,
        "trace": jnp.trace,
    }
)


@operation("linear")
def _linear(x: Any, weight: Any, bias: Any = None) -> Any:
    y = lax.dot_general(x, weight, (((x.ndim - 1,), (weight.ndim - 1,)), ((), ())))
    return y if bias is None else y + bias


@operation("bilinear")
def _bilinear(a: Any, b: Any, weight: Any, bias: Any = None) -> Any:
    y = jnp.einsum("...i,oij,...j->...o", a, weight, b)
    return y if bias is None else y + bias


@operation("addmm", "baddbmm", "addmv")
def _addmm(c: Any, a: Any, b: Any, beta: Any = 1, alpha: Any = 1) -> Any:
    product = jnp.matmul(a, b)
    product = product if alpha == 1 else product * alpha
    return product if beta == 0 else product + (c if beta == 1 else c * beta)


@operation("addr")
def _addr(c: Any, a: Any, b: Any, beta: Any = 1, alpha: Any = 1) -> Any:
    return c * beta + jnp.outer(a, b) * alpha


@operation("addbmm")
def _addbmm(c: Any, a: Any, b: Any, beta: Any = 1, alpha: Any = 1) -> Any:
    return c * beta + jnp.matmul(a, b).sum(0) * alpha


@operation("einsum")
def _einsum(equation: str, operands: Sequence[Any], path: Any = None) -> Any:
    return jnp.einsum(equation, *operands)


@operation("tensordot")
def _tensordot(a: Any, b: Any, dims_a: Sequence[int], dims_b: Sequence[int]) -> Any:
    return jnp.tensordot(a, b, (tuple(dims_a), tuple(dims_b)))


@operation("linalg_cross", "cross")
def _cross(a: Any, b: Any, dim: int | None = -1) -> Any:
    return jnp.cross(a, b, axis=-1 if dim is None else dim)


@operation("linalg_multi_dot", "chain_matmul")
def _multi_dot(matrices: Sequence[Any]) -> Any:
    return jnp.linalg.multi_dot(matrices)


@operation("matrix_power", "linalg_matrix_power")
def _matrix_power(x: Any, n: int) -> Any:
    return jnp.linalg.matrix_power(x, n)


@operation("cdist", "_cdist_forward")
def _cdist(a: Any, b: Any, p: float = 2.0, *_: Any) -> Any:
    """The distances between the rows of two matrices, whose gradient at zero is zero."""
    apart = a[..., :, None, :] - b[..., None, :, :]
    if p == 2:
        return _root(jnp.square(apart).sum(-1))
    size = jnp.abs(apart)
    if p == float("inf"):
        return size.max(-1)
    if p == 0:
        return (size != 0).sum(-1).astype(a.dtype)
    none = size == 0
    total = jnp.where(none, 0, jnp.where(none, 1, size) ** p).sum(-1)
    empty = total == 0
    return jnp.where(empty, 0, jnp.where(empty, 1, total) ** (1 / p))


# Linear algebra.


@operation("linalg_cholesky_ex")
def _cholesky(x: Any, upper: bool = False, check_errors: bool = False) -> Any:
    lower = jnp.linalg.cholesky(x)
    return jnp.swapaxes(lower, -1, -2) if upper else lower, jnp.zeros(x.shape[:-2], jnp.int32)


@operation("linalg_inv_ex", "inverse")
def _inverse(x: Any, check_errors: bool = False) -> Any:
    return jnp.linalg.inv(x), jnp.zeros(x.shape[:-2], jnp.int32)


@operation("_linalg_det")
def _det(x: Any) -> Any:
    return jnp.linalg.det(x), None, None


@operation("_linalg_slogdet")
def _slogdet(x: Any) -> Any:
    return (*jnp.linalg.slogdet(x), None, None)


@operation("_linalg_solve_ex")
def _solve(a: Any, b: Any, left: bool = True, check_errors: bool = False) -> Any:
    vector = b.ndim == a.ndim - 1
    columns = b[..., None] if vector else b
    if not left:
        a, columns = jnp.swapaxes(a, -1, -2), jnp.swapaxes(columns, -1, -2)
    found = jnp.linalg.solve(a, columns)
    found = found if left else jnp.swapaxes(found, -1, -2)
    return found[..., 0] if vector else found, None, None, None


@operation("linalg_solve_triangular")
def _solve_triangular(a: Any, b: Any, upper: bool, left: bool = True, unitriangular: bool = False) -> Any:
    return lax.linalg.triangular_solve(a, b, left_side=left, lower=not upper, unit_diagonal=unitriangular)


@operation("_linalg_svd")
def _svd(x: Any, full_matrices: bool = False, compute_uv: bool = True, driver: Any = None) -> Any:
    if not compute_uv:
        return None, jnp.linalg.svd(x, full_matrices, False), None
    return tuple(jnp.linalg.svd(x, full_matrices))


@operation("linalg_qr")
def _qr(x: Any, mode: str = "reduced") -> Any:
    return tuple(jnp.linalg.qr(x, mode))


@operation("_linalg_eigh")
def _eigh(x: Any, lower: str = "L", compute_v: bool = True) -> Any:
    return tuple(jnp.linalg.eigh(x, lower))
