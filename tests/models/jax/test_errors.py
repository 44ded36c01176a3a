"""What authors of models in plain JAX read when something is not as it should be."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from hansa.learning import BatchOutput, build_federated_averaging_process
from tests.models.functional import STATISTICS, make_client, mlp, momentum_step, zero_model


def returns(value):
    def forward(w, batch, training, rng):
        return value(w, batch)

    return forward


def loss_of(w, batch):
    return (batch.x @ w["hidden"]["kernel"]).mean()


def with_statistics(returned):
    def build():
        return zero_model(
            lambda pair, batch, training, rng: returned(BatchOutput(loss_of(pair[0], batch)), pair[1]),
            non_trainable=STATISTICS,
        )

    return build


def steps_to(change, **arguments):
    def build():
        step = lambda w, batch, rng: (change(w), BatchOutput(loss_of(w, batch)))  # noqa: E731
        build_federated_averaging_process(zero_model(train_on_batch=step, name="net", **arguments))

    return build


def half(w):
    return jax.tree.map(lambda leaf: leaf.astype(jnp.float16), w)


def with_state(step, state):
    def build():
        build_federated_averaging_process(
            zero_model(train_on_batch=step, initial_optimizer_state=lambda w: state, name="net")
        )

    return build


ERRORS = {
    "forward returns a dict": (
        lambda: zero_model(returns(lambda w, b: {"loss": loss_of(w, b)}), name="net"),
        "forward of 'net' returned a dict; it must be hansa.learning.BatchOutput",
    ),
    "forward returns nothing": (lambda: zero_model(returns(lambda w, b: None)), "returned None; it must be"),
    "forward returns the loss": (lambda: zero_model(returns(loss_of)), r"an array of the type float32\[\]"),
    "a loss for each example": (
        lambda: zero_model(returns(lambda w, b: BatchOutput(b.x.sum(1)))),
        r"a loss that is no scalar.*jnp.mean\(loss\)",
    ),
    "a loss of integers": (
        lambda: zero_model(returns(lambda w, b: BatchOutput(b.y.sum()))),
        "a loss of the dtype int32",
    ),
    "no loss": (lambda: zero_model(returns(lambda w, b: BatchOutput(None))), "None as the loss"),
    "num_examples for each example": (
        lambda: zero_model(returns(lambda w, b: BatchOutput(loss_of(w, b), None, b.y))),
        "num_examples of the shape",
    ),
    "statistics are not returned": (with_statistics(lambda output, rest: output), "returns a pair"),
    "a pair the other way round": (with_statistics(lambda output, rest: (rest, output)), "in a pair a dict"),
    "a missing statistic": (
        with_statistics(lambda output, rest: (output, {"mean": rest["mean"]})),
        "without var; return all of them",
    ),
    "statistics of another shape": (
        with_statistics(lambda output, rest: (output, {**rest, "var": rest["var"][:3]})),
        r"returned 'var' as float32\[3\], and it was float32\[8\]",
    ),
    "weights of another dtype": (
        steps_to(half),
        r"train_on_batch of 'net' returned 'hidden/bias' as float16\[8\], and it was float32\[8\]: weights keep their "
        r"shapes and dtypes; convert it with .astype\('float32'\)",
    ),
    "weights of another shape": (
        steps_to(lambda w: {**w, "out": {"kernel": w["out"]["kernel"].T}}),
        r"'out/kernel' as float32\[3,8\], and it was float32\[8,3\].*reshape it",
    ),
    "weights that are missing": (steps_to(lambda w: {"hidden": w["hidden"]}), "without out/kernel"),
    "weights too many": (steps_to(lambda w: {**w, "more": jnp.zeros(2)}), "with more besides"),
    "a step without output": (
        with_state(lambda w, s, batch, rng: (w, s), jnp.zeros(2)),
        r"returned a tuple of 2; it must return \(weights, optimizer state, BatchOutput\)",
    ),
    "another optimizer state": (
        with_state(lambda w, s, batch, rng: (w, s[:1], BatchOutput(loss_of(w, batch))), np.zeros(2, "float32")),
        r"an optimizer state with float32\[1\] where there was float32\[2\]",
    ),
    "an optimizer state of another structure": (
        with_state(lambda w, s, batch, rng: (w, (s, s), BatchOutput(loss_of(w, batch))), np.zeros(2, "float32")),
        "an optimizer state of another structure",
    ),
    "no spec": (lambda: zero_model(input_spec=None), "one of sample_batch and input_spec"),
    "a spec and a sample": (lambda: zero_model(sample_batch=make_client(3)), "one of sample_batch and input_spec"),
    "a sample of scalars": (
        lambda: zero_model(input_spec=None, sample_batch={"x": np.float32(3)}),
        r"holds arrays \[examples, ...\]",
    ),
    "a spec that forward does not take": (lambda: zero_model(input_spec="<x=float32[?,7],y=int32[?]>"), "dot_general"),
    "a field that is not in the spec": (lambda: zero_model(input_spec="<x=float32[?,5]>"), "no field 'y'"),
    "a sample with numbers for keys": (
        lambda: zero_model(input_spec=None, sample_batch={3: np.zeros(2)}),
        "sample_batch.*has the key 3",
    ),
    "weights of integers": (
        lambda: zero_model(w={"steps": np.int32(3)}),
        "the weight 'steps' has the dtype int32.*non_trainable",
    ),
    "a leaf that is no array": (
        lambda: zero_model(w={"w": np.zeros(2), "activation": jnp.tanh}),
        "the leaf 'activation' of initial_weights is .*equinox.partition",
    ),
    "two leaves of one name": (lambda: zero_model(w={"a/b": 1.0, "a": {"b": 2.0}}), "have the name 'a/b'"),
    "an optimizer and a step": (
        lambda: zero_model(optimizer=optax.sgd(1.0), train_on_batch=momentum_step),
        "an optimizer, or a train_on_batch",
    ),
    "a state without a step": (lambda: zero_model(initial_optimizer_state=lambda w: w), "train_on_batch .* is missing"),
    "no function": (lambda: zero_model(forward=3), "forward is a function"),
    "no optimizer": (lambda: zero_model(optimizer=0.1), "optimizer must be the name of an optimizer"),
    "a list of metrics": (lambda: zero_model(metrics=[len]), "are a mapping such as"),
    "no optimizer at all": (lambda: build_federated_averaging_process(zero_model()), "has no optimizer"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors_say_what_to_write_instead(case):
    build, message = ERRORS[case]
    with pytest.raises((TypeError, ValueError, AttributeError), match=message):
        build()


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ({"x": np.zeros((4, 6), "float32"), "y": np.zeros(4, "int32")}, r"float32\[\?,5\], found float32\[4,6\]"),
        ({"x": np.zeros((4, 5)), "y": np.zeros(4, "int32")}, "found float64"),
        ({"x": np.zeros((4, 5), "float32")}, "y"),
    ],
)
def test_data_of_another_type_than_the_spec_is_refused(batch, message):
    process = build_federated_averaging_process(mlp())
    with pytest.raises((TypeError, ValueError), match=message):
        process.next(process.initialize(), [[batch]])
