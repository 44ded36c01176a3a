"""How exactly sums of metrics are kept at a client."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import keras
import numpy as np
import optax
import pytest

from hansa.learning import BatchOutput, Metric, build_federated_averaging_process, functional_model
from hansa.models import exact
from hansa.types import Struct, to_type
from tests.models.metric_models import batches, jax_model, keras_model, make_client, predicted


def test_words_add_up_exactly():
    rng = np.random.default_rng(0)
    floats = (rng.normal(size=(300, 3)) * 10.0 ** rng.integers(-3, 8, (300, 3))).astype("float32")
    integers = rng.integers(-(2**31), 2**31, (300, 2)).astype("int32")

    @jax.jit
    def add_up(floats, integers):
        def step(state, given):
            return exact.add(state, Struct.of(f=given[0], i=given[1])), None

        return jax.lax.scan(step, exact.zero(to_type("<f=float32[3],i=int32[2]>")), (floats, integers))[0]

    with jax.enable_x64(False):
        total = exact.total(add_up(floats, integers))
    np.testing.assert_array_equal(total.i, integers.astype("int64").sum(0))
    np.testing.assert_allclose(total.f, floats.astype("float64").sum(0), rtol=1e-12)


@pytest.mark.parametrize("count", [1, 7, 70])
@pytest.mark.parametrize("make", [jax_model, keras_model])
def test_counts_of_one_client_go_on_beyond_what_float32_holds(make, count):
    """The local sums of floats begin at 2**24, to which float32 can add no one."""
    ones = Metric(lambda y, p, w: jnp.ones(p.shape[0]), "sum", name="ones")
    model = make(["mae", ones, Metric(keras.metrics.MeanAbsoluteError(), name="keras")])
    start = np.float32(2**24)
    assert start + np.float32(1) == start
    client = make_client(count)

    def raised(path, leaf):
        begins = any(name in str(path) for name in ("high", "sums")) and leaf.dtype == np.float32
        return np.full_like(leaf, start) if begins else leaf

    initial = jax.tree_util.tree_map_with_path(raised, model.initial_local)
    outputs = local_outputs(replace(model, initial_local=initial), batches(client, 1))
    error = np.abs(predicted(client) - client["y"]).sum()
    assert outputs.ones == 2**24 + count
    assert [float(value) for value in outputs.keras] == [pytest.approx(2**24 + error, abs=1e-4), 2**24 + count]
    if make is keras_model:
        compiled = outputs["mean_absolute_error/total"], outputs["mean_absolute_error/count"]
        assert compiled == (pytest.approx(2**24 + error, abs=1e-4), 2**24 + count)


def local_outputs(model, client):
    """What a client reports after its batches."""

    @jax.jit
    def step(local, batch):
        return model.forward(model.initial_weights, local, batch, False, jax.random.key(0)).local

    local = model.initial_local
    for batch in client:
        local = step(local, Struct((name, batch[name]) for name in ("x", "y")))
    return model.local_outputs(local)


def test_a_client_with_many_examples_counts_all_of_them():
    size, rows = 2**24 + 3, 2**17
    ones = np.broadcast_to(np.float32(1), (size, 1))

    def forward(w, batch, training, rng):
        return BatchOutput(w + 0 * batch.x[0, 0], batch.x)

    def count(y, p, weight):
        return jnp.ones(p.shape[0])

    model = functional_model(
        0.0, forward, input_spec="<x=float32[?,1],y=float32[?,1]>", optimizer=optax.sgd(0.0),
        metrics={"floats": Metric(count, "sum"), "bools": Metric(lambda y, p, w: y == 1, "sum")},
    )  # fmt: skip
    process = build_federated_averaging_process(model)
    data = [{"x": ones[i : i + rows], "y": ones[i : i + rows]} for i in range(0, size, rows)]
    found = process.next(process.initialize(), [data]).metrics
    assert (found.floats, found.bools, found.num_examples) == (size, size, size)
    assert found.floats.dtype == np.float64
