"""Attacks, for experiments: some clients report another value than theirs, and a rule takes it in with the others'.

Which clients attack is a function of their ids and of a seed: they are the same in each round and for each rule.
Labels that are wrong are a step of the data: `hansa.simulation.ClientData.flip_labels`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from hansa.aggregators.aggregation import Aggregation
from hansa.aggregators.checks import check_floats, check_number, check_share, check_whole
from hansa.aggregators.factory import Factory, check_factory
from hansa.aggregators.states import nested, parts, state_around, state_within
from hansa.aggregators.sums import mean
from hansa.aggregators.turns import KEY, Turns
from hansa.aggregators.writing import aggregation, counted
from hansa.language import intrinsics as on
from hansa.language.computation import Computation
from hansa.language.tracing import federated_computation, jax_computation
from hansa.templates import MeasuredOutput
from hansa.types import CLIENTS, TensorType, Type, identities

__all__ = ["attackers", "gaussian_noise", "scaled", "sign_flip"]

_ID = TensorType("int32")


def sign_flip(inner: Factory | None = None, *, share: float, seed: int = 0) -> Factory:
    """Attackers report minus their value (Li et al. 2019, arXiv:1811.03761, section 5).

    The attack comes before the rule, and after what a process does with updates before it: FLTrust has scored them by
    then, so for FLTrust let attackers flip labels.

    Args:
        inner: the rule that takes the values, of attackers and others; by default `mean()`. What bounds or compresses
            values at honest clients belongs inside, where attackers pass through it, too.
        share: the probability with which a client is an attacker, above 0, up to 1.
        seed: which clients are; `attackers` tells.

    Returns:
        A rule for values of float dtypes. It measures `num_attackers`, how many clients that are counted attacked, and
        what the inner rule measures.

    Raises:
        TypeError: if `inner` is no rule.
        ValueError: if a number is not what is said above.

    Examples:
        >>> rule = hansa.aggregators.attacks.sign_flip(hansa.aggregators.median(), share=0.3)
        >>> process = hansa.learning.build_federated_averaging_process(model, aggregator=rule)
        >>> state, metrics = process.next(process.initialize(), data.cohort(range(10)))
        >>> attacking = hansa.aggregators.attacks.attackers(range(10), share=0.3)
        >>> int(metrics.aggregator.num_attackers) == len(attacking)
        True
    """
    return _attack("sign_flip", inner, share, seed, lambda value, key: jax.tree.map(jnp.negative, value), {})


def scaled(inner: Factory | None = None, *, share: float, factor: float = -10.0, seed: int = 0) -> Factory:
    """Attackers report their value times a factor (Bagdasaryan et al. 2020, arXiv:1807.00459, equation 3).

    Args:
        factor: any finite number; a negative one leads the model away from where it would go.
        inner, share, seed: as of `sign_flip`.

    Returns:
        A rule as of `sign_flip`.

    Examples:
        >>> rule = hansa.aggregators.attacks.scaled(share=1.0, factor=-10.0)
        >>> aggregation = rule("float32")
        >>> aggregation.next(aggregation.initialize(), [1.0, 3.0], [1.0, 1.0]).result
        np.float32(-20.0)
    """
    check_number("factor of scaled", factor)

    def spoil(value: Any, key: Any) -> Any:
        return jax.tree.map(lambda leaf: (factor * leaf).astype(leaf.dtype), value)

    return _attack("scaled", inner, share, seed, spoil, {"factor": factor})


def gaussian_noise(inner: Factory | None = None, *, share: float, stddev: float, seed: int = 0) -> Factory:
    """Attackers report noise in place of their value (Blanchard et al. 2017, arXiv:1703.02757, section 5).

    Args:
        stddev: the standard deviation of each number of it, above 0. Draws are others in each round.
        inner, share, seed: as of `sign_flip`.

    Returns:
        A rule as of `sign_flip`, whose state counts the rounds.

    Examples:
        >>> rule = hansa.aggregators.attacks.gaussian_noise(hansa.aggregators.krum(1), share=0.2, stddev=200.0)
        >>> print(rule("float32[3]").state_type)
        <rounds=int32>@SERVER
    """
    check_number("stddev of gaussian_noise", stddev, above=0)

    def spoil(value: Any, key: Any) -> Any:
        leaves, tree = jax.tree.flatten(value)
        keys = jax.random.split(jax.random.wrap_key_data(key), max(len(leaves), 1))
        draws = [jax.random.normal(own, leaf.shape) for own, leaf in zip(keys, leaves, strict=False)]
        noise = [(stddev * draw).astype(leaf.dtype) for draw, leaf in zip(draws, leaves, strict=True)]
        return jax.tree.unflatten(tree, noise)

    return _attack("gaussian_noise", inner, share, seed, spoil, {"stddev": stddev}, draws=True)


def attackers(client_ids: Sequence[int | str], *, share: float, seed: int = 0) -> list[int | str]:
    """Those of some clients that attack.

    Args:
        client_ids: the ids of clients, integers or strings.
        share, seed: as of the attack.

    Examples:
        >>> attacking = hansa.aggregators.attacks.attackers(range(1000), share=0.2)
        >>> 150 < len(attacking) < 250
        True
    """
    ids = list(client_ids)
    if not ids:
        return []
    chosen = jax.vmap(_chooses(share, seed))(identities.numbers(ids))
    return [each for each, attacks in zip(ids, np.asarray(chosen), strict=True) if attacks]


def _chooses(share: float, seed: int) -> Callable[[Any], Any]:
    """From a client's number to whether it attacks."""
    check_share("share of attackers", share)
    check_whole("seed", seed, 0)
    root: npt.NDArray[Any] = np.asarray(jax.random.key_data(jax.random.key(seed)))

    def chooses(client: Any) -> Any:
        key = jax.random.fold_in(jax.random.wrap_key_data(jnp.asarray(root)), client.astype(jnp.uint32))
        return jax.random.uniform(key) < share

    return chooses


def _attack(
    name: str,
    inner: Factory | None,
    share: float,
    seed: int,
    spoil: Callable[[Any, Any], Any],
    settings: dict[str, object],
    draws: bool = False,
) -> Factory:
    """A rule whose attackers' values are `spoil(value, key)`; the key is one of each round and client if it draws."""
    inside = mean() if inner is None else check_factory(inner, f"hansa.aggregators.attacks.{name}")
    chooses = _chooses(share, seed)
    turns = Turns(name, seed) if draws else None

    def create(value: Type, weight: Type) -> Aggregation:
        check_floats(name, value)
        within = inside(value, weight)

        @jax_computation(value, weight, TensorType("int32"), _ID, KEY)
        def report(value: Any, weight: Any, one: Any, client: Any, key: Any) -> Any:
            attacks = chooses(client) & (one > 0)
            bad = spoil(value, key)
            return {
                "value": jax.tree.map(lambda good, bad: jnp.where(attacks, bad, good), value, bad),
                "attacks": attacks.astype(jnp.int32),
            }

        @federated_computation
        def initialize() -> Any:
            own = {} if turns is None else {"rounds": turns.first()}
            return state_around(own, inside.name, within.initialize())

        def step(state: Any, values: Any, weights: Any) -> MeasuredOutput:
            of_each = counted(values, weights)
            key = on.federated_value(np.zeros(2, np.uint32), CLIENTS)
            if turns is not None:
                key = on.federated_client_key(turns.key(parts(state).server.rounds))
            done = on.federated_map(report, [values, weights, of_each.one, on.federated_client_id(), key])
            then = within.next(state_within(state, inside.name, within.state_type), done.value, weights)
            own = (
                {}
                if turns is None
                else {"rounds": turns.after(parts(state).server.rounds, on.federated_sum(of_each.one))}
            )
            told = {"num_attackers": on.federated_sum(done.attacks)}
            after = state_around(own, inside.name, then.state)
            return MeasuredOutput(after, then.result, nested(told, inside.name, then.measurements))

        return aggregation(cast(Computation, initialize), step, value, weight)

    return Factory(name, create, {"inner": inside, "share": share, **settings, "seed": seed})
