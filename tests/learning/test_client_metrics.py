"""The distribution of metrics over clients, against NumPy."""

import sys

import matplotlib.image
import numpy as np
import pytest

from hansa.learning import ClientMetrics
from hansa.types import Struct


def results(accuracy, loss, sizes):
    rows = zip(accuracy, loss, sizes, strict=True)
    return [
        Struct.of(
            client_id=np.int32(i),
            num_examples=np.int64(size),
            metrics=Struct.of(accuracy=np.float32(a), loss=np.float32(b), matrix=np.zeros((2, 2))),
        )
        for i, (a, b, size) in enumerate(rows)
    ]


@pytest.fixture(scope="module")
def made():
    """1,000 clients, some of them empty and some not finite, and the arrays they are made of."""
    rng = np.random.default_rng(0)
    accuracy, loss = rng.beta(8, 2, 1000).astype("float32"), rng.gamma(2, 0.3, 1000).astype("float32")
    sizes = rng.integers(0, 50, 1000)
    loss[[3, 17]], accuracy[5] = np.nan, np.inf
    sizes[[3, 5, 17]] = 7
    ids = [f"writer-{i:04d}" for i in range(1000)]
    return ClientMetrics.of(results(accuracy, loss, sizes), ids), accuracy, loss, sizes


@pytest.mark.parametrize("name", ["accuracy", "loss"])
def test_statistics_are_numpys_over_clients_that_count(made, name):
    metrics, accuracy, loss, sizes = made
    values = {"accuracy": accuracy, "loss": loss}[name].astype("float64")
    used = (sizes > 0) & np.isfinite(values)
    kept, weights = values[used], sizes[used]
    found = metrics.distribution(name)
    assert found.num_clients == len(metrics) == 1000
    assert found.num_empty_clients == (sizes == 0).sum()
    assert found.num_non_finite_clients == {"accuracy": 1, "loss": 2}[name]
    assert found.mean == pytest.approx(kept.mean())
    assert found.weighted_mean == pytest.approx((kept * weights).sum() / weights.sum())
    assert found.standard_deviation == pytest.approx(np.sqrt(((kept - kept.mean()) ** 2).mean()))
    assert found.variance == pytest.approx(kept.var())
    assert found.median == pytest.approx(np.median(kept))
    np.testing.assert_allclose(found.deciles, np.percentile(kept, range(0, 101, 10)))
    ranked = np.sort(kept) if name == "accuracy" else np.sort(kept)[::-1]
    tenth = round(len(kept) / 10)
    assert found.worst_tenth == pytest.approx(ranked[:tenth].mean())
    assert found.best_tenth == pytest.approx(ranked[-tenth:].mean())
    assert f"{(sizes == 0).sum()} empty left out" in str(found)


def test_the_worst_clients_come_first_with_their_ids(made):
    metrics, accuracy, loss, sizes = made
    used = sizes > 0
    order = [i for i in np.argsort(accuracy, kind="stable") if used[i] and np.isfinite(accuracy[i])]
    assert [one.client_id for one in metrics.worst("accuracy", 3)] == [f"writer-{i:04d}" for i in order[:3]]
    order = [i for i in np.argsort(-loss, kind="stable") if used[i] and np.isfinite(loss[i])]
    worst = metrics.worst("loss")
    assert [one.value for one in worst] == [float(loss[i]) for i in order[:10]]
    assert [one.num_examples for one in worst] == [sizes[i] for i in order[:10]]
    assert metrics.worst("loss", 0) == []


def test_equals_are_in_the_order_of_the_cohort_and_less_may_be_better():
    rows = results([0.5, 0.5, 0.9, 0.5], [0] * 4, [1] * 4)
    assert [one.client_id for one in ClientMetrics.of(rows).worst("accuracy", 3)] == [0, 1, 3]
    less = ClientMetrics.of(rows, lower_is_better=["accuracy"])
    assert [one.client_id for one in less.worst("accuracy", 2)] == [2, 0]
    assert less.lower_is_better == {"accuracy", "loss"}


def test_the_worst_of_a_metric_is_asked_for_where_its_name_does_not_say():
    rows = [
        Struct.of(
            client_id=np.int32(i),
            num_examples=np.int64(1),
            metrics=Struct.of(mse=np.float32(x), perplexity=np.float32(-x), top_2=np.float32(x), depth=np.float32(x)),
        )
        for i, x in enumerate([2.0, 3.0, 1.0])
    ]
    metrics = ClientMetrics.of(rows)
    worst = {name: metrics.worst(name, 1)[0].client_id for name in ("mse", "perplexity", "top_2")}
    assert worst == {"mse": 1, "perplexity": 2, "top_2": 2}
    found = metrics.distribution("depth")
    assert (found.least_tenth, found.greatest_tenth, found.lower_is_better) == (1, 3, None)
    assert "least tenth 1, greatest tenth 3" in str(found)
    asked = r"more or less of 'depth' is worse: .*lower_is_better=\['depth'\].*higher_is_better.*largest=True"
    for ask in (
        lambda: metrics.worst("depth"),
        lambda: found.worst_tenth,
        lambda: found.best_tenth,
        lambda: metrics.plot("depth"),
    ):
        with pytest.raises(ValueError, match=asked):
            ask()
    assert [one.client_id for one in metrics.worst("depth", largest=True)] == [1, 0, 2]
    assert [one.client_id for one in metrics.worst("mse", largest=False)] == [2, 0, 1]
    assert "worst tenth" not in str(metrics).split("\n")[-1]
    told = ClientMetrics.of(rows, higher_is_better=["depth", "mse"], lower_is_better="top_2")
    assert {name: told.worst(name, 1)[0].client_id for name in ("depth", "mse", "top_2")} == {
        "depth": 2,
        "mse": 2,
        "top_2": 1,
    }
    assert told.distribution("depth").worst_tenth == 1
    with pytest.raises(ValueError, match="depth: given in lower_is_better and in higher_is_better"):
        ClientMetrics.of(rows, lower_is_better=["depth"], higher_is_better=["depth"])


def test_numbers_in_structs_are_called_by_their_path_and_arrays_are_left_to_the_results(made):
    assert list(made[0].values) == ["accuracy", "loss"]
    row = Struct.of(client_id=0, num_examples=3, metrics=Struct.of(auc=Struct.of(low=np.float32(1), high=2.0)))
    assert list(ClientMetrics.of([row]).values) == ["auc/low", "auc/high"]
    assert not ClientMetrics.of([row]).lower_is_better


def test_a_table(made):
    pytest.importorskip("pandas")
    metrics, accuracy, _, sizes = made
    table = metrics.to_pandas()
    assert table.index.name == "client_id"
    assert list(table.columns) == ["num_examples", "accuracy", "loss"]
    np.testing.assert_array_equal(table["num_examples"], sizes)
    assert table.loc["writer-0042", "accuracy"] == accuracy[42]


def test_a_missing_extra_is_named(made, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match=r"pip install 'hansa\[pandas\]'"):
        made[0].to_pandas()
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'hansa\[plots\]'"):
        made[0].plot("loss")


def test_the_picture_has_every_client_that_counts_and_marks_the_worst(made, tmp_path):
    metrics = made[0]
    figure = metrics.plot("loss", tmp_path / "loss.png", num_worst=4)
    assert matplotlib.image.imread(tmp_path / "loss.png").shape == (784, 1920, 4)
    counts, shares = figure.axes
    used = int(((metrics.num_examples > 0) & np.isfinite(metrics.values["loss"])).sum())
    clients, worst = (sum(bar.get_height() for bar in bars) for bars in counts.containers)
    assert (clients, worst) == (used, 4)
    steps, marks = shares.lines
    assert steps.get_ydata()[-1] == 1
    marked = metrics.worst("loss", 4)
    assert list(marks.get_xdata()) == [one.value for one in marked]
    np.testing.assert_allclose(marks.get_ydata(), [1 - rank / used for rank in range(4)])
    assert all(one.client_id in shares.texts[-1].get_text() for one in marked)


def test_a_picture_of_one_client():
    figure = ClientMetrics.of(results([0.5], [1.0], [3])).plot("accuracy")
    assert sum(bar.get_height() for bar in figure.axes[0].containers[0]) == 1


def test_errors_say_what_to_write():
    rows = results([0.5], [1.0], [3])
    metrics = ClientMetrics.of(rows)
    with pytest.raises(KeyError, match="no metric 'acuracy'; did you mean 'accuracy'"):
        metrics.distribution("acuracy")
    with pytest.raises(KeyError, match="no metric 'los'; did you mean 'loss'"):
        ClientMetrics.of(rows, lower_is_better=["los"])
    with pytest.raises(ValueError, match="results of 1 clients, and 2 client_ids"):
        ClientMetrics.of(rows, [1, 2])
    with pytest.raises(TypeError, match="build_per_client_evaluation"):
        ClientMetrics.of([Struct.of(loss=1.0)])
    with pytest.raises(ValueError, match="no clients in the results"):
        ClientMetrics.of([])
    with pytest.raises(ValueError, match="no client of 1 has examples"):
        ClientMetrics.of(results([0.5], [np.nan], [3])).plot("loss")
