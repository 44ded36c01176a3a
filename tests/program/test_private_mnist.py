"""Private training of MNIST reaches what a plain loop in JAX with the same mechanism reaches, at the same epsilon."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from hansa.learning import BatchOutput, build_federated_averaging_process, functional_model
from hansa.privacy import Budget, Poisson, calibrate, gaussian
from hansa.program import read_privacy, train, verify_privacy
from hansa.simulation import ClientData, ImageData, partition_iid

pytest.importorskip("dp_accounting", reason="the extra hansa[privacy]")
pytestmark = pytest.mark.whole

CLIENTS, COHORT, ROUNDS, BATCH = 1000, 50, 60, 20
CLIP, RATE, HIDDEN = 0.5, 0.2, 32
DELTA = 1e-5


def pixels(images: Any) -> Any:
    return images.reshape(-1, 784).astype(np.float32) / np.float32(255)


def weights() -> dict[str, Any]:
    draws = np.random.default_rng(3)
    first = draws.normal(0, 1 / 28, (784, HIDDEN)).astype(np.float32)
    second = draws.normal(0, HIDDEN**-0.5, (HIDDEN, 10)).astype(np.float32)
    return {"a": first, "b": np.zeros(HIDDEN, np.float32), "c": second, "d": np.zeros(10, np.float32)}


def logits(w: Any, x: Any) -> Any:
    return jnp.tanh(x @ w["a"] + w["b"]) @ w["c"] + w["d"]


def loss(w: Any, x: Any, y: Any) -> Any:
    return -jnp.take_along_axis(jax.nn.log_softmax(logits(w, x)), y[:, None], 1).mean()


def accuracy(w: Any, mnist: ImageData) -> float:
    found = np.asarray(logits(w, pixels(mnist.test_images))).argmax(1)
    return float((found == mnist.test_labels).mean())


def plain_loop(x: Any, y: Any, client_of: Any, noise_multiplier: float, seed: int) -> Any:
    """DP-FedAvg (McMahan et al. 2018, algorithm 1) with Poisson cohorts, in JAX and NumPy, in float32."""
    # All clients have 60 images: three batches of 20.
    order = np.argsort(client_of, kind="stable")
    xs, ys = x[order].reshape(CLIENTS, -1, BATCH, 784), y[order].reshape(CLIENTS, -1, BATCH)
    flat, unflatten = jax.flatten_util.ravel_pytree(weights())

    @jax.jit
    def clipped(w: Any, cx: Any, cy: Any) -> Any:
        def one(cx: Any, cy: Any) -> Any:
            def step(v: Any, batch: Any) -> Any:
                return v - RATE * jax.grad(lambda u: loss(unflatten(u), *batch))(v), None

            update = jax.lax.scan(step, w, (cx, cy))[0] - w
            return update * jnp.minimum(1, CLIP / jnp.linalg.norm(update))

        return jax.vmap(one)(cx, cy)

    draws = np.random.default_rng(seed)
    for _ in range(ROUNDS):
        cohort = np.flatnonzero(draws.random(CLIENTS) < COHORT / CLIENTS)
        room = np.resize(cohort, 100)  # of one size, so that one program serves all
        total = np.asarray(clipped(flat, xs[room], ys[room]))[: len(cohort)].sum(0, dtype=np.float64)
        noise = draws.normal(0, noise_multiplier * CLIP, total.shape)
        flat = flat + jnp.asarray((total + noise) / COHORT, jnp.float32)
    return unflatten(flat)


@pytest.mark.parametrize("epsilon", [8.0, 2.0])
def test_as_good_as_a_plain_loop(mnist: ImageData, tmp_path: Path, epsilon: float, capsys: Any) -> None:
    noise = calibrate(epsilon, DELTA, ROUNDS, Poisson(COHORT / CLIENTS))
    x = pixels(mnist.train_images)
    y = mnist.train_labels.astype(np.int32)
    client_of = partition_iid(len(y), CLIENTS, seed=1)

    def forward(w: Any, batch: Any, training: bool, rng: Any) -> BatchOutput:
        return BatchOutput(loss(w, batch.x, batch.y), logits(w, batch.x))

    model = functional_model(weights(), forward, input_spec="<x=float32[?,784],y=int32[?]>", optimizer=optax.sgd(RATE))
    process = build_federated_averaging_process(model, aggregator=gaussian(CLIP, noise, COHORT))
    data = ClientData.from_arrays({"x": x, "y": y}, client_of).batch(BATCH)
    budget = Budget(epsilon, DELTA)
    result = train(
        process, data, ROUNDS + 1, cohort_size=COHORT, privacy=budget, run_dir=tmp_path / "run", progress=False
    )
    assert result.rounds == ROUNDS  # the budget is for so many
    assert epsilon * (1 - 1e-4) < result.privacy.epsilon <= epsilon
    assert verify_privacy(tmp_path / "run") == []
    assert read_privacy(tmp_path / "run").guarantee == result.privacy
    trained = result.state.model.to_pytree(weights())
    found = accuracy(trained, mnist)
    plain = [accuracy(plain_loop(x, y, client_of, noise, seed), mnist) for seed in range(3)]
    with capsys.disabled():
        print(f"\nepsilon {epsilon:g}: noise {noise:.4f}; accuracy {found:.4f}; plain loops {plain}")
    # Both are random: by the spread of the plain loops, and half a per cent.
    assert found >= min(plain) - 3 * float(np.std(plain, ddof=1)) - 0.005
    assert math.isfinite(found) and found > 0.6
