"""Estimators of scikit-learn from sums over the clients, against scikit-learn on the rows of all of them together."""

from __future__ import annotations

import sys

import numpy as np
import pytest

import hansa
from hansa.learning import tabular

datasets = pytest.importorskip("sklearn.datasets")
from sklearn.decomposition import PCA  # noqa: E402
from sklearn.linear_model import LogisticRegression, Ridge  # noqa: E402
from sklearn.naive_bayes import GaussianNB  # noqa: E402
from sklearn.preprocessing import StandardScaler  # noqa: E402

IRIS, CANCER = datasets.load_iris(), datasets.load_breast_cancer()
DIABETES, DIGITS = datasets.load_diabetes(), datasets.load_digits()
FOUR = DIGITS.target < 4


def clients_of(x, y, shares=(0.5, 0.3, 0.19)):
    """Four clients of several sizes, the last with few rows, in a random order."""
    order = np.random.default_rng(0).permutation(len(x))
    parts = np.split(order, np.cumsum([int(share * len(x)) for share in shares]))
    return [hansa.Batches({"x": x[part], "y": y[part]}, 32) for part in parts]


def rounds(process, *cohorts):
    state = process.initialize()
    for cohort in cohorts:
        state, metrics = process.next(state, cohort)
    return state, metrics


def check(found, theirs, *names, rtol=1e-6, atol=0.0):
    for name in names:
        np.testing.assert_allclose(getattr(found, name), getattr(theirs, name), rtol=rtol, atol=atol, err_msg=name)


def test_gaussian_naive_bayes_in_one_round_and_in_two():
    clients = clients_of(IRIS.data, IRIS.target)
    process = tabular.build_gaussian_nb(3, clients[0])
    theirs = GaussianNB().fit(IRIS.data, IRIS.target)
    for cohorts in ([clients], [clients[2:], clients[:2]]):
        state, metrics = rounds(process, *cohorts)
        found = process.to_sklearn(state)
        check(found, theirs, "theta_", "var_", "class_prior_", "class_count_", "classes_", "epsilon_", rtol=1e-10)
        np.testing.assert_allclose(found.predict_proba(IRIS.data), theirs.predict_proba(IRIS.data), rtol=1e-6)
    assert metrics.num_examples == sum(len(part["x"]) for client in clients[:2] for part in client)


@pytest.mark.parametrize("targets", [1, 2])
def test_ridge(targets: int):
    y = DIABETES.target if targets == 1 else np.stack([DIABETES.target, DIABETES.target**2], axis=1)
    process = tabular.build_ridge(clients_of(DIABETES.data, y)[0], alpha=0.3)
    found = process.to_sklearn(rounds(process, clients_of(DIABETES.data, y))[0])
    theirs = Ridge(alpha=0.3).fit(DIABETES.data, y)
    check(found, theirs, "coef_", "intercept_")
    np.testing.assert_allclose(found.predict(DIABETES.data), theirs.predict(DIABETES.data), rtol=1e-6)


@pytest.mark.slow
def test_standard_scaling_also_far_from_zero_and_of_constant_features():
    x = np.concatenate([CANCER.data, CANCER.data[:, :2] * 1e-3 + 1e6, np.full((len(CANCER.data), 1), 0.1)], axis=1)
    clients = clients_of(x, CANCER.target)
    process = tabular.build_standard_scaler(clients[0])
    for cohorts in ([clients], [clients[:3], clients[3:]]):
        found, theirs = process.to_sklearn(rounds(process, *cohorts)[0]), StandardScaler().fit(x)
        check(found, theirs, "mean_", "scale_", "n_samples_seen_")
        np.testing.assert_allclose(found.transform(x), theirs.transform(x), rtol=0, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("data", [CANCER, DIGITS], ids=["cancer", "digits"])
def test_principal_components(data):
    clients = clients_of(data.data, data.target)
    process = tabular.build_pca(5, clients[0], whiten=True)
    found = process.to_sklearn(rounds(process, clients)[0])
    theirs = PCA(5, whiten=True, svd_solver="covariance_eigh").fit(data.data)
    check(found, theirs, "mean_", "explained_variance_", "explained_variance_ratio_", "singular_values_")
    check(found, theirs, "components_", "noise_variance_", atol=1e-6)
    np.testing.assert_allclose(found.transform(data.data), theirs.transform(data.data), rtol=0, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("x", "y", "C"),
    [
        (StandardScaler().fit_transform(CANCER.data), CANCER.target, 1.0),
        (IRIS.data, IRIS.target, 10.0),
        (DIGITS.data[FOUR][:300] / 16, DIGITS.target[FOUR][:300], 0.3),
    ],
    ids=["cancer", "iris", "digits"],
)
def test_logistic_regression(x, y, C: float):
    clients = clients_of(x, y)
    process = tabular.build_logistic_regression(int(y.max()) + 1, clients[0], C=C)
    state, metrics = rounds(process, *[clients] * 12)
    found, theirs = process.to_sklearn(state), LogisticRegression(C=C, solver="newton-cholesky", tol=1e-12).fit(x, y)
    check(found, theirs, "coef_", "intercept_", "classes_", rtol=0, atol=1e-6)
    np.testing.assert_allclose(found.predict_proba(x), theirs.predict_proba(x), rtol=0, atol=1e-6)
    assert metrics.gradient_norm < 1e-8 and metrics.num_examples == len(x)


@pytest.mark.slow
def test_no_step_of_newton_makes_it_worse():
    # One far row of the other class: from zero, Newton's whole steps go back and forth ever further.
    x, y = np.float64([[-1], [-1.1], [-0.9], [-1], [60]]), np.int64([0, 0, 0, 0, 0])
    x, y = np.concatenate([x, -x]), np.concatenate([y, 1 - y])
    clients = [hansa.Batches({"x": x, "y": y}, 4)]
    process = tabular.build_logistic_regression(2, clients[0], C=1e4)
    state, losses = process.initialize(), []
    for _ in range(25):
        state, metrics = process.next(state, clients)
        losses.append(float(metrics.loss))
    assert np.all(np.diff(losses) <= 1e-7)
    theirs = LogisticRegression(C=1e4, solver="lbfgs", tol=1e-12, max_iter=10_000).fit(x, y)
    check(process.to_sklearn(state), theirs, "coef_", rtol=1e-4)


def test_k_means_predicts():
    clients = clients_of(IRIS.data.astype("float32"), IRIS.target)
    process = hansa.analytics.build_k_means(3, clients[0], initial_centroids=IRIS.data[[0, 60, 110]], decay=0)
    state, _ = process.next(process.initialize(), clients)
    found = process.to_sklearn(state)
    nearest = np.square(IRIS.data[:, None] - np.float64(state.centroids)).sum(2).argmin(1)
    np.testing.assert_array_equal(found.predict(IRIS.data), nearest)


@pytest.mark.parametrize("row", [np.nan, np.inf, 1e200], ids=str)
def test_clients_with_numbers_that_do_not_count_are_left_out(row: float, scaler=[]):  # noqa: B006
    clients = clients_of(IRIS.data, IRIS.target)
    if not scaler:
        scaler.append(tabular.build_gaussian_nb(3, clients[0]))
    wrong = IRIS.data[:5].copy()
    wrong[3, 2] = row
    added = hansa.Batches({"x": wrong, "y": IRIS.target[:5]}, 32)
    state, metrics = rounds(scaler[0], [*clients[:2], added])
    expected, _ = rounds(scaler[0], clients[:2])
    assert metrics.num_excluded_clients == 1
    for found, wanted in zip(state, expected, strict=True):
        np.testing.assert_array_equal(found, wanted)
    unknown = hansa.Batches({"x": IRIS.data[:5], "y": np.int64([0, 1, 3, 0, 0])}, 32)
    assert rounds(scaler[0], [unknown])[1].num_excluded_clients == 1


def test_without_scikit_learn_it_is_said_what_to_install(monkeypatch):
    process = tabular.build_ridge({"x": np.zeros((1, 2)), "y": np.zeros(1)})
    state = hansa.Struct.of(counts=np.int64([1]), means=np.zeros((1, 3)), scatter=np.zeros((3, 3)))
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'hansa\[sklearn\]'"):
        process.to_sklearn(state)
    assert process.fitted(state)["coef_"].tolist() == [0.0, 0.0]


@pytest.mark.slow
def test_a_saved_process_computes_the_same(tmp_path):
    clients = clients_of(IRIS.data, IRIS.target)
    process = tabular.build_logistic_regression(3, clients[0])
    hansa.save(process, tmp_path / "logistic.hansa")
    loaded = hansa.load(tmp_path / "logistic.hansa")
    for mine, theirs in zip(rounds(process, clients)[0], rounds(loaded, clients)[0], strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-12)


@pytest.mark.slow
def test_features_of_very_different_sizes_are_learned_by_newtons_method():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 3))
    y = (x[:, 0] + x[:, 1] / 2 + rng.normal(size=60) > 0).astype("int32")
    sizes = np.float64([1e12, 1, 1e-3])
    process = tabular.build_logistic_regression(2, clients_of(x * sizes, y)[0], C=1e4)
    state, _ = rounds(process, *[clients_of(x * sizes, y)] * 10)
    # Of the large feature the penalty is nothing; the others' are what they are for the plain solver.
    plain = LogisticRegression(C=1e4, solver="newton-cholesky", tol=1e-12).fit(x * [1e3, 1, 1e-3], y)
    found = process.to_sklearn(state)
    np.testing.assert_allclose(found.coef_[0] * [1e9, 1, 1], plain.coef_[0], rtol=1e-4)
    np.testing.assert_allclose(found.intercept_, plain.intercept_, rtol=1e-4)


X, Y = np.zeros((1, 2)), np.zeros(1, np.int32)


@pytest.mark.parametrize(
    "process",
    [
        tabular.build_standard_scaler({"x": X}),
        tabular.build_gaussian_nb(2, {"x": X, "y": Y}),
        tabular.build_pca(1, {"x": X}),
        tabular.build_ridge({"x": X, "y": X}),
    ],
    ids=["scaler", "bayes", "pca", "ridge"],
)
def test_of_no_examples_there_is_no_estimator(process):
    counts = np.zeros(process.initialize.type_signature.result.member["counts"].shape, np.int64)
    with pytest.raises(ValueError, match="cannot be made of no examples: the state counts none yet"):
        process.to_sklearn(hansa.Struct.of(counts=counts))


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda: tabular.build_standard_scaler({"z": X}), "no array of features 'x' in a batch"),
        (lambda: tabular.build_standard_scaler({"x": X.astype(complex)}), "features are an array of a float or int"),
        (lambda: tabular.build_gaussian_nb(1, {"x": X, "y": Y}), "num_classes must be an integer of at least 2"),
        (lambda: tabular.build_gaussian_nb(2, {"x": X, "y": X}), "labels are an array of an int dtype"),
        (
            lambda: tabular.build_gaussian_nb(2, {"x": X, "y": np.array(["no"])}),
            r"labels are an array of an int dtype.*found str\[\?\]; number the classes from 0",
        ),
        (lambda: tabular.build_gaussian_nb(2, {"x": X, "y": Y}, priors="ab"), "priors must be 2 numbers"),
        (lambda: tabular.build_gaussian_nb(2, {"x": X, "y": Y[:, None]}), "labels are one integer for each example"),
        (
            lambda: tabular.build_gaussian_nb(2, {"x": X, "y": Y}, priors=[1, 1]),
            "priors must be 2 numbers of the sum 1",
        ),
        (
            lambda: tabular.build_gaussian_nb(2, {"x": X, "y": Y}, var_smoothing=-1),
            "var_smoothing must not be negative",
        ),
        (lambda: tabular.build_pca(3, {"x": X}), "num_components, of 2 features, must be an integer from 1 to 2"),
        (lambda: tabular.build_ridge({"x": X, "y": Y}, alpha=0), "alpha must be a number above 0"),
        (lambda: tabular.build_logistic_regression(2, {"x": X, "y": Y}, C=0), "C must be a number above 0"),
    ],
)
def test_what_cannot_be_is_said(build, said: str):
    with pytest.raises((TypeError, ValueError), match=said):
        build()
