"""DP-SGD on one client beside Opacus and jax-privacy: the same small CNN, in turn, in one process on one core.

    pip install . opacus==1.6.0 jax-privacy==2.0.0 torch
    python -m benchmarks.dpsgd

Each trains with SGD on Poisson batches, in which 64 of 2,000 examples are expected, with the clipping norm 1 and noise
of 1.1. What is timed is all of it: drawing, clipping, noise, and the optimizer. The figure is CPU time for each step,
the least of some turns and their median, after each has compiled and warmed up.
"""

from __future__ import annotations

import argparse
import os
import time
import warnings
from collections.abc import Callable
from typing import Any

# Before JAX starts, which has a thread for each core.
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import optax  # noqa: E402
from jax import lax  # noqa: E402

import hansa  # noqa: E402

EXAMPLES, BATCH, CLIP, NOISE, RATE = 2000, 64, 1.0, 1.1, 0.1


def data() -> tuple[Any, Any]:
    """Pictures of noise, float32 [examples, 28, 28, 1], and labels."""
    rng = np.random.default_rng(0)
    return rng.random((EXAMPLES, 28, 28, 1), np.float32), rng.integers(0, 10, EXAMPLES).astype(np.int32)


def first_weights() -> dict[str, Any]:
    """Those of the network of Opacus's example for MNIST: 26,010 numbers."""
    rng = np.random.default_rng(1)
    shapes = {"conv1": (8, 8, 1, 16), "conv2": (4, 4, 16, 32), "dense1": (512, 32), "dense2": (32, 10)}
    found: dict[str, Any] = {}
    for name, shape in shapes.items():
        found[name] = (rng.standard_normal(shape) / np.sqrt(np.prod(shape[:-1]))).astype(np.float32)
        found[f"{name}_bias"] = np.zeros(shape[-1], np.float32)
    return found


def scores(weights: Any, x: Any) -> Any:
    """What the network says of pictures, in JAX."""

    def convolved(x: Any, name: str, padding: Any) -> Any:
        numbers = ("NHWC", "HWIO", "NHWC")
        x = lax.conv_general_dilated(x, weights[name], (2, 2), padding, dimension_numbers=numbers)
        x = jax.nn.relu(x + weights[f"{name}_bias"])
        return lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 1, 1, 1), "VALID")

    x = convolved(convolved(x, "conv1", [(3, 3), (3, 3)]), "conv2", "VALID").reshape(x.shape[0], -1)
    x = jax.nn.relu(x @ weights["dense1"] + weights["dense1_bias"])
    return x @ weights["dense2"] + weights["dense2_bias"]


def of_hansa(steps: int, physical: int) -> Callable[[], Any]:
    """A round with one client."""

    def forward(weights: Any, batch: Any, training: bool, rng: Any) -> Any:
        losses = optax.softmax_cross_entropy_with_integer_labels(scores(weights, batch.x), batch.y)
        return hansa.learning.BatchOutput(loss=losses.mean())

    x, y = data()
    spec = hansa.to_type("<x=float32[?,28,28,1],y=int32[?]>")
    model = hansa.learning.functional_model(first_weights(), forward, input_spec=spec)
    rule = hansa.privacy.dpsgd(
        "sgd", CLIP, NOISE, steps=steps, max_examples=EXAMPLES, batch_size=BATCH, physical_batch_size=physical
    )
    process = hansa.learning.build_federated_averaging_process(model, client_optimizer=rule, client_learning_rate=RATE)
    clients = hansa.ClientBatches({"x": x, "y": y}, [0, EXAMPLES], EXAMPLES)
    state = process.initialize()
    return lambda: jax.block_until_ready(process.next(state, clients)[0].model.trainable)


def of_jax_privacy(steps: int, physical: int | None) -> Callable[[], Any]:
    """Batches padded to a multiple of 8, so that few sizes are compiled, and those before the first turn."""
    import jax_privacy
    from jax_privacy import batch_selection, noise_addition

    x, y = data()

    def loss(weights: Any, x: Any, y: Any) -> Any:
        return optax.softmax_cross_entropy_with_integer_labels(scores(weights, x), y).mean()

    clipped = jax_privacy.clipped_grad(
        loss, l2_clip_norm=CLIP, batch_argnums=(1, 2), normalize_by=BATCH, microbatch_size=physical
    )
    privatizer = noise_addition.gaussian_privatizer(stddev=NOISE * CLIP / BATCH, prng_key=jax.random.key(0))
    optimizer = optax.sgd(RATE)

    @jax.jit
    def step(weights: Any, noise: Any, slots: Any, x: Any, y: Any, padding: Any) -> Any:
        gradient = clipped(weights, x, y, is_padding_example=padding)
        gradient, noise = privatizer.update(gradient, noise)
        updates, slots = optimizer.update(gradient, slots)
        return optax.apply_updates(weights, updates), noise, slots

    weights = jax.tree.map(jnp.asarray, first_weights())
    for size in range(24, 121, 8):
        step(weights, privatizer.init(weights), optimizer.init(weights), x[:size], y[:size], np.zeros(size, bool))
    strategy = batch_selection.CyclicPoissonSampling(sampling_prob=BATCH / EXAMPLES, iterations=steps)
    turns = iter(range(10**6))

    def run() -> Any:
        weights = jax.tree.map(jnp.asarray, first_weights())
        noise, slots = privatizer.init(weights), optimizer.init(weights)
        for chosen in strategy.batch_iterator(EXAMPLES, rng=next(turns)):
            chosen = batch_selection.pad_to_multiple_of(chosen, 8)
            weights, noise, slots = step(weights, noise, slots, x[chosen], y[chosen], chosen < 0)
        return jax.block_until_ready(weights)

    return run


def of_opacus(steps: int) -> Callable[[], Any]:
    """Hooks, which are its fastest way for such a network."""
    import opacus
    import torch
    from torch import nn

    torch.set_num_threads(1)
    x, y = data()
    set_of = torch.utils.data.TensorDataset(
        torch.from_numpy(np.moveaxis(x, -1, 1).copy()), torch.from_numpy(y.astype(np.int64))
    )
    network = nn.Sequential(
        nn.Conv2d(1, 16, 8, 2, padding=3), nn.ReLU(), nn.MaxPool2d(2, 1), nn.Conv2d(16, 32, 4, 2), nn.ReLU(),
        nn.MaxPool2d(2, 1), nn.Flatten(), nn.Linear(512, 32), nn.ReLU(), nn.Linear(32, 10),
    )  # fmt: skip
    private, optimizer, loader = opacus.PrivacyEngine().make_private(
        module=network,
        optimizer=torch.optim.SGD(network.parameters(), RATE),
        data_loader=torch.utils.data.DataLoader(set_of, batch_size=BATCH),
        noise_multiplier=NOISE,
        max_grad_norm=CLIP,
    )

    def run() -> None:
        done = 0
        while True:
            for pictures, labels in loader:
                optimizer.zero_grad()
                nn.functional.cross_entropy(private(pictures), labels).backward()
                optimizer.step()
                done += 1
                if done == steps:
                    return

    return run


def main() -> None:
    """Runs all in turn."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--turns", type=int, default=7)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    runs = {f"hansa, {n} at a time": of_hansa(options.steps, n) for n in (1, 8)}
    runs |= {f"jax-privacy, {n or 'all'} at a time": of_jax_privacy(options.steps, n) for n in (None, 1, 8)}
    runs["opacus"] = of_opacus(options.steps)
    found: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(options.turns + 2):
        for name, run in runs.items():
            begun = time.process_time()
            run()
            if turn >= 2:
                found[name].append((time.process_time() - begun) / options.steps)
    for name, times in found.items():
        print(f"{name:28} {1000 * min(times):7.2f} ms, median {1000 * sorted(times)[len(times) // 2]:7.2f}")


if __name__ == "__main__":
    main()
