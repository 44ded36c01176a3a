"""The most frequent words of clients, with noise: a tree of prefixes that grows by a character in each round.

Source: Zhu et al. 2020, "Federated heavy hitters discovery with differential privacy", arXiv:1902.08534, with the noise
of a private sum in place of sampling.
"""

from __future__ import annotations

from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np

from hansa.aggregators.checks import check_number, check_whole
from hansa.language import intrinsics as on
from hansa.language.computation import Computation
from hansa.language.private_sums import federated_private_sum
from hansa.language.tracing import federated_computation, jax_computation
from hansa.privacy.mechanisms import Gaussian
from hansa.templates import IterativeProcess
from hansa.types import CLIENTS, SERVER, FederatedType, Struct, StructType, TensorType


def build_private_heavy_hitters(
    length: int, symbols: int, *, most: int, threshold: float, noise_multiplier: float, max_clients: int | None = None
) -> IterativeProcess:
    """A process that finds the most frequent words, one symbol longer in each round.

    In a round each client whose word begins with a prefix that is known counts once, at the prefix and the next symbol.
    Of the noised counts the greatest are kept, those of at least a threshold. After `length` rounds prefixes are words.

    Args:
        length: how many symbols a word has; shorter ones end with a symbol of their own, such as 0.
        symbols: how many there are: a symbol is a number from 0 and below it.
        most: how many prefixes are kept.
        threshold: the least noised count of a prefix that is kept. A few standard deviations of the noise keep out what
            nobody has.
        noise_multiplier: the standard deviation of the noise in each count. One client changes one count by 1.
        max_clients: as of `hansa.federated_private_sum`.

    Returns:
        A process whose `next` takes the state and a word of each client, int32 [length]. The state has `prefixes`,
        int32 [most, length], of which the first `known` symbols are found; `counts`, float32 [most], the noised counts
        of the last round, 0 where there is no prefix; and `known`, int32. The metrics say `num_found`, how many there
        are.

    Raises:
        ValueError: if a number is out of its range.

    Examples:
        >>> process = hansa.analytics.build_private_heavy_hitters(
        ...     2, 3, most=2, threshold=1.5, noise_multiplier=1e-6
        ... )
        >>> words, state = [[1, 2], [1, 2], [1, 2], [0, 1], [1, 0], [1, 0]], process.initialize()
        >>> for round_number in range(2):
        ...     state, metrics = process.next(state, [np.int32(word) for word in words])
        >>> state.prefixes.tolist(), [round(float(count)) for count in state.counts]
        ([[1, 2], [1, 0]], [3, 2])
    """
    name = "build_private_heavy_hitters"
    for what, value in (("length", length), ("symbols", symbols), ("most", most)):
        check_whole(f"the {what} of {name}", value, 1)
    check_number(f"the threshold of {name}", threshold, above=0)
    mechanism, cells = Gaussian(noise_multiplier), TensorType("float32", (most, symbols))
    word = TensorType("int32", (length,))
    kind = StructType(
        [
            ("prefixes", TensorType("int32", (most, length))),
            ("counts", TensorType("float32", (most,))),
            ("known", TensorType("int32")),
        ]
    )

    @jax_computation(kind, word)
    def given(state: Any, word: Any) -> Any:
        found = jnp.arange(length) < state.known
        same = jnp.all((state.prefixes == word) | ~found, axis=1) & (state.counts > 0)
        following = word[jnp.minimum(state.known, length - 1)]
        return (same[:, None] & (jnp.arange(symbols) == following)).astype(np.float32)

    @jax_computation(kind, cells)
    def grown(state: Any, counts: Any) -> Any:
        # What is next to it is known: the noised counts of prefixes that there are.
        flat = jnp.where(state.counts[:, None] > 0, counts, 0).reshape(-1)
        greatest, at = jax.lax.top_k(jnp.where(flat >= threshold, flat, 0), min(most, flat.shape[0]))
        greatest = jnp.pad(greatest, (0, most - greatest.shape[0]))
        at = jnp.pad(at, (0, most - at.shape[0]))
        place = jnp.minimum(state.known, length - 1)
        prefixes = state.prefixes[at // symbols].at[:, place].set((at % symbols).astype(np.int32))
        prefixes = jnp.where((greatest > 0)[:, None], prefixes, 0)
        done = state.known >= length
        after = {"prefixes": prefixes, "counts": greatest, "known": state.known + 1}
        before = {name: state[name] for name in after}
        kept = {each: jnp.where(done, before[each], after[each]) for each in after}
        return {"state": kept, "num_found": jnp.sum(kept["counts"] > 0).astype(np.int32)}

    @federated_computation
    def initialize() -> Any:
        counts = np.zeros(most, np.float32)
        counts[0] = 1.0  # the empty prefix
        first = Struct.of(prefixes=np.zeros((most, length), np.int32), counts=counts, known=np.int32(0))
        return on.federated_value(first, SERVER)

    @federated_computation(FederatedType(kind, SERVER, True), FederatedType(word, CLIENTS))
    def next(state: Any, words: Any) -> Any:
        counted = on.federated_map(given, [on.federated_broadcast(state), words])
        total = federated_private_sum(counted, 1.0, mechanism, max_clients=max_clients)
        done = on.federated_map(grown, [state, total])
        return Struct([("state", done.state), ("metrics", on.federated_zip({"num_found": done.num_found}))])

    return IterativeProcess(cast(Computation, initialize), next)
