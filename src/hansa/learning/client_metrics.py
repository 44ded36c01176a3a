"""`ClientMetrics`: how the metrics of a model are distributed over clients."""

from __future__ import annotations

import csv
import os
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hansa._directions import less_is_better
from hansa._extras import require
from hansa._files import replacing
from hansa._tracebacks import boundaries
from hansa.learning.distributions import ClientMetric, Distribution, Numbers, known
from hansa.types import Struct
from hansa.types.mismatch import describe
from hansa.types.names import listing, suggestion

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure


@boundaries
@dataclass(frozen=True)
class ClientMetrics:
    """The metrics of each client, as `build_per_client_evaluation` gives them, and statistics of them.

    Clients without examples, and those whose metric is not finite, are in no statistic of it; each says how many they
    are.

    Attributes:
        client_ids: whose the metrics are, in order.
        num_examples: int64 [clients].
        values: the metrics that are numbers, float64 [clients] by name. A field of a struct is called by its path,
            `auc/lower`; metrics that are arrays are not in it.
        lower_is_better: the metrics of which the worst clients are those with the most.
        higher_is_better: those of which the worst clients are those with the least. Of metrics that are in neither,
            nothing says which way is worse.

    Examples:
        >>> metrics = hansa.learning.ClientMetrics(
        ...     client_ids=["ann", "bo", "cy"],
        ...     num_examples=np.array([10, 20, 10]),
        ...     values={"accuracy": np.array([0.5, 0.75, 1.0])},
        ...     lower_is_better=frozenset(),
        ...     higher_is_better=frozenset(["accuracy"]),
        ... )
        >>> metrics.worst("accuracy", 1)
        [ClientMetric(client_id='ann', value=0.5, num_examples=10)]
        >>> metrics.distribution("accuracy").mean
        0.75
        >>> metrics.to_pandas().loc["bo", "accuracy"]
        np.float64(0.75)
        >>> metrics.to_csv("client_metrics.csv")
        >>> figure = metrics.plot("accuracy", "accuracy.png")
    """

    client_ids: Sequence[Hashable]
    num_examples: npt.NDArray[np.int64]
    values: Mapping[str, Numbers]
    lower_is_better: frozenset[str]
    higher_is_better: frozenset[str] = frozenset()

    @classmethod
    def of(
        cls,
        results: Iterable[Struct],
        client_ids: Sequence[Hashable] | None = None,
        lower_is_better: Iterable[str] = (),
        higher_is_better: Iterable[str] = (),
    ) -> ClientMetrics:
        """The metrics that a per-client evaluation has given.

        Args:
            results: what it returned, one struct per client.
            client_ids: whose these are, in the same order, such as `[data.client_ids[i] for i in cohort]`; by default
                the numbers that identify them to the runtime.
            lower_is_better: the metrics of which less is better, beside those whose names say so: losses, errors,
                `mse`, `perplexity`, `kl_divergence` and so on.
            higher_is_better: those of which more is, beside those whose names say so: accuracies, `auc`, `recall`,
                `f1_score` and so on.

        Raises:
            KeyError, TypeError, ValueError: if the results are of something else, their number is another than that of
                the ids, there is no metric of a name, or one is said to be better both ways.

        Examples:
            >>> evaluation = hansa.learning.build_per_client_evaluation(model)
            >>> cohort = data.cohort([0, 1, 2])
            >>> metrics = hansa.learning.ClientMetrics.of(evaluation(state.model, cohort), cohort.client_ids)
            >>> metrics.num_examples
            array([180, 180, 180])
        """
        rows = list(results)
        if not rows:
            raise ValueError("there are no clients in the results: evaluate at least one")
        for row in rows:
            if not isinstance(row, Struct) or row._fields[:3] != ("client_id", "num_examples", "metrics"):
                raise TypeError(
                    "ClientMetrics.of takes what hansa.learning.build_per_client_evaluation(model)(weights, clients) "
                    f"returns, a list of <client_id=…,num_examples=…,metrics=<…>>; found {describe(row)}"
                )
        ids = [int(row.client_id) for row in rows] if client_ids is None else list(client_ids)
        if len(ids) != len(rows):
            raise ValueError(f"there are results of {len(rows)} clients, and {len(ids)} client_ids; pass one for each")
        columns = [dict(_numbers(row.metrics)) for row in rows]
        values = {name: np.array([column[name] for column in columns], np.float64) for name in columns[0]}
        lower, higher = _names(lower_is_better), _names(higher_is_better)
        for name in lower | higher:
            _check(name, values)
        if both := lower & higher:
            raise ValueError(f"{listing(sorted(both))}: given in lower_is_better and in higher_is_better")
        by_name = {name: less_is_better(name) for name in values.keys() - lower - higher}
        counts = np.array([row.num_examples for row in rows], np.int64)
        return cls(
            tuple(ids),
            counts,
            values,
            frozenset(lower | {name for name, less in by_name.items() if less}),
            frozenset(higher | {name for name, less in by_name.items() if less is False}),
        )

    def __len__(self) -> int:
        return len(self.client_ids)

    def distribution(self, name: str) -> Distribution:
        """How a metric is distributed.

        Raises:
            KeyError: if there is no metric of the name.
            ValueError: if no client has examples and a finite value of it.
        """
        used = self._used(name)
        values, counts = self.values[name][used], self.num_examples[used]
        if not len(values):
            raise ValueError(f"no client of {len(self)} has examples and a finite {name!r}: there is no distribution")
        ranked = np.sort(values)
        tenth = max(1, round(len(ranked) / 10))
        return Distribution(
            name=name,
            num_clients=len(self),
            num_empty_clients=int((self.num_examples == 0).sum()),
            num_non_finite_clients=int(((self.num_examples > 0) & ~used).sum()),
            mean=float(values.mean()),
            weighted_mean=float(np.average(values, weights=counts)),
            standard_deviation=float(values.std()),
            deciles=np.quantile(values, np.linspace(0, 1, 11)),
            least_tenth=float(ranked[:tenth].mean()),
            greatest_tenth=float(ranked[-tenth:].mean()),
            lower_is_better=self._less_is_better(name),
        )

    def worst(self, name: str, count: int = 10, *, largest: bool | None = None) -> list[ClientMetric]:
        """The clients with the worst values of a metric, the worst first; of equals, in the cohort's order.

        Args:
            name: the metric.
            count: how many clients, at most.
            largest: whether the largest values are the worst; by default as `lower_is_better` and `higher_is_better`
                say, which know it of metrics by their names.

        Raises:
            KeyError: if there is no metric of the name.
            ValueError: if nothing says which way the metric is worse.
        """
        positions = np.flatnonzero(self._used(name))
        values = self.values[name][positions]
        if largest is None:
            largest = known(name, self._less_is_better(name))
        ranked = positions[np.argsort(-values if largest else values, kind="stable")[: max(count, 0)]]
        return [
            ClientMetric(self.client_ids[i], float(self.values[name][i]), int(self.num_examples[i])) for i in ranked
        ]

    def to_pandas(self) -> pandas.DataFrame:
        """A table with a row per client, by its id, and columns `num_examples` and the metrics.

        Raises:
            ModuleNotFoundError: without pandas: `pip install 'hansa[pandas]'`.
        """
        pandas = require("pandas", "pandas", "ClientMetrics.to_pandas")
        index = pandas.Index(list(self.client_ids), name="client_id", tupleize_cols=False)
        return pandas.DataFrame({"num_examples": self.num_examples, **self.values}, index=index)

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Writes the same table as CSV.

        `hansa.program.write_report` shows it where it is `client_metrics.csv` in a run's folder.
        """
        options: Any = {"newline": "", "encoding": "utf-8", "errors": "backslashreplace"}  # of ids that no file holds
        with replacing(Path(path)) as part, part.open("w", **options) as file:
            writer = csv.writer(file)
            writer.writerow(["client_id", "num_examples", *self.values])
            writer.writerows(zip(self.client_ids, self.num_examples, *self.values.values(), strict=True))

    def plot(self, name: str, path: str | os.PathLike[str] | None = None, *, num_worst: int = 5) -> Figure:
        """Draws how a metric is distributed: how many clients have which value, and the share that has at most it.

        Args:
            name: the metric.
            path: a PNG or another kind of picture that Matplotlib writes; by default none is written.
            num_worst: how many of the worst clients are marked, with their ids.

        Raises:
            KeyError, ValueError: as `distribution` and `worst`.
            ModuleNotFoundError: without Matplotlib: `pip install 'hansa[plots]'`.
        """
        require("matplotlib", "plots", "ClientMetrics.plot")
        from hansa.learning._distribution_plot import draw_distribution

        values = self.values[name][self._used(name)] if name in self.values else np.zeros(0)
        worst = self.worst(name, num_worst) if num_worst else []
        figure = draw_distribution(self.distribution(name), values, worst, name in self.lower_is_better)
        if path is not None:
            figure.savefig(path)
        return figure

    def __str__(self) -> str:
        shown = [str(self.distribution(name)) for name in self.values if self._used(name).any()]
        return "\n".join(shown) or f"the metrics of {len(self)} clients, none of which has a finite one"

    def _used(self, name: str) -> npt.NDArray[np.bool_]:
        """Which clients have examples and a finite value."""
        _check(name, self.values)
        return (self.num_examples > 0) & np.isfinite(self.values[name])

    def _less_is_better(self, name: str) -> bool | None:
        return True if name in self.lower_is_better else False if name in self.higher_is_better else None


def _numbers(metrics: Any, path: str = "") -> Iterable[tuple[str, float]]:
    """The scalars in a struct of metrics, by the path to each."""
    for i, (field, value) in enumerate(metrics._items()):
        name = f"{path}{i if field is None else field}"
        if isinstance(value, Struct):
            yield from _numbers(value, f"{name}/")
        elif np.ndim(value) == 0:
            yield name, float(value)


def _names(given: Iterable[str]) -> set[str]:
    """The names in an argument, which may be one."""
    return {given} if isinstance(given, str) else set(given)


def _check(name: str, values: Mapping[str, Any]) -> None:
    if name not in values:
        known = list(values)
        raise KeyError(f"there is no metric {name!r}{suggestion(name, known) or ';'} there are {listing(known)}")
