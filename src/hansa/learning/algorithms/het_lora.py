"""HetLoRA: adapters whose rank is each client's own (Cho et al. 2024, arXiv:2401.06432).

The server has factors A and B of the greatest rank. A client of rank r is sent their first r columns and rows, trains
them, and gives them back. The server fills them up with zeros and weighs client k by the Frobenius norm of its product:

    A <- sum_k (|A_k B_k| / Z) A_k,   B <- sum_k (|A_k B_k| / Z) B_k,   Z = sum_k |A_k B_k|.

With several adapters, the norm is that of all products of a client together. Ranks stay as they are: the paper's
pruning of ranks by clients is no part of this.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Unpack

import jax
import jax.numpy as jnp
import numpy as np

from hansa.learning.algorithms.adapted import trained
from hansa.learning.algorithms.arguments import OfProcess
from hansa.learning.arithmetic import difference
from hansa.learning.client_training import local_training
from hansa.learning.finalizers import apply_optimizer
from hansa.learning.model_fn import AnyModel, model_of
from hansa.learning.process import LearningProcess, build_process
from hansa.models._typing import AnyOptimizer
from hansa.models.adapters import Adapter, Adapters
from hansa.models.named_optimizers import LearningRate
from hansa.models.weights import ModelWeights
from hansa.types import Struct, identities
from hansa.types.identities import ClientId


def build_het_lora(
    model_fn: AnyModel,
    *,
    ranks: Sequence[int] | Mapping[ClientId, int],
    scale: float | None = None,
    adapters: Adapters | None = None,
    client_optimizer: AnyOptimizer | None = None,
    client_learning_rate: LearningRate | None = None,
    server_optimizer: AnyOptimizer | None = None,
    server_learning_rate: LearningRate | None = None,
    client_schedule: Callable[[jax.Array], Any] | None = None,
    non_trainable: str = "mean",
    **process: Unpack[OfProcess],
) -> LearningProcess:
    """HetLoRA: each client trains adapters of a rank of its own, and counts by the norm of what it has learned.

    A client of rank r has the first r columns of the first factor and rows of the second; what is beyond is zero for it
    and stays so. In a simulation these zeros are computed with and counted by `explain`: what a device of a small rank
    saves in time and bytes is r over the greatest rank. Clients are weighed by the norm of their products, and not by
    examples. A client whose product is zero, such as one that has learned nothing, has no part in the round.

    Args:
        ranks: the rank of each client by its id, where all others have the greatest; or ranks that are dealt out, such
            as `[2, 4, 8]`: a client has the one at its number (`hansa.federated_client_id`) modulo their count.
        scale: what products are multiplied by, as of `build_fed_ex_lora`; it only matters where it differs between
            adapters.
        adapters: as of `build_ffa_lora`.
        model_fn, client_optimizer, client_learning_rate, server_optimizer, server_learning_rate, client_schedule,
            non_trainable, aggregator, distributor, seed: as of `build_federated_averaging_process`. An optimizer must
            leave a weight at zero that is zero and has no gradient, as those of Keras and Optax do.

    Returns:
        A process with the state of federated averaging, whose model has the greatest rank.

    Raises:
        TypeError, ValueError: if the model has no such adapters, a rank is none of 1 up to theirs, or another argument
            is not what is said above.

    Examples:
        >>> network = keras.Sequential([keras.Input((64,)), keras.layers.Dense(10)])
        >>> network.layers[0].enable_lora(8)
        >>> network.compile("sgd", "mse")
        >>> adapted = hansa.learning.from_compiled_keras_model(network, sample_batch={"x": x, "y": np.eye(10)[y]})
        >>> process = hansa.learning.build_het_lora(adapted, ranks=[2, 8])
        >>> process.settings["algorithm"]
        'HetLoRA'
    """
    model = model_of(model_fn)
    found = trained(model, adapters, scale)
    rank_of = _rank_of(ranks, [_rank(each, model.initial_weights) for each in found])

    def begin(at: Any) -> ModelWeights:
        return _truncated(at.sent.model, found, rank_of(at.client))

    def finish(at: Any, weights: Any, steps: Any, num_examples: Any) -> Any:
        kept = _truncated(weights, found, rank_of(at.client))
        products = [each.product(kept.trainable).astype(jnp.float32) for each in found]
        norm = jnp.sqrt(sum(jnp.sum(product**2) for product in products))
        return difference(kept, at.sent.model), norm, None

    work = local_training(
        client_optimizer=client_optimizer,
        client_learning_rate=client_learning_rate,
        client_schedule=client_schedule,
        begin=begin,
        finish=finish,
        numbered=True,
    )
    finalizer = apply_optimizer(server_optimizer, server_learning_rate, non_trainable)
    return build_process(model, client_work=work, finalizer=finalizer, name="HetLoRA", **process)


def _rank(adapter: Adapter, weights: ModelWeights) -> int:
    return int(weights.trainable[adapter.first].shape[-1])


def _rank_of(given: Any, own: list[int]) -> Callable[[Any], Any]:
    """From the number of a client to its rank."""
    most = max(own)
    if isinstance(given, Mapping):
        ids, ranks = list(given), list(given.values())
    elif isinstance(given, Sequence) and not isinstance(given, str | bytes):
        ids, ranks = [], list(given)
    else:
        raise TypeError(f"ranks are a mapping from ids of clients to ranks, or a list of ranks; found {given!r}")
    for rank in ranks:
        if isinstance(rank, bool) or not isinstance(rank, int | np.integer) or not 1 <= rank <= most:
            raise ValueError(f"a rank is an integer from 1 to {most}, the greatest of the adapters; found {rank!r}")
    if not ranks:
        raise ValueError("ranks has none: give those of clients, or a list such as [2, 4, 8]")
    table = np.array(ranks, np.int32)
    if not ids:
        return lambda client: jnp.asarray(table)[client % len(table)]
    numbers = identities.numbers(ids)
    order = np.argsort(numbers)
    numbers, table = numbers[order], table[order]

    def rank_of(client: Any) -> Any:
        place = jnp.minimum(jnp.searchsorted(jnp.asarray(numbers), client), len(numbers) - 1)
        return jnp.where(jnp.asarray(numbers)[place] == client, jnp.asarray(table)[place], jnp.int32(most))

    return rank_of


def _truncated(weights: Any, adapters: list[Adapter], rank: Any) -> ModelWeights:
    """The weights with zeros in the factors beyond a rank."""
    last = {adapter.first for adapter in adapters}
    first = {adapter.second for adapter in adapters}

    def cut(name: str, leaf: Any) -> Any:
        if name in last:
            return jnp.where(jnp.arange(leaf.shape[-1]) < rank, leaf, jnp.zeros((), leaf.dtype))
        if name in first:
            there = (jnp.arange(leaf.shape[0]) < rank).reshape(-1, *[1] * (leaf.ndim - 1))
            return jnp.where(there, leaf, jnp.zeros((), leaf.dtype))
        return leaf

    trained = Struct([(name, cut(str(name), leaf)) for name, leaf in weights.trainable._items()])
    return ModelWeights.create(trained, weights.non_trainable)
