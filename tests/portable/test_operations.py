"""What JAX's export writes may be in a file; what talks to others, calls itself or has no end of size may not."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import hansa
from hansa.portable import process
from tests.portable.forging import MATRIX, changed, doubled, exported, forge, looked_at, tried

RNG = np.random.default_rng(5)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "doubled.hansa"
    hansa.save(doubled, path, platforms=("cpu",))
    return path


def module(body: str, more: str = "") -> str:
    """A module whose function gives `%r`, for one that takes a matrix."""
    kind = "tensor<4x4xf32>"
    return f"module {{ func.func public @main(%x: {kind}) -> {kind} {{ {body} return %r : {kind} }} {more} }}"


T = "tensor<4x4xf32>"
TWO = "^bb0(%a: tensor<f32>, %b: tensor<f32>):"
REGION = f"({{ {TWO} %s = stablehlo.add %a, %b : tensor<f32> stablehlo.return %s : tensor<f32> }})"
REFUSED = {
    "stablehlo.create_token": (
        '%t = "stablehlo.create_token"() : () -> !stablehlo.token '
        f'%r, %u = "stablehlo.infeed"(%t) <{{infeed_config = ""}}> : (!stablehlo.token) -> ({T}, !stablehlo.token)'
    ),
    "stablehlo.all_reduce": (
        f'%r = "stablehlo.all_reduce"(%x) <{{channel_handle = #stablehlo.channel_handle<handle = 1, type = 1>, '
        f"replica_groups = dense<[[0, 1]]> : tensor<1x2xi64>, use_global_device_ids}}> {REGION} : ({T}) -> {T}"
    ),
    "stablehlo.collective_permute": (
        f'%r = "stablehlo.collective_permute"(%x) <{{source_target_pairs = dense<[[0, 1]]> : tensor<1x2xi64>}}> '
        f": ({T}) -> {T}"
    ),
    "stablehlo.partition_id": f"%p = stablehlo.partition_id : tensor<ui32> %r = stablehlo.add %x, %x : {T}",
    "stablehlo.set_dimension_size": (
        "%n = stablehlo.constant dense<2> : tensor<i32> "
        f"%r = stablehlo.set_dimension_size %x, %n, dim = 0 : ({T}, tensor<i32>) -> {T}"
    ),
    "stablehlo.sort that is not stable": (
        f'%r = "stablehlo.sort"(%x) <{{dimension = 0 : i64, is_stable = false}}> ({{ {TWO} '
        "%s = stablehlo.compare NE, %a, %b : (tensor<f32>, tensor<f32>) -> tensor<i1> stablehlo.return %s : tensor<i1> "
        f"}}) : ({T}) -> {T}"
    ),
    "stablehlo.composite of 'my.kernel'": (
        f'%r = stablehlo.composite "my.kernel" %x {{decomposition = @other}} : ({T}) -> {T}'
    ),
    "attribute '_xla_compute_type'": f'%r = stablehlo.add %x, %x {{_xla_compute_type = "host"}} : {T}',
    "attribute 'mhlo.sharding'": f'%r = stablehlo.add %x, %x {{mhlo.sharding = "{{devices=[2,1]<=[2]}}"}} : {T}',
    "more than a terabyte": (
        "%y = stablehlo.constant dense<0.0> : tensor<f32> "
        "%z = stablehlo.broadcast_in_dim %y, dims = [] : (tensor<f32>) -> tensor<1099511627776x1099511627776xf32> "
        f"%r = stablehlo.add %x, %x : {T}"
    ),
    "9000000000000000004x4xf32>, which has more than a terabyte": (
        "%y = stablehlo.constant dense<0.0> : tensor<f32> %r = stablehlo.pad %x, %y, low = [-9000000000000000000, 0], "
        f"high = [9000000000000000000, 0], interior = [0, 0] : ({T}, tensor<f32>) -> {T}"
    ),
    "tensor<4611686018427387908x4611686018427387908xf32>, which": (
        "%y = stablehlo.constant dense<0.0> : tensor<f32> "
        '%r = "stablehlo.reduce_window"(%x, %y) <{window_dimensions = array<i64: 1, 1>, padding = '
        "dense<[[4611686018427387904, -4611686018427387904], [4611686018427387904, -4611686018427387904]]> "
        f": tensor<2x2xi64>}}> {REGION} : ({T}, tensor<f32>) -> {T}"
    ),
    "tensor<4611686018427387904x4611686018427387904xf32>, which": (
        "%y = stablehlo.constant dense<0.0> : tensor<f32> "
        '%w = "stablehlo.reduce_window"(%x, %y) <{window_dimensions = '
        "array<i64: 4611686018427387904, 4611686018427387904>, padding = "
        "dense<[[4611686018427387900, 0], [4611686018427387900, 0]]> : tensor<2x2xi64>}> "
        f"{REGION} : ({T}, tensor<f32>) -> tensor<1x1xf32> %r = stablehlo.add %x, %x : {T}"
    ),
    "tensor<1x1x4611686018427387908x4xf32>, which": (
        f"%k = stablehlo.reshape %x : ({T}) -> tensor<1x1x4x4xf32> %y = stablehlo.convolution(%k, %k) "
        "dim_numbers = [b, f, 0, 1]x[o, i, 0, 1]->[b, f, 0, 1], "
        "window = {pad = [[4611686018427387904, -4611686018427387904], [0, 0]]} "
        "{batch_group_count = 1 : i64, feature_group_count = 1 : i64} "
        ": (tensor<1x1x4x4xf32>, tensor<1x1x4x4xf32>) -> tensor<1x1x1x1xf32> "
        f"%r = stablehlo.add %x, %x : {T}"
    ),
    "stablehlo.rng of elements of type f8E5M2": (
        "%y = stablehlo.constant dense<0.0> : tensor<f8E5M2> %n = stablehlo.constant dense<4> : tensor<2xi64> "
        "%z = stablehlo.rng %y, %y, %n, distribution = UNIFORM "
        ": (tensor<f8E5M2>, tensor<f8E5M2>, tensor<2xi64>) -> tensor<4x4xf8E5M2> "
        f"%r = stablehlo.convert %z : (tensor<4x4xf8E5M2>) -> {T}"
    ),
    "which calls itself": f"%r = func.call @other(%x) : ({T}) -> {T}",
    "more than 2000000 operations": f"%r = func.call @f0(%x) : ({T}) -> {T}",
    "in each other": f"%r = func.call @g0(%x) : ({T}) -> {T}",
}
OTHER = f"func.func private @other(%x: {T}) -> {T} {{ %r = func.call @other(%x) : ({T}) -> {T} return %r : {T} }}"
TWICE = (
    " ".join(
        f"func.func private @f{i}(%x: {T}) -> {T} {{ %y = func.call @f{i + 1}(%x) : ({T}) -> {T} "
        f"%r = func.call @f{i + 1}(%y) : ({T}) -> {T} return %r : {T} }}"
        for i in range(40)
    )
    + f" func.func private @f40(%x: {T}) -> {T} {{ %r = stablehlo.negate %x : {T} return %r : {T} }}"
)
DEEP = (
    " ".join(
        f"func.func private @g{i}(%x: {T}) -> {T} {{ %r = func.call @g{i + 1}(%x) : ({T}) -> {T} return %r : {T} }}"
        for i in range(300)
    )
    + f" func.func private @g300(%x: {T}) -> {T} {{ %r = stablehlo.negate %x : {T} return %r : {T} }}"
)


def test_what_no_file_may_have_is_refused_by_name():
    honest = exported(lambda x: [x * 2])
    more = {"which calls itself": OTHER, "stablehlo.composite of 'my.kernel'": OTHER.replace("func.call @other(%x)",
            "stablehlo.negate %x").replace(f": ({T}) -> {T} return", f": {T} return"),
            "more than 2000000 operations": TWICE, "in each other": DEEP}  # fmt: skip
    functions = [
        changed(honest, lambda _, b=body, n=name: module(b, more.get(n, ""))) for name, body in REFUSED.items()
    ]
    found = looked_at(functions)
    assert len(found) == len(REFUSED), found
    for name, what in zip(REFUSED, found, strict=True):
        assert name in what, (name, what)


def test_sizes_that_overflow_are_refused_at_the_call(saved, tmp_path):
    """XLA ends the process for them."""
    body = (
        "%c = stablehlo.constant dense<1.0> : tensor<f32> %n = stablehlo.constant dense<3037000500> : tensor<2xi64> "
        "%z = stablehlo.dynamic_broadcast_in_dim %c, %n, dims = [] : (tensor<f32>, tensor<2xi64>) -> tensor<?x?xf32> "
        "%s = stablehlo.reduce(%z init: %c) applies stablehlo.add across dimensions = [0, 1] "
        ": (tensor<?x?xf32>, tensor<f32>) -> tensor<f32> "
        f"%t = stablehlo.broadcast_in_dim %s, dims = [] : (tensor<f32>) -> {T} %r = stablehlo.add %x, %t : {T}"
    )
    made = changed(exported(lambda x: [x * 2]), lambda _: module(body))
    (line,) = tried([forge(saved, tmp_path / "forged.hansa", made)])
    assert line.startswith("REFUSED ArtifactError") and "3037000500x3037000500xf32>, which has more than" in line


def test_padding_that_overflows_before_it_is_cut_off_is_refused_at_the_call(saved, tmp_path):
    """XLA ends the process for it, too."""
    body = (
        "%c = stablehlo.constant dense<0.0> : tensor<f32> %i = stablehlo.constant dense<0> : tensor<2xi64> "
        "%l = stablehlo.constant dense<[-9000000000000000000, 0]> : tensor<2xi64> "
        "%h = stablehlo.constant dense<[9000000000000000000, 0]> : tensor<2xi64> "
        "%z = stablehlo.dynamic_pad %x, %c, %l, %h, %i "
        f": ({T}, tensor<f32>, tensor<2xi64>, tensor<2xi64>, tensor<2xi64>) -> tensor<?x4xf32> "
        "%s = stablehlo.reduce(%z init: %c) applies stablehlo.add across dimensions = [0, 1] "
        ": (tensor<?x4xf32>, tensor<f32>) -> tensor<f32> "
        f"%t = stablehlo.broadcast_in_dim %s, dims = [] : (tensor<f32>) -> {T} %r = stablehlo.add %x, %t : {T}"
    )
    made = changed(exported(lambda x: [x * 2]), lambda _: module(body))
    (line,) = tried([forge(saved, tmp_path / "forged.hansa", made)])
    assert line.startswith("REFUSED ArtifactError") and "9000000000000000004x4xf32>, which has more than" in line


@pytest.mark.slow
def test_a_file_that_mlir_cannot_read_ends_no_process(saved, tmp_path):
    """MLIR's reader has crashes and endless loops for damaged bytes; these are some that were found by trying."""
    honest = exported(lambda x: [jnp.linalg.solve(x, x) + jax.random.normal(jax.random.key(0), (4, 4))])
    data, paths = honest.mlir_module_serialized, []
    for i in range(30):
        damaged = bytearray(data)
        for _ in range(3):
            damaged[RNG.integers(len(data))] = RNG.integers(256)
        forged = dataclasses.replace(honest, mlir_module_serialized=bytes(damaged))
        paths.append(forge(saved, tmp_path / f"{i}.hansa", forged))
    lines = tried(paths)
    assert len(lines) == len(paths)
    assert sum(line.startswith("REFUSED ArtifactError") for line in lines) > 20


ALLOWED = {
    "sorts": lambda x: lax.sort(x, is_stable=False),
    "sorts by two keys": lambda x: sum(lax.sort((x, -x), num_keys=2, is_stable=False)),
    "the largest": lambda x: lax.top_k(x, 2)[0],
    "loops": lambda x: lax.fori_loop(0, 3, lambda i, y: y * 0.5 + i, x),
    "branches": lambda x: lax.switch(x.sum().astype(int) % 3, [jnp.sin, jnp.cos, jnp.tan], x),
    "random numbers": lambda x: (
        jax.random.normal(jax.random.key(1), x.shape) * jax.random.gamma(jax.random.key(2), x**2)
    ),
    "random bits of another kind": lambda x: jax.random.normal(jax.random.key(1, impl="rbg"), x.shape),
    "windows": lambda x: lax.reduce_window(x, -jnp.inf, lax.max, (2, 2), (1, 1), "SAME"),
    "convolutions": lambda x: lax.conv(x[None, None], x[None, None, :3, :3], (1, 1), "SAME"),
    "scatters": lambda x: x.at[jnp.array([1, 1, 3])].add(2.0),
    "gathers": lambda x: x[jnp.array([0, 3, 9]), jnp.array([-1, 2, 2])],
    "functions of one number": lambda x: jax.scipy.special.erf(x) + jnp.arcsinh(x) + jax.scipy.special.digamma(x**2),
    "gradients": jax.grad(lambda x: jnp.linalg.svd(x @ x.T + jnp.eye(4))[1].sum()),
    "narrow numbers": lambda x: (
        x.astype(jnp.bfloat16) @ x.astype(jnp.bfloat16) + x.astype(jnp.int4).astype(jnp.bfloat16)
    ),
    "checkpoints": jax.grad(lambda x: jax.checkpoint(lambda y: jnp.sin(jnp.sin(y)).sum())(x)),
    "spectra": lambda x: jnp.fft.irfft(jnp.fft.rfft(x) * 2),
    "cumulative sums": lambda x: jnp.cumsum(x, 0) + lax.cummax(x) + lax.cumlogsumexp(x),
}


@hansa.federated_computation("{float32[4,4]}@CLIENTS")
def allowed(value):
    work = hansa.jax_computation(lambda x: [function(x).astype(jnp.float32) for function in ALLOWED.values()])
    return hansa.federated_sum(hansa.federated_map(work, value))


@pytest.mark.slow
def test_what_jax_writes_is_loaded_and_computes_the_same(tmp_path, monkeypatch):
    hansa.save(allowed, tmp_path / "allowed.hansa")
    monkeypatch.setattr(process, "_KNOWN", {})
    data = [RNG.normal(size=MATRIX.shape).astype(np.float32) for _ in range(2)]
    for name, found, expected in zip(ALLOWED, hansa.load(tmp_path / "allowed.hansa")(data), allowed(data), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4, err_msg=name)
