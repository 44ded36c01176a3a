"""The cases of products, layers, losses, and of what reads and writes by number; see `cases`."""

from __future__ import annotations

from typing import Any

import torch

from tests.aten.cases import case
from tests.aten.drawing import Draw

LOOSE = 1e-4  # of sums of many products in another order

# Products.

case("mm", lambda d: (lambda n: (d.floats(d.size(), n), d.floats(n, d.size())))(d.size()))
case("bmm", lambda d: (lambda b, n: (d.floats(b, d.size(), n), d.floats(b, n, d.size())))(d.size(), d.size()))
case("mv", lambda d: (lambda n: (d.floats(d.size(), n), d.floats(n)))(d.size()))
case("dot", lambda d: (lambda n: (d.floats(n), d.floats(n)))(d.size()))
case("matmul", lambda d: (lambda n: (d.floats(2, 1, d.size(), n), d.floats(3, n, d.size())))(d.size()))
case(
    "linear",
    lambda d: (lambda n, m: (d.floats(*d.shape(), n), d.floats(m, n), d.one_of(d.floats(m), None)))(d.size(), d.size()),
)
case(
    "addmm",
    lambda d: (d.floats(2, 4), d.floats(2, 3), d.floats(3, 4), {"beta": d.one_of(1, 0.5, 0), "alpha": d.one_of(1, 2)}),
)
case("baddbmm", lambda d: (d.floats(2, 3, 4), d.floats(2, 3, 2), d.floats(2, 2, 4)))
case("outer", lambda d: (d.floats(d.size()), d.floats(d.size())))
case("einsum", lambda d: ("bij,bkj->bik", [d.floats(2, 3, 4), d.floats(2, 5, 4)]))
case("bilinear", lambda d: (d.floats(3, 2), d.floats(3, 4), d.floats(5, 2, 4), d.floats(5)))
case(
    "_cdist_forward",
    lambda d: (d.floats(3, 4), d.floats(2, 4), d.one_of(2.0, 1.0), None),
    gradient=False,
    tolerance=LOOSE,
)
case("linalg_cross", lambda d: (d.floats(4, 3), d.floats(4, 3)))

# Reading and writing by number.

case("embedding", lambda d: (d.floats(6, 3), d.integers(6, *d.shape()), d.one_of(-1, 2)))
case("index_select", lambda d: (d.floats(5, 6), d.one_of(0, 1), d.integers(5, 3)))
case("gather", lambda d: (d.floats(4, 5), d.one_of(0, 1), d.integers(4, 3, 2)))
case("scatter.src", lambda d: (d.floats(4, 5), 1, torch.tensor([[0, 3, 4], [2, 1, 0]]), d.floats(2, 3)))
case("scatter.value", lambda d: (d.floats(4, 5), 1, d.integers(5, 2, 3), 2.5))
case("scatter_add", lambda d: (d.floats(4, 5), d.one_of(0, 1), d.integers(4, 2, 3), d.floats(2, 3)))
case(
    "scatter_reduce.two",
    lambda d: (
        d.positive(4, 5),
        1,
        d.integers(5, 4, 3),
        d.positive(4, 3),
        d.one_of("sum", "mean", "prod", "amax"),
        {"include_self": d.one_of(True, False)},
    ),
    gradient=False,
)
case("index_add", lambda d: (d.floats(4, 5), 0, d.integers(4, 3), d.floats(3, 5)))
case("index_fill.int_Scalar", lambda d: (d.floats(4, 5), 1, d.integers(5, 2), 0.5))
case(
    "index.Tensor",
    lambda d: (
        d.floats(4, 5, 3),
        d.one_of([d.integers(4, 3)], [None, d.integers(5, 2)], [d.integers(4, 2), d.integers(5, 2)]),
    ),
)
case("index_put", lambda d: (d.floats(4, 5), [torch.tensor([0, 2])], d.floats(2, 5), d.one_of(True, False)))
case("select_scatter", lambda d: (d.floats(4, 5), d.floats(5), 0, 2))
case("slice_scatter", lambda d: (d.floats(6, 5), d.floats(2, 5), 0, 1, 3))
case("take", lambda d: (d.floats(4, 5), d.integers(20, 3)))
case("bucketize.Tensor", lambda d: (d.floats(4), torch.tensor([-1.0, 0.0, 1.0])), gradient=False)
case("masked_scatter", lambda d: (d.floats(3, 4), d.bools(3, 4), d.floats(12)))


def _bag(d: Draw) -> tuple[Any, ...]:
    return (
        d.floats(6, 3),
        d.integers(6, 7),
        torch.tensor([0, 2, 2, 5]),
        False,
        d.one_of(0, 1),
        False,
        None,
        False,
        d.one_of(-1, 3),
    )


case("_embedding_bag", _bag, what="sums", results=1)


def _conv(n: int, transposed: bool = False) -> Any:
    def arguments(d: Draw) -> tuple[Any, ...]:
        groups, per, out = d.one_of(1, 2), d.size(1, 2), d.size(1, 2)
        window = [d.size(1, 3) for _ in range(n)]
        x = d.floats(2, groups * per, *[d.size(5, 7) for _ in range(n)])
        weight = d.floats(groups * per, out, *window) if transposed else d.floats(groups * out, per, *window)
        stride = [d.size(1, 2) for _ in range(n)]
        padding = [d.size(0, 1) for _ in range(n)]
        dilation = [d.size(1, 2) for _ in range(n)]
        extra = [d.size(0, s - 1) if transposed else 0 for s in stride]
        bias = d.one_of(None, d.floats(groups * out))
        return x, weight, bias, stride, padding, dilation, transposed, extra, groups

    return arguments


for _n in (1, 2, 3):
    case("convolution", _conv(_n), tolerance=LOOSE, what=f"{_n}d")
    case("convolution", _conv(_n, True), tolerance=LOOSE, what=f"transposed-{_n}d")
case(
    "conv2d.padding",
    lambda d: (
        d.floats(2, 3, 6, 7),
        d.floats(4, 3, d.size(1, 4), d.size(1, 4)),
        d.floats(4),
        [1, 1],
        d.one_of("same", "valid"),
        [d.size(1, 2)] * 2,
    ),
    tolerance=LOOSE,
)
case("im2col", lambda d: (d.floats(2, 3, 6, 7), [2, 3], [1, 1], [1, 0], [2, 1]))
case("col2im", lambda d: (d.floats(2, 12, 20), [5, 6], [2, 2], [1, 1], [0, 0], [1, 1]))


def _pool(n: int, more: Any = lambda d: ()) -> Any:
    def arguments(d: Draw) -> tuple[Any, ...]:
        x = d.apart(2, 2, *[d.size(5, 8) for _ in range(n)])
        window = [d.size(2, 3) for _ in range(n)]
        return (x, window, d.one_of([], [2] * n), [d.size(0, 1)] * n, *more(d))

    return arguments


_dilated = lambda n: lambda d: ([d.size(1, 2)] * n, d.one_of(True, False))  # noqa: E731
case("max_pool2d", _pool(2, _dilated(2)))
case("max_pool2d_with_indices", _pool(2, _dilated(2)))
case("max_pool3d_with_indices", _pool(3, _dilated(3)))
case("max_pool1d", _pool(1, _dilated(1)))
case("avg_pool1d", _pool(1, lambda d: (d.one_of(True, False), d.one_of(True, False))))
case("avg_pool2d", _pool(2, lambda d: (d.one_of(True, False), d.one_of(True, False), d.one_of(None, 3))))
case("avg_pool3d", _pool(3, lambda d: (d.one_of(True, False), d.one_of(True, False))))
case(
    "_adaptive_avg_pool2d adaptive_max_pool2d",
    lambda d: (d.apart(2, 2, d.size(4, 8), d.size(4, 8)), [d.size(1, 4), d.size(1, 4)]),
)
case("adaptive_avg_pool1d", lambda d: (d.floats(2, 2, d.size(4, 8)), [d.size(1, 4)]))

# Norms.

case(
    "native_layer_norm",
    lambda d: (d.floats(3, 2, 5), [2, 5], d.floats(2, 5), d.one_of(d.floats(2, 5), None), 1e-5),
    tolerance=LOOSE,
)
case("layer_norm", lambda d: (d.floats(3, 2, 5), [5], d.floats(5), d.floats(5)), tolerance=LOOSE)
case("rms_norm", lambda d: (d.floats(3, 2, 5), [5], d.floats(5), d.one_of(1e-5, None)), tolerance=LOOSE)
case(
    "group_norm", lambda d: (d.floats(3, 4, d.size(), 3), d.one_of(1, 2, 4), d.floats(4), d.floats(4)), tolerance=LOOSE
)
case("native_group_norm", lambda d: (d.floats(3, 4, 5), d.floats(4), d.floats(4), 3, 4, 5, 2, 1e-5), tolerance=LOOSE)
case(
    "_native_batch_norm_legit_functional",
    lambda d: (
        d.floats(4, 3, d.size()),
        d.floats(3),
        d.floats(3),
        d.floats(3),
        d.positive(3),
        d.one_of(True, False),
        0.1,
        1e-5,
    ),
    tolerance=LOOSE,
    gradient=False,
)
case(
    "_native_batch_norm_legit_no_training",
    lambda d: (d.floats(4, 3, 2, 2), d.floats(3), d.floats(3), d.floats(3), d.positive(3), 0.1, 1e-5),
    tolerance=LOOSE,
    gradient=False,
)

# Resampling.

case(
    "upsample_nearest2d.vec",
    lambda d: (d.floats(2, 2, 4, 5), *d.one_of(([7, 9], None), (None, [2.0, 2.0]), (None, [1.7, 0.6]))),
)
case("_upsample_nearest_exact2d.vec", lambda d: (d.floats(2, 2, 4, 5), [7, 9], None))
case("upsample_nearest1d.vec", lambda d: (d.floats(2, 2, 5), *d.one_of(([7], None), (None, [2.0]))))
case(
    "upsample_linear1d.vec",
    lambda d: (d.floats(2, 2, 5), *d.one_of(([7], d.one_of(True, False), None), (None, False, [1.7]))),
)
case(
    "upsample_bilinear2d.vec upsample_bicubic2d.vec",
    lambda d: (d.floats(2, 2, 4, 5), *d.one_of(([7, 3], d.one_of(True, False), None), (None, False, [1.7, 2.0]))),
    tolerance=3e-5,
)
case("upsample_trilinear3d.vec", lambda d: (d.floats(1, 2, 3, 4, 3), [5, 3, 6], d.one_of(True, False), None))
case(
    "grid_sampler_2d",
    lambda d: (d.floats(2, 3, 5, 6), d.floats(2, 4, 3, 2), d.one_of(0, 1), d.one_of(0, 1), d.one_of(True, False)),
    tolerance=LOOSE,
)
case("affine_grid_generator", lambda d: (d.floats(2, 2, 3), [2, 3, 4, 5], d.one_of(True, False)))

# Attention and recurrent layers.


def _attention(d: Draw) -> tuple[Any, ...]:
    q, k, v = d.floats(2, 3, 4, 5), d.floats(2, 3, 6, 5), d.floats(2, 3, 6, 5)
    mask = d.one_of(None, d.floats(4, 6), d.bools(2, 1, 4, 6))
    return q, k, v, mask, 0.0, mask is None and d.one_of(True, False)


case("scaled_dot_product_attention", _attention, tolerance=3e-5)
case(
    "scaled_dot_product_attention",
    lambda d: (d.floats(2, 4, 3, 5), d.floats(2, 2, 3, 5), d.floats(2, 2, 3, 5), {"enable_gqa": True}),
    tolerance=3e-5,
    what="grouped",
)


def _recurrent(gates: int, states: int) -> Any:
    def arguments(d: Draw) -> tuple[Any, ...]:
        layers, ways, n, h, b, t = d.size(1, 2), d.one_of(1, 2), 3, 2, 2, 4
        biases, first = d.one_of(True, False), d.one_of(True, False)
        weights: list[Any] = []
        for layer in range(layers):
            for _ in range(ways):
                weights += [d.floats(gates * h, n if layer == 0 else h * ways), d.floats(gates * h, h)]
                weights += [d.floats(gates * h), d.floats(gates * h)] if biases else []
        state = [d.floats(layers * ways, b, h) for _ in range(states)]
        x = d.floats(b, t, n) if first else d.floats(t, b, n)
        given = state if states > 1 else state[0]
        return x, given, weights, biases, layers, 0.0, True, ways == 2, first

    return arguments


case("lstm.input", _recurrent(4, 2), tolerance=3e-5)
case("gru.input", _recurrent(3, 1), tolerance=3e-5)
case("rnn_tanh.input rnn_relu.input", _recurrent(1, 1), tolerance=3e-5)
case(
    "gru_cell",
    lambda d: (d.floats(2, 3), d.floats(2, 4), d.floats(12, 3), d.floats(12, 4), d.floats(12), d.floats(12)),
    tolerance=3e-5,
)
case(
    "lstm_cell",
    lambda d: (
        d.floats(2, 3),
        [d.floats(2, 4), d.floats(2, 4)],
        d.floats(16, 3),
        d.floats(16, 4),
        d.floats(16),
        d.floats(16),
    ),
    tolerance=3e-5,
)

# Losses.

_how = lambda d: d.one_of(0, 1, 2)  # noqa: E731


def _labels(d: Draw) -> tuple[Any, ...]:
    n, c, more = d.size(2), d.size(2), d.one_of((), (3,))
    weight = d.one_of(None, d.weights(c))
    return d.floats(n, c, *more), d.integers(c, n, *more), weight, _how(d), d.one_of(-100, 1), d.one_of(0.0, 0.1)


def _some_labels(d: Draw) -> tuple[Any, ...]:
    x, y, weight, how, _, smoothing = _labels(d)
    return x, y, weight, how, -100, smoothing


case("cross_entropy_loss", _some_labels)
case(
    "cross_entropy_loss",
    lambda d: (lambda x: (x, torch.softmax(d.floats(*x.shape), 1), None, _how(d), -100, d.one_of(0.0, 0.2)))(
        d.floats(4, 3)
    ),
    what="probabilities",
)
case(
    "cross_entropy_loss",
    lambda d: (d.floats(4, 3), torch.tensor([0, 1, -100, 2]), d.one_of(None, d.weights(3)), _how(d)),
    what="ignored",
)
case("nll_loss_nd", lambda d: _some_labels(d)[:5])


def _pairs(d: Draw) -> tuple[Any, ...]:
    s = d.shape()
    return d.apart(*s), d.apart(*s) + 0.11, _how(d)


case("mse_loss l1_loss smooth_l1_loss huber_loss", _pairs)
case("smooth_l1_loss huber_loss", lambda d: (*_pairs(d), 0.5), what="other")
case(
    "binary_cross_entropy",
    lambda d: (d.positive(3, 4, most=0.9), d.positive(3, 4, most=0.9), d.one_of(None, d.weights(4)), _how(d)),
    tolerance=3e-5,
)
case(
    "binary_cross_entropy_with_logits",
    lambda d: (
        d.floats(3, 4),
        d.positive(3, 4, most=0.9),
        d.one_of(None, d.weights(4)),
        d.one_of(None, d.weights(4)),
        _how(d),
    ),
)
case("kl_div", lambda d: (d.floats(3, 4), d.positive(3, 4), _how(d), {"log_target": d.one_of(True, False)}))
case(
    "poisson_nll_loss",
    lambda d: (d.positive(3, 4), d.positive(3, 4), d.one_of(True, False), d.one_of(True, False), 1e-8, _how(d)),
    tolerance=3e-5,
)
case("hinge_embedding_loss", lambda d: (d.apart(3, 4), 2.0 * d.bools(3, 4).float() - 1, 1.0, _how(d)), gradient=False)
case("margin_ranking_loss", lambda d: (d.apart(4), d.apart(4) + 0.1, torch.tensor([1.0, -1, 1, -1]), 0.2, _how(d)))
case("soft_margin_loss", lambda d: (d.floats(3, 4), torch.sign(d.floats(3, 4)), _how(d)), gradient=False)
case(
    "cosine_embedding_loss",
    lambda d: (d.floats(4, 3), d.floats(4, 3), torch.tensor([1.0, -1, 1, -1]), 0.1, _how(d)),
    tolerance=3e-5,
    gradient=False,
)
case("cosine_similarity", lambda d: (d.floats(4, 3), d.floats(4, 3), d.one_of(0, 1)), tolerance=3e-5)
case("pairwise_distance", lambda d: (d.floats(4, 3), d.floats(4, 3)), tolerance=3e-5)
case(
    "triplet_margin_loss",
    lambda d: (d.floats(4, 3), d.floats(4, 3), d.floats(4, 3), 1.0, 2.0, 1e-6, d.one_of(True, False), _how(d)),
    tolerance=3e-5,
)
case("multi_margin_loss", lambda d: (d.apart(4, 3), d.integers(3, 4), 1, 1, None, _how(d)))
