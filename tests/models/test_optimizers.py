"""Optimizers as functions: Keras's and Optax's give the same steps, and the ones that are known by hand."""

import jax
import keras
import numpy as np
import optax
import pytest

import hansa
from hansa.models.named_optimizers import NAMES
from hansa.models.optimizer import sgd
from hansa.models.optimizers import to_optimizer
from hansa.types import Struct

WEIGHTS = Struct.of(w=np.float32([1.0]))
PLAIN = [1, 0.98, 0.96, 0.94]
MOMENTUM = [1, 0.98, 0.95, 0.915, 0.8775]
NESTEROV = [1, 0.97, 0.935, 0.8975, 0.85875]
assert hansa

KNOWN = [
    (sgd(0.01), PLAIN),
    (optax.sgd(0.01), PLAIN),
    (keras.optimizers.SGD(0.01), PLAIN),
    (lambda: keras.optimizers.SGD(0.01), PLAIN),
    (optax.sgd(0.01, momentum=0.5), MOMENTUM),
    (keras.optimizers.SGD(0.01, momentum=0.5), MOMENTUM),
    (optax.sgd(0.01, momentum=0.5, nesterov=True), NESTEROV),
    (keras.optimizers.SGD(0.01, momentum=0.5, nesterov=True), NESTEROV),
]


def steps(optimizer, gradients, weights=WEIGHTS):
    state, seen = optimizer.initial(weights), [weights]
    apply = jax.jit(optimizer.apply)
    for gradient in gradients:
        state, weights = apply(state, gradient, weights)
        seen.append(weights)
    return seen


@pytest.mark.parametrize(("optimizer", "expected"), KNOWN)
def test_steps_with_a_constant_gradient_of_two(optimizer, expected):
    gradients = [Struct.of(w=np.float32([2.0]))] * (len(expected) - 1)
    found = [float(weights.w[0]) for weights in steps(to_optimizer(optimizer, "optimizer"), gradients)]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (optax.adam(0.1), keras.optimizers.Adam(0.1, epsilon=1e-8)),
        (optax.adamw(0.1, weight_decay=0.01), keras.optimizers.AdamW(0.1, weight_decay=0.01, epsilon=1e-8)),
        (optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(0.1)), keras.optimizers.SGD(0.1, global_clipnorm=1.0)),
    ],
)
def test_optax_and_keras_agree(ours, theirs):
    rng = np.random.default_rng(0)
    weights = Struct.of(a=rng.normal(size=(3, 2)).astype("float32"), b=rng.normal(size=4).astype("float32"))
    gradients = [jax.tree.map(lambda w: rng.normal(size=w.shape).astype("float32"), weights) for _ in range(4)]
    for a, b in zip(
        steps(to_optimizer(ours, ""), gradients, weights),
        steps(to_optimizer(theirs, ""), gradients, weights),
        strict=True,
    ):
        for x, y in zip(a, b, strict=True):
            np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5)


def test_state_is_a_struct_of_what_is_not_empty():
    assert len(to_optimizer(optax.sgd(0.1), "").initial(WEIGHTS)) == 0
    assert to_optimizer(optax.sgd(0.1, momentum=0.9), "").initial(WEIGHTS)._fields == ("trace",)
    assert to_optimizer(optax.adam(0.1), "").initial(WEIGHTS)._fields == ("count", "mu", "nu")


def test_a_name_with_a_rate_is_the_optimizer_of_optax():
    gradients = [Struct.of(w=np.float32([g])) for g in (2.0, -1.0, 3.0)]
    for name in NAMES:
        for rate in (0.1, optax.linear_schedule(0.1, 0.0, 4)):
            named = to_optimizer(name, "client_optimizer", None, rate)
            assert steps(named, gradients) == steps(to_optimizer(getattr(optax, name)(rate), ""), gradients), name


@pytest.mark.parametrize(
    ("value", "rate", "message"),
    [
        (
            "Adam",
            0.1,
            r"client_optimizer='Adam' is the name of no optimizer here; did you mean 'adam'\? there are 'sgd', ",
        ),
        ("adam", None, "client_optimizer='adam' needs a learning rate: write client_learning_rate=0.01"),
        ("sgd", -0.1, "client_learning_rate must be a number of 0 or more, such as 0.1; found -0.1"),
        ("sgd", float("nan"), "client_learning_rate must be a number of 0 or more"),
        ("sgd", "fast", "client_learning_rate must be a number, such as 0.1, or a schedule"),
        (optax.sgd(0.1), 0.1, "client_learning_rate is the rate of an optimizer by name, .* leave out one of the two"),
        (None, 0.1, "client_learning_rate is the rate of an optimizer by name"),
    ],
)
def test_names_and_rates_that_do_not_go_together_are_refused(value, rate, message):
    with pytest.raises((TypeError, ValueError), match=message):
        to_optimizer(value, "client_optimizer", None, rate)


@pytest.mark.parametrize("value", [0.1, None])
def test_other_things_are_refused(value):
    with pytest.raises(TypeError, match=r"server_optimizer must be the name of an optimizer such as 'sgd', an Optax "):
        to_optimizer(value, "server_optimizer")
    with pytest.raises(TypeError, match=r"server_optimizer is the class SGD; make one, such as SGD\(0.1\)"):
        to_optimizer(keras.optimizers.SGD, "server_optimizer")
