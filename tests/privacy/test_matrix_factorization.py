"""Noise that is correlated over rounds: against dense matrices, and figures of the literature's mechanisms."""

from __future__ import annotations

import numpy as np
import pytest

import hansa.privacy as privacy
from hansa.privacy import matrix_factorization as matrices


def dense(coefficients, rounds):
    padded = np.pad(coefficients, (0, max(0, rounds - len(coefficients))))
    return sum(np.diag(np.full(rounds - k, padded[k]), -k) for k in range(rounds))


@pytest.mark.parametrize("power", [0.5, 0.8])
def test_coefficients_sensitivity_and_error_are_those_of_dense_matrices(power):
    inverse = matrices.inverse_coefficients(16, power)
    c_inverse = dense(inverse, 64)
    c = np.linalg.inv(c_inverse)
    np.testing.assert_allclose(dense(matrices.strategy(inverse, 64), 64), c, atol=1e-12)
    # Every way to take part, 16 rounds or more apart, up to three times, and the earliest four times.
    columns = [c[:, list(range(first, 64, 16))].sum(1) for first in range(16)]
    columns += [c[:, [a, a + gap]].sum(1) for a in range(30) for gap in range(16, 34)]
    largest = max(np.linalg.norm(column) for column in columns)
    assert matrices.sensitivity(matrices.strategy(inverse, 64), 16) == pytest.approx(largest)
    errors = np.linalg.norm(np.tri(64) @ c_inverse, axis=1)
    expected = np.sqrt(np.mean(errors**2)) * largest
    assert matrices.error(inverse, 64, 16) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("rounds", "separation", "figures"),
    [
        (1024, 128, {2: (37.076, 13.691, 0.95), 4: (25.765, 13.308, 0.9), 16: (14.423, 11.267, 0.7)}),
        (1024, 128, {8: (18.918, 12.271, 0.8), 32: (11.666, 10.606, 0.6), 64: (10.613, 10.585, 0.55)}),
        (2052, 342, {8: (22.852, 12.721, 0.85), 16: (17.083, 11.471, 0.75), 32: (13.139, 10.342, 0.65)}),
        (2052, 342, {2: (45.376, 14.809, 0.95), 4: (31.409, 13.671, 0.9), 64: (10.590, 9.488, 0.6)}),
    ],
)
def test_the_error_of_few_terms_is_far_below_that_of_independent_noise(rounds, separation, figures):
    independent = np.sqrt((rounds + 1) / 2 * -(-rounds // separation))
    assert matrices.error(np.ones(1), rounds, separation) == pytest.approx(independent)
    for terms, (root, tuned, power) in figures.items():
        assert matrices.error(matrices.inverse_coefficients(terms, 0.5), rounds, separation) == pytest.approx(
            root, abs=6e-4
        )
        assert matrices.best_power(terms, rounds, separation) == pytest.approx(power)
        best = matrices.error(matrices.inverse_coefficients(terms, power), rounds, separation)
        assert best == pytest.approx(tuned, abs=6e-4)


@pytest.mark.parametrize(
    ("rounds", "largest", "mean"), [(128, 2.6101, 2.4488), (1024, 3.2726, 3.1098), (2048, 3.4932, 3.3305)]
)
def test_one_participation_and_all_terms_of_the_square_root(rounds, largest, mean):
    inverse = matrices.inverse_coefficients(rounds, 0.5)
    sensitivity = matrices.sensitivity(matrices.strategy(inverse, rounds), rounds)
    errors = np.sqrt(np.cumsum(np.cumsum(inverse) ** 2)) * sensitivity
    assert errors[-1] == pytest.approx(largest, abs=6e-5)
    assert errors[-1] <= 1 + (np.log(rounds) + np.euler_gamma) / np.pi
    assert matrices.error(inverse, rounds, rounds) == pytest.approx(mean, abs=6e-5)


def test_a_mechanism_weighs_draws_by_the_coefficients_and_its_sensitivity():
    mechanism = privacy.Matrix(2.0, terms=4, power=0.5, separation=8, rounds=32)
    np.testing.assert_allclose(
        mechanism.weights, 2.0 * mechanism.sensitivity * np.array([1.0, -1 / 2, -1 / 8, -1 / 16]), rtol=1e-12
    )
    assert privacy.Matrix(2.0, terms=1, power=0.5, separation=32, rounds=32).weights == (2.0,)
    assert mechanism == privacy.Matrix(2.0, terms=4, power=0.5, separation=8, rounds=32)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: privacy.Gaussian(0.0), "noise_multiplier of Gaussian must be a positive number"),
        (lambda: privacy.Gaussian(True), "noise_multiplier of Gaussian"),
        (lambda: privacy.Local(float("inf")), "noise_multiplier of Local"),
        (lambda: privacy.Skellam(1.0, min_cohort=0), "min_cohort of Skellam"),
        (lambda: privacy.Skellam(1.0, min_cohort=2, corrupt=0.6), "leave one honest client"),
        (lambda: privacy.Matrix(1.0, terms=0, power=0.5, separation=1, rounds=1), "terms of Matrix"),
        (lambda: privacy.Matrix(1.0, terms=2, power=1.0, separation=1, rounds=1), "power of Matrix"),
    ],
)
def test_what_is_out_of_range_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_shares_of_skellam_noise_make_enough_of_it_with_the_fewest_clients():
    mechanism = privacy.Skellam(1.5, min_cohort=50, corrupt=0.1)
    assert mechanism.honest == 45
    assert mechanism.share * np.sqrt(45) == pytest.approx(1.5)
    assert privacy.joint_noise_multiplier([mechanism.noise_multiplier]) == pytest.approx(1.5)
