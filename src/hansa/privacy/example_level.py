"""Example-level privacy: training on a client whose steps tell hardly more of one example than without it (DP-SGD).

What a rule says is here, and what it promises; `hansa.learning` trains by it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from hansa._checks import check_whole
from hansa.language.computation import Computation
from hansa.privacy import losses
from hansa.privacy.guarantee import Guarantee, checked_delta
from hansa.privacy.requirements import releases
from hansa.privacy.sampled_steps import DPSGD
from hansa.privacy.sampling import USED, Poisson
from hansa.templates import IterativeProcess
from hansa.types.mismatch import describe


def dpsgd(
    optimizer: object,
    clip: float,
    noise_multiplier: float,
    *,
    steps: int,
    max_examples: int,
    batch_size: float | None = None,
    sampling_rate: float | None = None,
    physical_batch_size: int = 1,
    metrics: Literal["none", "open"] = "none",
) -> DPSGD:
    """An optimizer of clients that protects each of their examples: DP-SGD (Abadi et al. 2016, arXiv:1607.00133,
    algorithm 1).

    It is a `client_optimizer` of federated averaging, or of another algorithm that trains on clients. In each step,
    each example of the client is drawn with the same probability, independently of the others. The gradients of those
    drawn are shortened to the norm `clip` and added up. Noise of the standard deviation `noise_multiplier * clip` is
    added, the result is divided by the number of examples that is expected, and the optimizer follows it. So whoever
    sees what a client reports, the server included, learns hardly more of one example than if it had been left out.

    Draws and noise are of a secret of the client, and not of the process's seed. Gradients become integers before they
    are added up, 2**30 steps to the norm, so that the sum is exact and changes by `clip` at most.

    Args:
        optimizer: as `client_optimizer`: a name (with `client_learning_rate`), an Optax or Keras optimizer; None for
            the model's own.
        clip: the Euclidean norm to which the gradient of one example is shortened.
        noise_multiplier: the standard deviation of the noise, in units of `clip`; 0 for none, and then nothing is
            promised. `hansa.privacy.calibrate(epsilon, delta, rounds * steps, hansa.privacy.Poisson(rate))` finds it.
        steps: how many steps a client takes in a round.
        max_examples: for how many examples of a client there is room. Of more, the first ones are used. How the data
            is batched does not matter.
        batch_size: how many examples are expected in a step: each is drawn with the probability batch_size / (number
            of examples), so each client has a guarantee of its own; of fewer examples, all are in each step.
        sampling_rate: the probability instead, the same at all clients, which then have the same guarantee.
        physical_batch_size: how many gradients of examples are computed together. It needs memory for as many gradients
            as this, each as large as the model. On a CPU 1 is mostly fastest; a GPU needs more.
        metrics: "none", or "open" for the metrics of the model that was sent, on the clients' examples and without
            noise; then what is promised of the model is not promised of them.

    Returns:
        The rule, a `DPSGD`. `hansa.privacy.site_guarantee` says what it promises at a client.

    Raises:
        ValueError: if a number is out of its range.

    Examples:
        >>> process = hansa.learning.build_federated_averaging_process(
        ...     model,
        ...     client_optimizer=hansa.privacy.dpsgd(
        ...         "sgd", clip=1.0, noise_multiplier=1.1, steps=5, max_examples=200, batch_size=32
        ...     ),
        ...     client_learning_rate=0.1,
        ... )
        >>> state, metrics = process.next(process.initialize(), data.cohort([0, 1]))
        >>> print(hansa.privacy.site_guarantee(process, num_examples=180, rounds=10, delta=1e-4))
        epsilon 6.494 at delta 0.0001 after 10 rounds: for each example as a whole (...), against the server
    """
    return DPSGD(
        clip,
        noise_multiplier,
        steps,
        max_examples,
        batch_size,
        sampling_rate,
        physical_batch_size,
        metrics,
        optimizer,
    )


def site_guarantee(
    process: IterativeProcess | Computation | DPSGD, *, num_examples: int, rounds: int, delta: float
) -> Guarantee:
    """What DP-SGD promises for the examples of one client: its own epsilon.

    It is that of all steps of the rounds in which the client took part, by privacy loss distributions. The number of
    the client's examples is not protected.

    Args:
        process: a process whose clients train by `hansa.privacy.dpsgd`, or that rule itself.
        num_examples: how many examples the client has.
        rounds: in how many rounds it takes part. A round that is made again with other noise, such as after a run was
            ended by force, counts again.
        delta: at which epsilon is given; far below 1 / num_examples.

    Returns:
        The guarantee, against the server: for one example that is used or left out.

    Raises:
        TypeError, ValueError: if an argument is not what is said above.
        ModuleNotFoundError: without dp-accounting: `pip install 'hansa[privacy]'`.

    Examples:
        >>> rule = hansa.privacy.dpsgd("sgd", 1.0, 1.1, steps=20, max_examples=1000, batch_size=50)
        >>> for number in (1000, 200):
        ...     guarantee = hansa.privacy.site_guarantee(rule, num_examples=number, rounds=10, delta=1e-5)
        ...     print(f"{number:,} examples: epsilon {guarantee.epsilon:.2f}")
        1,000 examples: epsilon 3.96
        200 examples: epsilon 23.64
    """
    rule = process if isinstance(process, DPSGD) else _rule_of(process)
    check_whole("the num_examples of site_guarantee", num_examples, 1)
    check_whole("the rounds of site_guarantee", rounds, 0)
    events: Mapping[losses.Event, int] = {
        (Poisson(rule.rate_of(num_examples)), rule.noise_multiplier): rounds * rule.steps
    }
    delta = checked_delta(delta)
    epsilon = losses.epsilon(events, delta) if rounds else 0.0
    return Guarantee(epsilon, delta, rule.unit, USED, "the server", rounds)


def _rule_of(process: IterativeProcess | Computation) -> DPSGD:
    found = [each.mechanism for each in releases(process)]
    rules = [each for each in found if isinstance(each, DPSGD)]
    if not rules:
        raise ValueError(
            f"the clients of {describe(process)} do not train by hansa.privacy.dpsgd with noise; give "
            "client_optimizer=hansa.privacy.dpsgd(…) where the process is built"
        )
    return rules[0]
