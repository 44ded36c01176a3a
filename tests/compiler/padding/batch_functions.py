"""Functions of a batch, of all the kinds that models and metrics are made of, to be evaluated on padded batches.

Each takes the fields of one batch and returns an array or a tuple of arrays. `PADDED` ones have a rule for all they do;
`BRANCHED` ones look across the batch in a way that has none, and are compiled for each size.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

X, Y, T, IMAGE, M = "float64[?,6]", "int64[?]", "float64[?,3,4]", "float64[?,6,6,2]", "float64[?,3,3]"

PADDED: dict[str, tuple[tuple[str, ...], Callable[..., Any]]] = {}
BRANCHED: dict[str, tuple[tuple[str, ...], Callable[..., Any]]] = {}

_rng = np.random.default_rng(1)
W = _rng.normal(size=(6, 6))
V = _rng.normal(size=6)
KERNEL = _rng.normal(size=(3, 3, 2, 4)) / 3
DEPTHWISE = _rng.normal(size=(3, 3, 1, 4)) / 3
TABLE = _rng.normal(size=(6, 4))
KEY = np.array([3, 4], np.uint32)


def _padded(*kinds: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        PADDED[function.__name__] = kinds, function
        return function

    return register


def _case(name: str, function: Callable[..., Any], *kinds: str, padded: bool = True) -> None:
    (PADDED if padded else BRANCHED)[name] = kinds or (X,), function


def softmax_cross_entropy(w: Any, x: Any, y: Any) -> Any:
    logits = x @ w
    return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(logits), y[:, None], axis=1))


_case("mean", jnp.mean)
_case("mean of each feature", lambda x: x.mean(0))
_case("mean of each example", lambda x: x.mean(1))
_case("sum", jnp.sum)
_case("product", lambda x: jnp.prod(x, 0))
_case("greatest and smallest", lambda x: (x.max(), x.max(0), x.min(), x.min(0), x.max(1)))
_case("greatest integers", lambda y: (y.max(), y.min(), jnp.argmax(y), jnp.argmin(y)), Y)
_case("position of the greatest", lambda x: (jnp.argmax(x, 0), jnp.argmin(x, 0), jnp.argmax(x, 1)))
_case("any and all", lambda x: ((x > 0).any(), (x > 0).all(0), (x < 100).all(), (x > 100).any(0)))
_case(
    "bits",
    lambda y: (
        lax.reduce(y.astype(np.uint8), np.uint8(255), lax.bitwise_and, (0,)),
        lax.reduce(y, -1, lax.bitwise_and, (0,)),
        lax.reduce(y, 0, lax.bitwise_or, (0,)),
        lax.reduce(y, 0, lax.bitwise_xor, (0,)),
    ),
    Y,
)
_case("variance and deviation", lambda x: (jnp.var(x, 0), jnp.std(x), jnp.var(x, 0, ddof=1)))
_case("how many", lambda x: (x.shape[0], jnp.sum(jnp.ones(x.shape[0])), jnp.zeros_like(x).shape[0] * 2.0))
_case("logsumexp", lambda x: (jax.nn.logsumexp(x, 0), jax.nn.logsumexp(x, 1), jax.nn.logsumexp(x)))
_case("softmax over the batch", lambda x: jax.nn.softmax(x, 0))
_case(
    "norms", lambda x: (jnp.linalg.norm(x), jnp.linalg.norm(x, axis=1), x / jnp.linalg.norm(x, axis=1, keepdims=True))
)
_case("standardised by the batch", lambda x: (x - x.mean(0)) / (x.std(0) + 1e-3))
_case("standardised by one number", lambda x: ((x - x.mean()) / (x.std() + 1e-3)).T @ x)
_case(
    "divided by what may be zero",
    lambda x: (jnp.nan_to_num(x / (x - lax.slice_in_dim(x, 0, 1))).sum(0), jnp.abs(x / x.std()).min(0)),
)
_case("Gram matrix", lambda x: x.T @ x)
_case("covariance", lambda x: (x - x.mean(0)).T @ (x - x.mean(0)) / (x.shape[0] - 1 + 1e-3))
_case("einsum", lambda x, t: (jnp.einsum("bi,btj->tij", x, t), jnp.einsum("btj,btk->bjk", t, t)), X, T)
_case("dot products of pairs", lambda x: jnp.einsum("bi,bi->b", x, x + 1))
_case("matrix product", lambda x: jnp.tanh(x @ W) @ W.T)
_case("softmax cross-entropy", lambda x, y: jax.value_and_grad(softmax_cross_entropy)(W, x, y), X, Y)
_case(
    "one-hot cross-entropy",
    lambda x, y: jax.grad(lambda w: -jnp.mean(jnp.sum(jax.nn.one_hot(y, 6) * jax.nn.log_softmax(x @ w), 1)))(W),
    X,
    Y,
)
_case("accuracy", lambda x, y: jnp.mean(jnp.argmax(x @ W, 1) == y), X, Y)
_case("summed loss", lambda x, y: jax.grad(lambda w: x.shape[0] * softmax_cross_entropy(w, x, y))(W), X, Y)
_case("gradient by the batch", lambda x: jax.grad(lambda x: jnp.mean(jnp.tanh(x @ W) ** 2))(x))
_case("gradient through the greatest", lambda x: jax.grad(lambda w: jnp.max(x @ w))(W))
_case(
    "hinge and Huber losses",
    lambda x: jax.grad(
        lambda v: (
            jnp.mean(jax.nn.relu(1 - x @ v))
            + jnp.mean(jnp.where(jnp.abs(x @ v) < 1, 0.5 * (x @ v) ** 2, jnp.abs(x @ v) - 0.5))
        )
    )(V),
)
_case(
    "guarded logarithm",
    lambda x: jax.grad(lambda v: jnp.mean(jnp.where(x @ v > 0, jnp.log(jnp.where(x @ v > 0, x @ v, 1)), 0)))(V),
)
_case(
    "activations",
    lambda x: jax.grad(
        lambda w: jnp.sum(
            jax.nn.gelu(x @ w) + jax.nn.silu(x @ w) + jax.nn.elu(x @ w) + jax.nn.softplus(x @ w) + jax.nn.relu6(x @ w)
        )
    )(W),
)
_case("second derivatives", lambda x: jax.hessian(lambda v: jnp.mean(jnp.logaddexp(0, x @ v)))(V))
_case("gradient of each example", lambda x: jax.vmap(jax.grad(lambda v, row: jnp.tanh(row @ v)), (None, 0))(V, x))
_case(
    "clipped gradients of each example",
    lambda x: (lambda g: jnp.mean(g / jnp.maximum(1, jnp.linalg.norm(g, axis=1, keepdims=True)), 0))(
        jax.vmap(jax.grad(lambda v, row: jnp.tanh(row @ v)), (None, 0))(V, x)
    ),
)
_case("forward derivative", lambda x: jax.jvp(lambda w: jnp.mean(jnp.sin(x @ w), 0), (W,), (W + 1,)))


@_padded(X)
def layer_norm(x: Any) -> Any:
    def loss(scale: Any) -> Any:
        z = (x - x.mean(1, keepdims=True)) * lax.rsqrt(x.var(1, keepdims=True) + 1e-3) * scale
        return jnp.mean(jnp.sin(z))

    return jax.value_and_grad(loss)(V)


@_padded(X)
def batch_norm(x: Any) -> Any:
    def loss(w: Any) -> Any:
        h = x @ w
        mean, variance = h.mean(0), h.var(0)
        z = (h - mean) * lax.rsqrt(variance + 1e-3) * V
        return jnp.mean(jnp.sin(z)), (mean, variance)

    return jax.value_and_grad(loss, has_aux=True)(W)


@_padded(IMAGE)
def convolution(image: Any) -> Any:
    def loss(kernel: Any) -> Any:
        dims = ("NHWC", "HWIO", "NHWC")
        h = jax.nn.relu(lax.conv_general_dilated(image, kernel, (1, 1), "SAME", dimension_numbers=dims))
        h = lax.reduce_window(h, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
        h = lax.reduce_window(h, 0.0, lax.add, (1, 2, 2, 1), (1, 1, 1, 1), "SAME")
        return jnp.mean(jnp.sum(h.reshape(h.shape[0], -1), 1) ** 2)

    return jax.value_and_grad(loss)(KERNEL)


@_padded(IMAGE)
def depthwise_and_strided_convolution(image: Any) -> Any:
    def loss(kernels: Any) -> Any:
        first, second = kernels
        dims = ("NHWC", "HWIO", "NHWC")
        h = lax.conv_general_dilated(image, first, (2, 2), "SAME", dimension_numbers=dims, feature_group_count=2)
        g = lax.conv_general_dilated(image, second, (1, 1), "VALID", rhs_dilation=(2, 2), dimension_numbers=dims)
        return jnp.mean(jnp.sin(h)) + jnp.mean(g**2)

    return jax.value_and_grad(loss)((DEPTHWISE, KERNEL))


@_padded(IMAGE)
def gradient_of_a_convolution_by_its_input(image: Any) -> Any:
    dims = ("NHWC", "HWIO", "NHWC")
    return jax.grad(
        lambda x: jnp.mean(jnp.sin(lax.conv_general_dilated(x, KERNEL, (2, 2), "SAME", dimension_numbers=dims)))
    )(image)


@_padded(Y, T)
def embedding(y: Any, t: Any) -> Any:
    return jax.value_and_grad(lambda table: jnp.mean(jnp.sum(table[y][:, None] * t, (1, 2)) ** 2))(TABLE)


@_padded(Y)
def embedding_out_of_range(y: Any) -> Any:
    """Numbers below zero count from the end; those too large read NaN by `take`, and the last row where clipped."""
    table = jnp.asarray(TABLE)
    return (
        table[y - 2],
        jnp.take(table, 2 * y, 0),
        jnp.take(table, 2 * y, 0, mode="clip"),
        jnp.take(table, y - 9, 0, mode="wrap"),
    )


@_padded(Y)
def counts(y: Any) -> Any:
    return jnp.zeros(6).at[y].add(1.0), jnp.zeros(6, int).at[2 * y].add(1, mode="drop"), jnp.bincount(y, length=6)


@_padded(X, Y)
def confusion_matrix(x: Any, y: Any) -> Any:
    return jnp.zeros((6, 6)).at[y, jnp.argmax(x, 1)].add(1), jax.nn.one_hot(y, 6).T @ jax.nn.one_hot(
        jnp.argmax(x, 1), 6
    )


@_padded(T)
def recurrent(t: Any) -> Any:
    def loss(w: Any) -> Any:
        def step(carry: Any, row: Any) -> Any:
            h, c = carry
            gates = jnp.concatenate([h, row], 1) @ w
            i, f, o, g = jnp.split(gates, 4, 1)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            h = jax.nn.sigmoid(o) * jnp.tanh(c)
            return (h, c), h

        zero = jnp.zeros((t.shape[0], 2))
        (h, _), hs = lax.scan(step, (zero, zero), t.transpose(1, 0, 2))
        return jnp.mean(h**2) + jnp.mean(hs.sum(0))

    w = jnp.asarray(_W_LSTM)
    return jax.value_and_grad(loss)(w)


_W_LSTM = _rng.normal(size=(6, 8))


@_padded(T)
def attention(t: Any) -> Any:
    def loss(w: Any) -> Any:
        q = t @ w
        scores = jnp.einsum("bik,bjk->bij", q, t) / 2
        scores = jnp.where(jnp.tril(jnp.ones((3, 3), bool)), scores, -jnp.inf)
        return jnp.mean(jax.nn.softmax(scores) @ t)

    return jax.value_and_grad(loss)(W[:4, :4])


@_padded(X)
def newton_steps(x: Any) -> Any:
    return lax.while_loop(
        lambda s: (s[0] < 20) & (jnp.max(jnp.abs(s[1] ** 2 - jnp.abs(x))) > 1e-6),
        lambda s: (s[0] + 1, 0.5 * (s[1] + jnp.abs(x) / s[1])),
        (0, jnp.ones_like(x)),
    )


@_padded(X)
def halved_until_small(x: Any) -> Any:
    return jax.vmap(lambda row: lax.while_loop(lambda r: jnp.sum(r**2) > 1, lambda r: r / 2, row))(x)


@_padded(X)
def power_iteration(x: Any) -> Any:
    return lax.fori_loop(0, 4, lambda _, v: (lambda u: u / jnp.linalg.norm(u))(x.T @ (x @ v)), jnp.ones(6))


@_padded(X)
def repeated_as_often_as_there_are_examples(x: Any) -> Any:
    return lax.fori_loop(0, x.shape[0], lambda i, s: s + i, 0), lax.scan(
        lambda c, _: (c + x.sum(0), c), jnp.zeros(6), None, 3
    )


@_padded(X)
def conditional(x: Any) -> Any:
    return (
        lax.cond(x.mean() > 0, lambda x: (x * 2, x.sum(0)), lambda x: (jnp.zeros_like(x), x.max(0)), x),
        lax.switch(jnp.argmax(x.sum(0)) % 3, [jnp.sum, jnp.max, lambda x: jnp.mean(jnp.cos(x))], x),
        lax.cond(jnp.arange(x.shape[0]).max() > 1, lambda: 1.0, lambda: 2.0),
    )


@_padded(X)
def zero_then_not(x: Any) -> Any:
    """A carry whose rows are zero at first only."""
    return lax.fori_loop(0, 3, lambda i, h: jnp.cos(h) + x, jnp.zeros_like(x)).sum(0), lax.scan(
        lambda h, _: (h + 1, h), jnp.zeros(x.shape[0]), None, 3
    )[1].sum(1)


_case(
    "gathered by label",
    lambda x, y: (jnp.take_along_axis(x, y[:, None], 1), jnp.take_along_axis(x.T, y[None], 0)),
    X,
    Y,
)
_case(
    "gradient of a gather by label",
    lambda x, y: jax.grad(lambda x: jnp.sum(jnp.take_along_axis(x, y[:, None], 1) ** 2))(x),
    X,
    Y,
)
_case("columns by number", lambda x: (x[:, jnp.array([0, 2, 2])], x[:, -1], x[:, 1:4:2], x[:, jnp.array([5, 9, -1])]))
_case(
    "columns changed",
    lambda x: (
        x.at[:, 1].set(0),
        x.at[:, jnp.array([0, 2])].add(1),
        x.at[:, 3].multiply(2),
        x.at[:, 2].min(0),
        x.at[:, 1:3].set(7),
    ),
)
_case(
    "dynamic columns",
    lambda x: (
        lax.dynamic_slice_in_dim(x, jnp.argmax(x.sum(0)), 2, 1),
        lax.dynamic_update_slice_in_dim(x, x[:, :2], jnp.argmax(x.sum(0)), 1),
    ),
)
_case(
    "gradient of dynamic columns", lambda x: jax.grad(lambda x: jnp.sum(lax.dynamic_slice_in_dim(x, 2, 2, 1) ** 2))(x)
)
_case("one-hot", lambda y: (jax.nn.one_hot(y, 4), jax.nn.one_hot(y, 6).mean(0)), Y)
_case(
    "cumulative sums",
    lambda x: (
        jnp.cumsum(x, 0),
        jnp.cumsum(x, 1),
        jnp.cumprod(x, 0),
        lax.cummax(x, 0),
        lax.cumlogsumexp(x, 1, reverse=True),
    ),
)
_case("mean of cumulative sums", lambda x: (jnp.cumsum(x, 0).mean(0), jnp.cumsum(x, 0).T @ x))
_case("top k", lambda x: (lax.top_k(x, 2), jnp.mean(lax.top_k(x, 2)[0])))
_case(
    "sorted features",
    lambda x: (
        jnp.sort(x, 1),
        jnp.argsort(x, 1),
        jnp.median(x, 1),
        jax.grad(lambda x: jnp.sum(jnp.sort(x, 1)[:, 0]))(x),
    ),
)
_case(
    "merged axes",
    lambda t: (
        t.reshape(-1, 4),
        t.reshape(-1, 4).mean(0),
        t.reshape(-1),
        (t.reshape(-1, 4) @ W[:4]).reshape(t.shape[0], 3, 6),
    ),
    T,
)
_case("mean over merged axes", lambda t: jax.grad(lambda w: jnp.mean(jnp.tanh(t.reshape(-1, 4) @ w)))(W[:4]), T)
_case(
    "repeated examples",
    lambda x: (jnp.repeat(x, 2, 0), jnp.repeat(x, 3, 0).mean(0), jnp.repeat(x, 2, 1), jnp.tile(x, (1, 2))),
)
_case(
    "transposed",
    lambda x, t: (x.T, x.T.sum(1), t.transpose(2, 0, 1), jnp.swapaxes(t, 0, 1).mean(1), jnp.moveaxis(t, 0, 2).max(2)),
    X,
    T,
)
_case(
    "stacked and split",
    lambda x: (
        jnp.stack([x, 2 * x]),
        jnp.stack([x, x], 1),
        jnp.concatenate([x, x], 1),
        jnp.split(x, 3, 1),
        jnp.unstack(x, axis=1),
    ),
)
_case(
    "spread",
    lambda x: (
        x[None] + jnp.ones((2, 1, 1)),
        jnp.broadcast_to(x[:, None], (x.shape[0], 2, 6)),
        jnp.broadcast_to(V, x.shape).sum(0),
    ),
)
_case(
    "padded and reversed features",
    lambda x: (jnp.pad(x, ((0, 0), (1, 2))), x[:, ::-1], jnp.roll(x, 1, 1), jnp.flip(x, 1)),
)
_case("polynomials", lambda x: (x**3, x**-2, x**0, jnp.polyval(jnp.array([1.0, 2, 3]), x), (x**2).sum(), (x**0).sum(0)))
_case(
    "element by element",
    lambda x: (
        jnp.exp(x).sum(0),
        jnp.cos(x).mean(),
        jnp.hypot(x, 1).sum(),
        jnp.arctan2(x, 2).sum(),
        jnp.clip(x, 1, 2).sum(0),
        jnp.sign(x).sum(),
        jnp.floor(x).sum(0),
        jnp.cbrt(x).sum(),
        jax.scipy.special.erf(x).sum(),
        jax.scipy.special.erfc(x).sum(),
        jnp.maximum(x, 1).sum(),
        jnp.where(x > 0, 1, 2).sum(),
        (x > 0).sum(),
        (~(x > 0)).sum(),
        jnp.isfinite(x).sum(),
        jnp.mod(x, 2).sum(0),
        jnp.nextafter(x, 1).sum(),
    ),
)
_case(
    "integers",
    lambda y: (
        jnp.sum(y // 2),
        jnp.sum(y % 3),
        (y << 2).sum(),
        (y ^ 3).sum(),
        (~y).sum(),
        lax.population_count(y).sum(),
        y.astype(float).mean(),
    ),
    Y,
)
_case(
    "position in the batch",
    lambda x: (
        jnp.arange(x.shape[0]),
        jnp.arange(x.shape[0]).sum(),
        (jnp.arange(x.shape[0])[:, None] * x).sum(0),
        jnp.where(jnp.arange(x.shape[0])[:, None] < 2, x, jnp.inf).min(0),
    ),
)
_case("first example", lambda x: (lax.slice_in_dim(x, 0, 1), (x - lax.slice_in_dim(x, 0, 1)).sum(0)))
_case(
    "empty features",
    lambda x: (x[:, :0].sum(), jnp.concatenate([x[:, :0], x], 1), jnp.zeros((0, 2)) @ jnp.zeros((2, 3))),
)
_case(
    "complex numbers",
    lambda x: (jnp.abs(jnp.mean(x + 1j * x[:, ::-1], 0)), jnp.fft.fft(x), jnp.real(jnp.fft.rfft(x)).sum(0)),
)
_case(
    "matrices of each example",
    lambda m: (
        jnp.linalg.cholesky(m @ m.mT + jnp.eye(3)),
        jnp.linalg.eigvalsh(m + m.mT).sum(0),
        lax.linalg.triangular_solve(jnp.tril(m) + 3 * jnp.eye(3), m, left_side=True, lower=True),
        lax.linalg.lu(m)[0].sum(0),
    ),
    M,
)
_case(
    "functions with derivatives of their own",
    lambda x: jax.grad(lambda v: jnp.mean(_clipped(x @ v)) + jnp.sum(jax.checkpoint(jnp.sin)(x @ v)))(V),
)
_case("nested functions", lambda x: jax.jit(lambda x: (jax.jit(lambda z: z.mean(0))(x), 1.0, x))(x))


@jax.custom_vjp
def _clipped(x: Any) -> Any:
    return jnp.tanh(x)


_clipped.defvjp(lambda x: (jnp.tanh(x), (x, KEY)), lambda kept, g: (jnp.clip(g, -0.1, 0.1) * jnp.cos(kept[0]),))


@_padded(X)
def dropout(x: Any) -> Any:
    def loss(w: Any) -> Any:
        keep = jax.random.bernoulli(KEY, 0.5, x.shape)
        return jnp.mean((jnp.where(keep, x, 0) * 2) @ w)

    return jax.value_and_grad(loss)(W)


@_padded(X, T)
def random_numbers(x: Any, t: Any) -> Any:
    key = jax.random.wrap_key_data(KEY)
    return (
        x + jax.random.normal(key, x.shape),
        jax.random.uniform(KEY, t.shape).mean(),
        jax.random.randint(KEY, (x.shape[0],), 0, 9),
        jax.random.categorical(KEY, x),
        -jnp.log(jax.random.uniform(KEY, x.shape)).T @ x,
    )


@_padded(X)
def a_key_for_each_example(x: Any) -> Any:
    return jax.vmap(lambda i: jax.random.normal(jax.random.fold_in(KEY, i), (2,)))(jnp.arange(x.shape[0]))


def cross_entropy_by_index(x: Any, y: Any) -> Any:
    def loss(w: Any) -> Any:
        scores = jax.nn.log_softmax(x @ w)
        return -scores[jnp.arange(x.shape[0]), y].mean()

    return jax.value_and_grad(loss)(jnp.ones((6, 6)) * jnp.arange(6) / 7)


_case("examples by label", lambda x, y: x[jnp.arange(x.shape[0]), y].mean(), X, Y)
_case("cross-entropy by index", cross_entropy_by_index, X, Y)
_case("examples by number", lambda x, y: x[y].sum(0), X, Y)
_case("examples by number from the end", lambda x: x[jnp.array([-1, 0, -1])])
_case("examples beyond the last, the nearest", lambda x: x.at[jnp.array([0, 1, 5, 2])].get(mode="clip"))
_case("examples beyond the last, filled", lambda x: x.at[jnp.array([0, 1, 5, 2])].get(mode="fill", fill_value=7.0))
_case("examples beyond the last, filled and summed", lambda x, y: x.at[y].get(mode="fill", fill_value=7.0).sum(0), X, Y)
_case("added to examples by number", lambda x, y: x.at[y].add(x).sum(0), X, Y)
_case("one example set", lambda x: x.at[jnp.array([0])].set(3.0).mean(0))
_case("an example beyond the last is not set", lambda x: x.at[jnp.array([2])].set(3.0, mode="drop").mean(0))


def _branched(name: str, function: Callable[..., Any], *kinds: str) -> None:
    _case(name, function, *kinds, padded=False)


_case("median of the batch", lambda x: jnp.median(x, 0))
_case("sorted batch", lambda x: jnp.sort(x, 0)[0] + jnp.argsort(x[:, 0])[0])
_case("sorted labels", lambda y: (jnp.sort(y), jnp.argsort(y, descending=True), jnp.sort(y > 2)), Y)
_case("sorted pairs", lambda x, y: lax.sort((y, x[:, 0], x[:, 1]), num_keys=2), X, Y)
_case("quantiles", lambda x: jnp.quantile(x, jnp.array([0.1, 0.75]), axis=0))
_case("cumulative extremes from the end", lambda x: (lax.cummin(x, 0, reverse=True), lax.cumprod(x, 0, reverse=True)))
_case("a slice of one example", lambda x: x[:1])
_case("last example", lambda x: x[-1])
_case("first example by number", lambda x: x[0])
_branched("every other example", lambda x: x[::2].sum(0))
_branched("all but the first", lambda x: x[1:].sum(0))
_branched("at most two examples", lambda x: x[:2].sum(0))
_branched("at most two by remainder", lambda x: jnp.zeros(x.shape[0] % 3 + 1).sum())
_branched("joined along the batch", lambda x: jnp.concatenate([x, 2 * x[:1]]).mean(0))
_case("reversed batch", lambda x: x[::-1].cumsum(0).mean(0))
_case("cumulative from the end", lambda x: lax.cumsum(x, 0, reverse=True).max(0))
_branched("rolled batch", lambda x: (jnp.roll(x, 1, 0) * x).sum(0))
_branched("differences along the batch", lambda x: jnp.sum(jnp.diff(x, axis=0), 0))
_branched("permuted batch", lambda x: (jax.random.permutation(KEY, x) * jnp.arange(x.shape[0])[:, None]).sum(0))
_case("chosen example", lambda x: jax.random.choice(KEY, x))
_branched("draws across the batch", lambda x: jax.random.normal(KEY, (3, x.shape[0])) @ x)
_branched("all pairs", lambda x: jnp.sum(jnp.abs(x[:, None] - x[None])))
_branched("all products", lambda x: (x @ x.T).max())
_branched("reshaped across the batch", lambda t: t.transpose(1, 0, 2).reshape(-1, 4).cumsum(0).mean(0), T)
_branched("split by a size of two", lambda x: x.mean(0) if x.shape[0] == 2 else x.sum(0))
_branched("split by another size than two", lambda x: x.mean(0) if x.shape[0] != 2 else x.sum(0))
_branched("split by a shape", lambda x: x.mean(0) if x.shape == (1, 6) else 2 * x.sum(0))
_branched("split by a Python branch", lambda x: x.mean(0) if x.shape[0] > 2 else x.sum(0))
_case("best example", lambda x: (lax.top_k(x[:, 0], 1), lax.top_k(x.T, 1)))
_branched("best examples", lambda x: lax.top_k(x[:, 0], 2)[0] if x.shape[0] > 1 else x[:, 0])
_branched("examples in turn", lambda x: lax.scan(lambda c, row: (0.5 * c + row, None), jnp.zeros(6), x)[0])
_branched("written into a larger array", lambda x: jnp.zeros((9, 6)).at[: x.shape[0]].set(x).sum(0))
_branched("largest written by label", lambda x, y: jnp.full(6, -9.0).at[y].max(x[:, 0]), X, Y)
_branched("set by label", lambda x, y: jnp.zeros(6).at[y].set(3.0), X, Y)
_branched("windows along the batch", lambda x: lax.reduce_window(x, 0.0, lax.add, (2, 1), (1, 1), "SAME").max(0))
_branched("convolved along the batch", lambda x: jnp.convolve(x[:, 0], jnp.ones(3), mode="same").max())
_branched("rank of the batch", lambda x: jnp.linalg.svd(x, compute_uv=False)[0])
_branched("unique labels", lambda y: jnp.unique(y, size=6, fill_value=-1), Y)
