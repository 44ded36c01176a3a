"""What results are made of: each is followed back to the aggregates, and to the noise of these."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

import hansa
from hansa.language.flows import flows_of
from hansa.privacy import Gaussian, Local

NOISE = Gaussian(2.0)


@hansa.federated_computation("<kept=float32,bound=float32>@SERVER", "{<x=float32,y=float32>}@CLIENTS")
def several(state, values):
    noised = hansa.federated_private_sum(values.x, 1.0, NOISE)
    mean = hansa.federated_mean(values.y)
    both = hansa.jax_computation(lambda a, b: {"first": a + 1, "mixed": a * b})
    made = hansa.federated_map(both, [noised, mean])
    doubled = hansa.federated_map(hansa.jax_computation(lambda x: 2 * x), values.x)
    return {"state": {"kept": state.kept, "next": made.first}, "mixed": made.mixed, "own": doubled, "noised": noised}


def test_results_are_told_apart_tensor_by_tensor():
    flows = flows_of(several)
    assert flows.paths("private") == ["state.next", "noised"]
    assert flows.paths("released") == ["mixed"]
    assert flows.paths("kept") == ["own"]
    assert flows.paths("public") == ["state.kept"]
    (release,) = flows.releases
    assert release.mechanism == NOISE and release.paths == ("state.next", "mixed", "noised")
    assert [source.node.name for source in flows.bare] == ["federated_mean"]
    with pytest.raises(ValueError, match=r"'several' is not private: mixed is made of federated_mean at .*"):
        hansa.privacy.require_private(several)
    hansa.privacy.require_private(several, open=("mixed",))
    with pytest.raises(ValueError, match="the server sees what each client gives to federated_mean"):
        hansa.privacy.require_protected(several)


def test_an_explanation_says_it():
    explained = hansa.explain(several)
    assert explained.private == ["state.next", "noised"] and explained.released == ["mixed"]
    assert "private      state.next, noised: of the clients only sums with noise: Gaussian noise of 2" in explained
    assert "released     mixed: without noise; nothing is promised for them" in explained
    assert "-> private_sum at the server, protected" in explained
    assert "only the sum is seen, with noise" in explained.svg()
    assert "Released" in explained.svg()


def test_how_many_clients_there_are_is_a_fact_about_them():
    @hansa.federated_computation("{float32}@CLIENTS")
    def number(values):
        one = hansa.federated_map(hansa.jax_computation(lambda x: jnp.int32(1)), values)
        return hansa.federated_sum(one)

    assert flows_of(number).paths("released") == ["the result"]


def test_a_second_stage_that_depends_on_an_aggregate_without_noise_is_no_private_sum():
    @hansa.federated_computation("{float32}@CLIENTS")
    def centred(values):
        mean = hansa.federated_broadcast(hansa.federated_mean(values))
        away = hansa.federated_map(hansa.jax_computation(lambda a, b: a - b), [values, mean])
        return hansa.federated_private_sum(away, 1.0, NOISE)

    with pytest.raises(ValueError, match="federated_mean"):
        hansa.privacy.require_private(centred)


def test_a_second_stage_that_depends_on_a_noised_sum_is_private():
    @hansa.federated_computation("{float32}@CLIENTS")
    def centred(values):
        mean = hansa.federated_broadcast(hansa.federated_private_sum(values, 1.0, NOISE))
        away = hansa.federated_map(hansa.jax_computation(lambda a, b: a - b), [values, mean])
        return hansa.federated_private_sum(away, 1.0, Gaussian(3.0))

    hansa.privacy.require_private(centred)
    assert sorted(release.mechanism.noise_multiplier for release in hansa.privacy.releases(centred)) == [2.0, 3.0]


def test_what_is_made_of_noised_reports_is_private_and_a_collection_of_values_is_not():
    @hansa.federated_computation("{float32}@CLIENTS")
    def local(values):
        return hansa.federated_private_sum(values, 1.0, Local(2.0))

    @hansa.federated_computation("{float32}@CLIENTS")
    def stacked(values):
        return hansa.federated_stack(values)

    hansa.privacy.require_private(local)
    with pytest.raises(ValueError, match="federated_stack"):
        hansa.privacy.require_private(stacked)


def test_without_noise_a_bounded_sum_is_released():
    @hansa.federated_computation("{float32}@CLIENTS")
    def total(values):
        return hansa.federated_private_sum(values, 1.0, None)

    with pytest.raises(ValueError, match="federated_secure_modular_sum"):
        hansa.privacy.require_private(total)


@pytest.mark.parametrize("found", [hansa.jax_computation(lambda x: x, "float32"), 3.0, np.sin])
def test_what_is_no_federated_computation_is_refused(found):
    with pytest.raises(TypeError, match="require_private takes a"):
        hansa.privacy.require_private(found)
