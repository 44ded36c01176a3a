"""Synthetic(α, β): classification data of clients that differ by as much as one says."""

from __future__ import annotations

import numpy as np

from hansa.simulation._values import integer, number
from hansa.simulation.client_data import ClientData

_FEATURES, _CLASSES = 60, 10


def synthetic(alpha: float, beta: float, clients: int = 30, seed: int = 0) -> ClientData:
    """The data Synthetic(α, β) of Li et al., "Federated Optimization in Heterogeneous Networks" (2020,
    arXiv:1812.06127), section 5.1, generated.

    Client k has a linear model of its own, `y = argmax(W_k x + b_k)`, with `W_k` and `b_k` drawn from N(u_k, 1) and
    `u_k` from N(0, α): α is how much the models differ. Its examples are drawn from N(v_k, Σ), where Σ is diagonal with
    `Σ_jj = j^-1.2`, `v_k` from N(B_k, 1) and `B_k` from N(0, β): β is how much the examples differ. As in the authors'
    program, the second parameter of a normal distribution of u_k and B_k is its standard deviation, and the number of
    examples of a client is 50 and a number drawn from a log-normal distribution of mean 4 and standard deviation 2 of
    the logarithm, rounded down. The paper uses (0, 0), (0.5, 0.5) and (1, 1).

    Args:
        alpha: α, 0 or more.
        beta: β, 0 or more.
        clients: how many.
        seed: decides all draws; a client's are the same whatever the number of clients.

    Returns:
        Clients 0, 1, 2… with `x`, float32 `[examples, 60]`, and `y`, int32 `[examples]`, 0..9; in memory.

    Raises:
        TypeError, ValueError: an argument is no number, or is negative, or there are no clients.

    Examples:
        >>> hansa.simulation.synthetic(alpha=0.5, beta=0.5, clients=10)
        ClientData(10 clients, 883 examples, 61 to 120 each: <x=float32[?,60],y=int32[?]>)
    """
    spread = number("alpha", alpha, 0.0, inclusive=True), number("beta", beta, 0.0, inclusive=True)
    seed = integer("seed", seed, 0)
    drawn = {
        client: _client(np.random.default_rng([seed, client]), *spread)
        for client in range(integer("clients", clients, 1))
    }
    return ClientData.from_clients(drawn)


def _client(random: np.random.Generator, alpha: float, beta: float) -> dict[str, np.ndarray]:
    examples = 50 + int(random.lognormal(4, 2))
    model_mean, example_mean = random.normal(0, alpha), random.normal(0, beta)
    weights = random.normal(model_mean, 1, (_FEATURES, _CLASSES))
    bias = random.normal(model_mean, 1, _CLASSES)
    centre = random.normal(example_mean, 1, _FEATURES)
    deviation = np.arange(1, _FEATURES + 1) ** -0.6
    x = random.normal(centre, deviation, (examples, _FEATURES))
    return {"x": x.astype(np.float32), "y": (x @ weights + bias).argmax(axis=1).astype(np.int32)}
