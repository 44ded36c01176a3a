"""Ways to deal the examples of a data set that has no clients out to simulated ones.

Each gives `client_of`, int64 [examples]: for each example the client that has it, 0 to `clients - 1`. Every example
is given to one client, and the same arguments give the same clients. `ClientData.from_arrays` takes the result, as it
takes any column that says whose an example is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from hansa.simulation._random import generator
from hansa.simulation._values import integer, number
from hansa.types.mismatch import describe

ClientOf = npt.NDArray[np.int64]
_ATTEMPTS = 1000


def partition_iid(examples: int, clients: int, seed: int = 0) -> ClientOf:
    """Deals examples out at random. The sizes of clients differ by at most one.

    Args:
        examples: how many there are.
        clients: how many clients there are, at most as many as examples.
        seed: decides which examples go to whom.

    Returns:
        Each example's client, int64 [examples].

    Raises:
        TypeError, ValueError: if an argument is out of bounds.

    Examples:
        >>> hansa.simulation.partition_iid(examples=6, clients=2)
        array([1, 0, 0, 1, 1, 0])
    """
    total, count = _totals(examples, clients)
    return generator(seed, "partition").permutation(np.arange(count).repeat(_even(total, count)))


def partition_shards(labels: npt.ArrayLike, clients: int, shards_per_client: int = 2, seed: int = 0) -> ClientOf:
    """Sorts the examples by label, cuts them into shards of one size, and deals those out at random.

    With two shards, a client has examples of two labels for the most part. This is the partition of MNIST in
    McMahan et al., "Communication-Efficient Learning of Deep Networks from Decentralized Data" (2017),
    arXiv:1602.05629, section 3.

    Args:
        labels: the examples' labels, integers or strings, [examples].
        clients: how many clients there are.
        shards_per_client: how many shards each gets. Shards differ in size by one example at most.
        seed: decides which shards go to whom, and the order of examples of a label before they are cut.

    Returns:
        Each example's client, int64 [examples].

    Raises:
        TypeError, ValueError: if an argument is out of bounds, or there are more shards than examples.

    Examples:
        >>> client_of = hansa.simulation.partition_shards(y, clients=20)
        >>> clients = hansa.simulation.ClientData.from_arrays({"x": x, "y": y}, client_of)
        >>> np.unique(clients.client(0)["y"])
        array([5, 6], dtype=int32)
    """
    label_of, _ = _labels(labels)
    total, count = _totals(len(label_of), clients)
    shards = count * integer("shards_per_client", shards_per_client, 1)
    if shards > total:
        raise ValueError(f"{clients} clients of {shards_per_client} shards take {shards} examples; there are {total}")
    draws = generator(seed, "partition")
    mixed = draws.permutation(total)
    in_order = mixed[np.argsort(label_of[mixed], kind="stable")]
    owners = draws.permutation(np.arange(count).repeat(shards_per_client))
    client_of = np.empty(total, np.int64)
    client_of[in_order] = owners.repeat(_even(total, shards))
    return client_of


def partition_dirichlet(
    labels: npt.ArrayLike,
    clients: int,
    alpha: float,
    seed: int = 0,
    *,
    min_examples: int = 1,
    equal_sizes: bool = False,
) -> ClientOf:
    """Gives clients different shares of the labels, drawn from a Dirichlet distribution.

    The smaller `alpha`, the fewer labels a client has: 100 is nearly the same for all, 0.1 leaves most with one or two.
    There are two forms in use:

    - By default, the examples of each label are divided among the clients in proportions drawn from Dir(alpha), so that
      sizes differ, too (Yurochkin et al., "Bayesian Nonparametric Federated Learning of Neural Networks" (2019),
      arXiv:1905.12022). All is drawn anew until every client has `min_examples`.
    - With `equal_sizes`, each client draws its proportions of labels from Dir(alpha * p), where p are those of the data
      set, and takes as many examples as any other, without replacement; what has run out is left out of the proportions
      (Hsu, Qi and Brown, "Measuring the Effects of Non-Identical Data Distribution for Federated Visual Classification"
      (2019), arXiv:1909.06335). Its alpha counts for all labels together: with ten labels, ten times as much is as even
      as by default.

    Args:
        labels: the examples' labels, integers or strings, [examples].
        clients: how many clients there are.
        alpha: the concentration, more than 0.
        seed: decides everything.
        min_examples: no client has fewer.
        equal_sizes: all clients have as many examples, or one more.

    Returns:
        Each example's client, int64 [examples].

    Raises:
        TypeError, ValueError: if an argument is out of bounds, or a thousand draws leave some client with fewer than
            `min_examples`.

    Examples:
        >>> client_of = hansa.simulation.partition_dirichlet(y, clients=20, alpha=0.3)
        >>> hansa.simulation.ClientData.from_arrays({"x": x, "y": y}, client_of)
        ClientData(20 clients, 1797 examples, 28 to 187 each: <x=float32[?,64],y=int32[?]>)
    """
    label_of, distinct = _labels(labels)
    total, count = _totals(len(label_of), clients)
    number("alpha", alpha, 0)
    _least(total, count, min_examples)
    draws = generator(seed, "partition")
    available = np.bincount(label_of, minlength=distinct)
    if equal_sizes:
        return _given(label_of, _mixtures(available, count, alpha, draws), draws)
    fewest = 0
    for _ in range(_ATTEMPTS):
        # The bounds between clients, rounded, so that the shares of a label add up to its examples.
        bounds = np.cumsum(draws.dirichlet(np.full(count, alpha), distinct), axis=1)
        bounds = np.rint(bounds / bounds[:, -1:] * available[:, None])
        counts = np.diff(bounds, axis=1, prepend=0).T.astype(np.int64)
        if counts.sum(1).min() >= min_examples:
            return _given(label_of, counts, draws)
        fewest = max(fewest, int(counts.sum(1).min()))
    raise ValueError(
        f"in {_ATTEMPTS} draws, the smallest of the {count} clients had {fewest} examples at best, not "
        f"min_examples={min_examples}; choose a larger alpha than {alpha}, fewer clients, a smaller min_examples or "
        "equal_sizes=True"
    )


def partition_by_quantity(
    examples: int,
    clients: int,
    *,
    alpha: float | None = None,
    sigma: float | None = None,
    min_examples: int = 1,
    seed: int = 0,
) -> ClientOf:
    """Gives clients different numbers of examples, each a random choice from all.

    Beyond `min_examples` each, examples are divided in proportions that are drawn from Dir(alpha), or that are the
    exponentials of normal draws with standard deviation `sigma` (a log-normal distribution).

    Args:
        examples: how many there are.
        clients: how many clients there are.
        alpha: the concentration of the Dirichlet distribution: the smaller, the more sizes differ.
        sigma: the standard deviation of the logarithm of a size: 0 gives equal sizes. Either this or `alpha`.
        min_examples: no client has fewer.
        seed: decides everything.

    Returns:
        Each example's client, int64 [examples].

    Raises:
        TypeError, ValueError: if an argument is out of bounds, or not one of `alpha` and `sigma` is given.

    Examples:
        >>> client_of = hansa.simulation.partition_by_quantity(len(y), clients=5, alpha=1.0)
        >>> np.bincount(client_of)
        array([499,  95, 536, 422, 245])
    """
    total, count = _totals(examples, clients)
    _least(total, count, min_examples)
    draws = generator(seed, "partition")
    if (alpha is None) == (sigma is None):
        raise ValueError(
            f"give alpha, for sizes from a Dirichlet distribution, or sigma, for log-normal ones; found "
            f"alpha={alpha!r} and sigma={sigma!r}"
        )
    if alpha is not None:
        shares = draws.dirichlet(np.full(count, number("alpha", alpha, 0)))
    else:
        shares = np.exp(number("sigma", sigma, 0, inclusive=True) * draws.standard_normal(count))
    bounds = np.cumsum(shares)
    rest = np.diff(np.rint(bounds / bounds[-1] * (total - count * min_examples)).astype(np.int64), prepend=0)
    return draws.permutation(np.arange(count).repeat(min_examples + rest))


def partition_by_label(
    labels: npt.ArrayLike, labels_per_client: int = 1, clients: int | None = None, seed: int = 0
) -> ClientOf:
    """Gives each client the examples of one label, or of a few.

    Client `c` has the labels of index `c + floor(j * L / k)` modulo `L`, for j = 0 to k - 1, where L is the number of
    labels, in ascending order, and k is `labels_per_client`. So with the defaults client 0 has the first label, client
    1 the second, and so on. The clients that have a label share its examples, as many for each, or one more.

    Args:
        labels: the examples' labels, integers or strings, [examples].
        labels_per_client: how many labels each client has.
        clients: how many clients there are; by default as many as labels.
        seed: decides how clients share a label.

    Returns:
        Each example's client, int64 [examples].

    Raises:
        TypeError, ValueError: if an argument is out of bounds, or some label would be nobody's.

    Examples:
        >>> client_of = hansa.simulation.partition_by_label(y)
        >>> np.unique(y[client_of == 3])
        array([3], dtype=int32)
    """
    label_of, distinct = _labels(labels)
    _, count = _totals(len(label_of), distinct if clients is None else clients)
    each = integer("labels_per_client", labels_per_client, 1)
    if each > distinct:
        raise ValueError(f"labels_per_client must be at most the number of labels, {distinct}; found {each}")
    if count * each < distinct:
        raise ValueError(
            f"{count} clients of {each} labels have {count * each} of the {distinct} labels; choose more clients or a "
            "larger labels_per_client"
        )
    draws = generator(seed, "partition")
    has = (np.arange(count)[:, None] + np.arange(each) * distinct // each) % distinct
    counts = np.zeros((count, distinct), np.int64)
    for label, available in enumerate(np.bincount(label_of, minlength=distinct).tolist()):
        sharing = np.flatnonzero((has == label).any(1))
        counts[sharing, label] = _even(available, len(sharing))
    return _given(label_of, counts, draws)


def _labels(labels: Any) -> tuple[npt.NDArray[np.int64], int]:
    """For each example the index of its label, and how many labels there are."""
    if isinstance(labels, Mapping) or hasattr(labels, "client_ids"):
        raise TypeError(
            f"labels must be one per example, an array [examples]; found {describe(labels)}; pass "
            'the labels alone, such as arrays["y"]'
        )
    found = np.asarray(labels)
    if np.ma.is_masked(labels) or (found.dtype.kind == "U" and not all(isinstance(label, str) for label in labels)):
        raise TypeError("labels must be all integers or all strings, and none missing; found a mixture")
    if found.ndim != 1:
        raise ValueError(
            f"labels must be one per example, an array [examples]; found {describe(found)}"
            + ("; write labels.ravel()" if found.size == len(found) and found.ndim > 1 else "")
        )
    if found.dtype.kind not in "biuUT":
        raise TypeError(f"labels must be integers or strings; found {describe(found)}; number the classes, for a start")
    if not found.size:
        raise ValueError("labels is empty; there are no examples to deal out")
    values, index = np.unique(found, return_inverse=True)
    return index.astype(np.int64), len(values)


def _totals(examples: Any, clients: Any) -> tuple[int, int]:
    if hasattr(examples, "__len__"):
        raise TypeError(f"examples must be their number; found {describe(examples)}; write len(labels)")
    total, count = integer("examples", examples, 1), integer("clients", clients, 1)
    if count > total:
        raise ValueError(f"clients must be at most the number of examples, {total}; found {count}")
    return total, count


def _least(examples: int, clients: int, min_examples: Any) -> None:
    if clients * integer("min_examples", min_examples, 0) > examples:
        raise ValueError(
            f"{clients} clients of at least {min_examples} examples have {clients * min_examples}; there are {examples}"
        )


def _even(total: int, parts: int) -> npt.NDArray[np.int64]:
    """Sizes of parts that differ by one at most, the larger ones first."""
    return np.full(parts, total // parts) + (np.arange(parts) < total % parts)


def _mixtures(
    available: npt.NDArray[np.int64], clients: int, alpha: float, draws: np.random.Generator
) -> npt.NDArray[np.int64]:
    """How many examples of each label each client has, in equal sizes; int64 [clients, labels]."""
    left = available.copy()
    counts = np.zeros((clients, len(available)), np.int64)
    for client, size in enumerate(_even(int(available.sum()), clients).tolist()):
        mixture = draws.dirichlet(alpha * available / available.sum())
        while (missing := size - int(counts[client].sum())) > 0:
            shares = np.where(left > 0, mixture, 0.0)
            if not shares.sum() > 0:
                shares = left / left.sum()
            taken = np.minimum(draws.multinomial(missing, shares / shares.sum()), left)
            counts[client] += taken
            left -= taken
    return counts


def _given(label_of: npt.NDArray[np.int64], counts: npt.NDArray[np.int64], draws: np.random.Generator) -> ClientOf:
    """Gives each client as many random examples of each label as `counts`, int64 [clients, labels], says."""
    client_of = np.empty(len(label_of), np.int64)
    for label, shares in enumerate(counts.T):
        client_of[draws.permutation(np.flatnonzero(label_of == label))] = np.arange(len(counts)).repeat(shares)
    return client_of
