"""What the server makes of the clients' updates where numbers are near the end of float32's range, or beyond."""

import jax
import jax.numpy as jnp
import keras
import numpy as np
import optax
import pytest

import hansa
from hansa.learning import BatchOutput, build_federated_averaging_process


def model():
    """One weight, the update of which is what the client's examples say."""

    def forward(weights, batch, training, rng):
        w, statistics = weights
        return BatchOutput(-(w["w"] * batch.step).mean(), None), {"s": statistics["s"] + batch.statistic.mean()}

    return hansa.learning.functional_model(
        {"w": np.float32(0)},
        forward,
        non_trainable={"s": np.float32(0)},
        input_spec="<step=float32[?],statistic=float32[?]>",
        optimizer=optax.sgd(1.0),
    )


def client(step, statistic=0.0, size=1):
    return hansa.Batches({"step": np.full(size, step, "float32"), "statistic": np.full(size, statistic, "float32")}, 10)


def same(a, b):
    return all(np.array_equal(x, y, equal_nan=True) for x, y in zip(*map(jax.tree.leaves, (a, b)), strict=True))


def test_the_mean_of_large_updates_is_their_mean():
    process = build_federated_averaging_process(model())
    steps = np.linspace(1e38, -3e37, 40)
    state, metrics = process.next(process.initialize(), [client(step, -step, 3) for step in steps])
    assert state.model.trainable.w == pytest.approx(steps.mean(), rel=1e-5)
    assert state.model.non_trainable.s == pytest.approx(-steps.mean(), rel=1e-5)
    assert not metrics.model_unchanged


def keeps_the_least():
    """An optimizer whose state begins with an infinity, and may overflow itself where no weight does."""

    def initial(weights):
        return {"least": jnp.float32(jnp.inf), "total": jnp.float32(0)}

    def update(gradients, state, weights):
        least = jnp.minimum(state["least"], gradients["w"])
        return gradients, {"least": least, "total": state["total"] + 1e10 * gradients["w"]}

    return optax.GradientTransformation(initial, update)


OPTIMIZERS = {
    "weights overflow": lambda: optax.sgd(1e10),
    "weights are NaN": lambda: optax.adam(1e-3, eps=0.0),
    "of Keras": lambda: keras.optimizers.SGD(1e10, momentum=0.9),
    "its state overflows": keeps_the_least,
}


@pytest.mark.parametrize("case", OPTIMIZERS)
def test_a_step_to_infinity_or_nan_leaves_the_state_and_is_reported(case):
    process = build_federated_averaging_process(model(), server_optimizer=OPTIMIZERS[case]())
    fresh = process.initialize()
    trained, metrics = process.next(fresh, [client(1e-3)])
    assert not metrics.model_unchanged
    assert trained.optimizer_state[0] == 1
    states, step = ([fresh], 0.0) if case == "weights are NaN" else ([fresh, trained], 1e30)
    for state in states:
        after, metrics = process.next(state, [client(step)])
        assert same(after, state)
        assert metrics.model_unchanged
        assert metrics.num_non_finite_clients == metrics.num_empty_clients == 0
    after, metrics = process.next(after, [client(1e-3)])
    assert not metrics.model_unchanged
