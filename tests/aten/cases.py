"""The cases by which the table is compared with PyTorch: for each operation, how its arguments are drawn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from tests.aten.drawing import Draw


@dataclass(frozen=True)
class Case:
    """An operation with a way to draw its arguments.

    Attributes:
        name: the operation's, with the overload where there are several.
        arguments: from a `Draw` to a tuple of arguments; a dict as the last of it are those by name.
        gradient: whether it has one.
        tolerance: how far apart results may be.
        what: tells it from other cases of the operation.
        results: how many of its results are looked at; PyTorch has some for its own gradients.
    """

    name: str
    arguments: Callable[[Draw], tuple[Any, ...]]
    gradient: bool = True
    tolerance: float = 1e-5
    what: str = ""
    results: int = 9

    def __str__(self) -> str:
        return f"{self.name}-{self.what}" if self.what else self.name


CASES: list[Case] = []


def case(
    names: str, arguments: Any, gradient: bool = True, tolerance: float = 1e-5, what: str = "", results: int = 9
) -> None:
    """Adds a case for each operation of the names."""
    CASES.extend(Case(name, arguments, gradient, tolerance, what, results) for name in names.split())


# Element by element.

case(
    "abs neg sign sin cos tanh exp expm1 square sigmoid relu silu mish log_sigmoid "
    "erf erfc atan asinh sinh cosh "
    "hardswish hardsigmoid gelu elu celu selu leaky_relu softplus softshrink hardshrink hardtanh "
    "trunc ceil floor frac "
    "exp2 tan sinc relu6",
    lambda d: (d.apart(*d.shape()),),
    tolerance=3e-5,
)
case(
    "log log2 log10 log1p sqrt rsqrt reciprocal lgamma digamma special_ndtr",
    lambda d: (d.positive(*d.shape()),),
    tolerance=3e-5,
)
case("asin acos atanh erfinv logit", lambda d: (d.positive(*d.shape(), least=0.1, most=0.9),), tolerance=3e-5)
case("acosh", lambda d: (d.positive(*d.shape(), least=1.5),), tolerance=3e-5)
case("round isnan isinf isfinite logical_not signbit sgn", lambda d: (d.floats(*d.shape()) * 3,), gradient=False)
case("bitwise_not", lambda d: (d.small(*d.shape()),), gradient=False)


def _two(d: Draw, make: Any = None) -> tuple[Any, ...]:
    shape = d.shape()
    make = make or d.floats
    return make(*shape), make(*d.broadcastable(shape))


case("add.Tensor sub.Tensor mul.Tensor maximum minimum fmax fmin hypot", _two, tolerance=3e-5)
case("add.Tensor sub.Tensor", lambda d: (*_two(d), {"alpha": 2}), what="alpha")
case("add.Tensor mul.Tensor sub.Tensor", lambda d: _two(d, d.small), gradient=False, what="integers")
case("add.Scalar sub.Scalar mul.Scalar", lambda d: (d.floats(*d.shape()), 1.5))
case("rsub.Scalar", lambda d: (d.floats(*d.shape()), 2, 3))
case("div.Tensor atan2 xlogy.Tensor copysign.Tensor", lambda d: _two(d, d.positive), tolerance=3e-5)
case("div.Tensor", lambda d: _two(d, lambda *s: d.integers(9, *s, low=1)), gradient=False, what="integers")
case(
    "div.Tensor_mode",
    lambda d: (
        *_two(d, lambda *s: d.integers(9, *s, low=1) * d.one_of(1, -1)),
        {"rounding_mode": d.one_of("floor", "trunc")},
    ),
    gradient=False,
)
case(
    "div.Tensor_mode",
    lambda d: (*_two(d, d.positive), {"rounding_mode": d.one_of("floor", "trunc", None)}),
    gradient=False,
    what="floats",
)
case(
    "remainder.Tensor fmod.Tensor",
    lambda d: _two(d, lambda *s: d.integers(9, *s, low=1) * d.one_of(1, -1)),
    gradient=False,
)
case("floor_divide", lambda d: _two(d, lambda *s: d.integers(9, *s, low=1)), gradient=False)
case(
    "eq.Tensor ne.Tensor lt.Tensor le.Tensor gt.Tensor ge.Tensor logical_and logical_or logical_xor",
    lambda d: _two(d, d.small),
    gradient=False,
)
case(
    "bitwise_and.Tensor bitwise_or.Tensor bitwise_xor.Tensor",
    lambda d: _two(d, lambda *s: d.integers(9, *s)),
    gradient=False,
)
case("eq.Scalar ne.Scalar lt.Scalar gt.Scalar", lambda d: (d.small(*d.shape()), 2), gradient=False)
case("pow.Tensor_Scalar", lambda d: (d.apart(*d.shape()), d.one_of(2, 3, 2.0, -1, 1, 0)), tolerance=3e-5)
case("pow.Tensor_Scalar", lambda d: (d.positive(*d.shape()), d.one_of(0.5, 1.7, -0.3)), tolerance=3e-5, what="roots")
case("pow.Tensor_Tensor", lambda d: _two(d, d.positive), tolerance=3e-5)
case("pow.Scalar", lambda d: (2.5, d.floats(*d.shape())), tolerance=3e-5)
case("where.self", lambda d: (lambda s: (d.bools(*s), d.floats(*s), d.floats(*s)))(d.shape()))
case("masked_fill.Scalar", lambda d: (lambda s: (d.floats(*s), d.bools(*s), -7.5))(d.shape()))
case("clamp", lambda d: (d.apart(*d.shape()), d.one_of(-0.5, None), 0.5))
case("clamp_min clamp_max", lambda d: (d.apart(*d.shape()), 0.25))
case("lerp.Scalar", lambda d: (lambda s: (d.floats(*s), d.floats(*s), 0.3))(d.shape()))
case("addcmul", lambda d: (lambda s: (d.floats(*s), d.floats(*s), d.floats(*s), {"value": 0.5}))(d.shape()))
case("addcdiv", lambda d: (lambda s: (d.floats(*s), d.floats(*s), d.positive(*s), {"value": 0.5}))(d.shape()))
case("threshold", lambda d: (d.apart(*d.shape()), 0.1, 2.0))
case("_prelu_kernel", lambda d: (lambda s: (d.apart(*s), d.floats(*s)))(d.shape(2, 3)))
case("glu", lambda d: (d.floats(d.size(), 2 * d.size()), -1))
case("gelu", lambda d: (d.floats(*d.shape()), {"approximate": "tanh"}), what="tanh", tolerance=3e-5)
case(
    "nan_to_num",
    lambda d: (torch.tensor([1.0, float("nan"), float("inf"), -float("inf")]), 0.5, 9.0, -9.0),
    gradient=False,
)

# Shapes.


def _of(make: Any) -> Any:
    """Arguments of an array and its shape."""
    return lambda d: (lambda s: make(d, d.floats(*s), s))(d.shape(2, 4))


case("view reshape", _of(lambda d, x, s: (x, [-1, s[-1]])))
case("permute", _of(lambda d, x, s: (x, list(d.rng.permutation(len(s)).tolist()))))
case("transpose.int", _of(lambda d, x, s: (x, d.axis(s), d.axis(s))))
case("t", lambda d: (d.floats(d.size(), d.size()),))
case("unsqueeze", _of(lambda d, x, s: (x, d.axis(s))))
case("squeeze.dim", lambda d: (d.floats(d.size(), 1, d.size()), d.one_of(0, 1, -1)))
case("squeeze", lambda d: (d.floats(d.size(), 1, d.size(), 1),))
case("squeeze.dims", lambda d: (d.floats(d.size(), 1, d.size(), 1), [1, -1]))
case("flip", _of(lambda d, x, s: (x, [d.axis(s)])))
case("roll", _of(lambda d, x, s: (x, [d.size(-3, 3)], [d.axis(s)])))
case("expand", lambda d: (d.floats(1, d.size()), [d.size(), -1]))
case("repeat", _of(lambda d, x, s: (x, [2, *[d.size(1, 2) for _ in s]])))
case("repeat_interleave.self_int", _of(lambda d, x, s: (x, 2, d.axis(s))))
case("cat", _of(lambda d, x, s: ([x, x * 2], d.axis(s))))
case("stack", _of(lambda d, x, s: ([x, x * 2], d.axis(s))))
case("select.int", _of(lambda d, x, s: (x, d.axis(s), -1)))
case(
    "slice.Tensor",
    _of(lambda d, x, s: (x, d.axis(s), d.one_of(0, 1, None), d.one_of(9, -1, None, 2**63 - 1), d.one_of(1, 2))),
)
case("split.Tensor", lambda d: (d.floats(7, d.size()), 3, 0))
case("split_with_sizes", lambda d: (d.floats(d.size(), 7), [2, 4, 1], -1))
case("chunk", lambda d: (d.floats(7, d.size()), 3))
case("unbind.int", _of(lambda d, x, s: (x, d.axis(s))))
case("narrow", lambda d: (d.floats(6, d.size()), 0, 2, 3))
case("tril triu", lambda d: (d.floats(*d.shape(2, 3)), d.size(-2, 2)))
case("diagonal", lambda d: (d.floats(d.size(2), d.size(2), d.size()), d.size(-1, 1), 0, 1))
case("diag_embed", lambda d: (d.floats(d.size(), d.size()), d.size(-1, 1)))
case("unfold", lambda d: (d.floats(d.size(), 8), -1, 3, 2))
case("flatten.using_ints", _of(lambda d, x, s: (x, 0, -1)))
case("movedim.int", _of(lambda d, x, s: (x, 0, -1)))
case("constant_pad_nd", _of(lambda d, x, s: (x, [d.size(0, 2), d.size(0, 2), 1, d.one_of(0, 1)], 0.5)))
case(
    "pad",
    lambda d: (
        d.floats(2, 3, 5),
        [d.size(0, 2), d.size(0, 2)],
        d.one_of("constant", "reflect", "replicate", "circular"),
    ),
)
case("reflection_pad2d replication_pad2d", lambda d: (d.floats(2, 3, 5, 6), [1, 2, 2, 0]))
case("reflection_pad1d replication_pad1d", lambda d: (d.floats(2, 3, 5), [1, 2]))
case("pixel_shuffle", lambda d: (d.floats(2, 8, d.size(), d.size()), 2))
case("pixel_unshuffle", lambda d: (d.floats(2, 3, 2 * d.size(), 4), 2))
case("channel_shuffle", lambda d: (d.floats(2, 6, d.size()), 3))
case("rot90", lambda d: (d.floats(3, 4, 2), d.size(-2, 4), [0, 1]))
case("full_like", lambda d: (d.floats(*d.shape()), 3), gradient=False)
case("zeros_like ones_like", lambda d: (d.numbers(*d.shape()),), gradient=False)
case("full", lambda d: (list(d.shape()), 2.5), gradient=False)
case("zeros ones", lambda d: (list(d.shape()),), gradient=False)
case("arange", lambda d: (d.size(),), gradient=False)
case("arange.start_step", lambda d: (1, 9, d.one_of(1, 2)), gradient=False)
case("arange.start_step", lambda d: (0.5, 4.0, 0.75), gradient=False, what="floats")
case("linspace", lambda d: (0.0, 3.0, d.size(2)), gradient=False)
case("eye", lambda d: (d.size(),), gradient=False)
case("scalar_tensor", lambda d: (2.5,), gradient=False)

# Reductions.


def _along(make: Any = None) -> Any:
    def arguments(d: Draw) -> tuple[Any, ...]:
        s = d.shape()
        return (make or Draw.floats)(d, *s), [d.axis(s)], d.one_of(True, False)

    return arguments


case("sum.dim_IntList mean.dim amax amin logsumexp", _along(Draw.apart), tolerance=3e-5)
case("sum mean prod max min", lambda d: (d.apart(*d.shape()),), tolerance=3e-4)
case("sum", lambda d: (d.small(*d.shape()),), gradient=False, what="integers")
case("prod.dim_int", lambda d: (lambda s: (d.positive(*s), d.axis(s), True))(d.shape()), tolerance=3e-5)
case("any all", lambda d: (d.bools(*d.shape()),), gradient=False)
case("any.dim all.dim", lambda d: (lambda s: (d.bools(*s), d.axis(s), True))(d.shape()), gradient=False)
case(
    "argmax argmin",
    lambda d: (lambda s: (d.apart(*s), d.one_of(d.axis(s), None), d.one_of(True, False)))(d.shape()),
    gradient=False,
)
case("max.dim min.dim", lambda d: (lambda s: (d.apart(*s), d.axis(s), d.one_of(True, False)))(d.shape()))
case("max.other min.other", _two)
case(
    "var.correction std.correction var_mean.correction",
    lambda d: (d.floats(4, d.size(2)), [0], {"correction": d.one_of(0, 1), "keepdim": d.one_of(True, False)}),
    tolerance=3e-5,
)
case("var std", lambda d: (d.floats(3, 4), d.one_of(True, False)), tolerance=3e-5)
case("var.dim std.dim", lambda d: (d.floats(3, 4), [1], d.one_of(True, False), True), tolerance=3e-5)
case(
    "linalg_vector_norm",
    lambda d: (d.apart(3, 4), d.one_of(2, 1, 3, float("inf")), d.one_of([1], None)),
    tolerance=3e-5,
)
case("linalg_vector_norm", lambda d: (torch.zeros(3, 4), 2, [1]), what="zeros")
case("norm.ScalarOpt_dim", lambda d: (d.floats(3, 4), 2, [0], True), tolerance=3e-5)
case("softmax.int log_softmax.int", lambda d: (lambda s: (d.floats(*s), d.axis(s)))(d.shape()))
case("_softmax _log_softmax", lambda d: (lambda s: (d.floats(*s), d.axis(s), False))(d.shape()))
case("cumsum cumprod", lambda d: (lambda s: (d.positive(*s), d.axis(s)))(d.shape()), tolerance=3e-5)
case("logcumsumexp cummax cummin", lambda d: (lambda s: (d.apart(*s), d.axis(s)))(d.shape()), tolerance=3e-5)
case("sort", lambda d: (lambda s: (d.apart(*s), d.axis(s), d.one_of(True, False)))(d.shape()))
case("argsort", lambda d: (lambda s: (d.apart(*s), d.axis(s), d.one_of(True, False)))(d.shape()), gradient=False)
case("topk", lambda d: (d.apart(3, 6), d.size(1, 3), d.one_of(0, 1), d.one_of(True, False)))
case("kthvalue", lambda d: (d.apart(3, 6), 2, 1))
case("median", lambda d: (d.apart(3, d.size()),))
case("median.dim", lambda d: (d.apart(3, d.size()), 1, d.one_of(True, False)))
case("diff", lambda d: (d.floats(3, 6), d.size(1, 2), -1))
case("count_nonzero", lambda d: (d.integers(2, *d.shape()),), gradient=False)
