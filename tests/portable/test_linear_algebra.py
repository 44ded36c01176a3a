"""Linear algebra calls LAPACK: saved and loaded it gives NumPy's numbers, and a forged call is refused, not made."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import jax.scipy.linalg
import numpy as np
import pytest
from jax import lax

import hansa
from hansa.portable import process
from tests.portable.forging import batches, changed, doubled, exported, forge, looked_at, tried

RNG = np.random.default_rng(3)


def symmetric(x):
    return x @ jnp.swapaxes(x, -1, -2) + 4 * jnp.eye(x.shape[-1], dtype=x.dtype)


def rebuilt(values, vectors):
    return (vectors * values) @ np.conj(vectors.T)


FUNCTIONS = {
    "cholesky": (lambda x: jnp.linalg.cholesky(symmetric(x)), lambda x: np.linalg.cholesky(np.asarray(symmetric(x)))),
    "solve": (lambda x: jnp.linalg.solve(symmetric(x), x[:, 0]), lambda x: np.linalg.solve(symmetric(x), x[:, 0])),
    "inverse": (lambda x: jnp.linalg.inv(symmetric(x)), lambda x: np.linalg.inv(symmetric(x))),
    "determinant": (lambda x: jnp.linalg.det(x), np.linalg.det),
    "least squares": (
        lambda x: jnp.linalg.lstsq(x[:, :3], x[:, 3])[0],
        lambda x: np.linalg.lstsq(x[:, :3], x[:, 3], rcond=None)[0],
    ),
    "qr": (lambda x: jnp.abs(jnp.linalg.qr(x[:, :3])[1]), lambda x: np.abs(np.linalg.qr(x[:, :3])[1])),
    "reflectors": (lambda x: (lambda q, r: q @ r)(*jnp.linalg.qr(x)), lambda x: x),
    "svd": (lambda x: jnp.linalg.svd(x[:, :3])[1], lambda x: np.linalg.svd(x[:, :3])[1]),
    "singular values": (jnp.linalg.svdvals, lambda x: np.linalg.svd(x, compute_uv=False)),
    "thin svd": (
        lambda x: (lambda u, s, v: (u * s) @ v)(*jnp.linalg.svd(x[:3], full_matrices=False)),
        lambda x: x[:3],
    ),
    "eigh": (
        lambda x: (lambda w, v: (v * w) @ v.T)(*jnp.linalg.eigh(symmetric(x))),
        lambda x: np.asarray(symmetric(x)),
    ),
    "eigvals": (
        lambda x: jnp.sort(jnp.abs(jnp.linalg.eigvals(x))),
        lambda x: np.sort(np.abs(np.linalg.eigvals(x))).astype(np.float32),
    ),
    "triangular": (
        lambda x: lax.linalg.triangular_solve(symmetric(x), x, left_side=True, lower=True, transpose_a=True),
        lambda x: np.linalg.solve(np.tril(symmetric(x)).T, x),
    ),
    "triangular on the right": (
        lambda x: lax.linalg.triangular_solve(symmetric(x), x[:2], lower=False),
        lambda x: np.linalg.solve(np.triu(symmetric(x)).T, x[:2].T).T,
    ),
    "exponential": (lambda x: jax.scipy.linalg.expm(x / 4), lambda x: exponential(np.asarray(x, np.float64) / 4)),
    "schur": (lambda x: (lambda t, z: z @ t @ z.T)(*jax.scipy.linalg.schur(x)), lambda x: x),
    "hessenberg": (lambda x: (lambda h, q: q @ h @ q.T)(*jax.scipy.linalg.hessenberg(x, calc_q=True)), lambda x: x),
    "tridiagonal": (
        lambda x: (lambda d: jnp.sort(d)[:0].sum() + d.sum())(lax.linalg.tridiagonal(symmetric(x))[1]),
        lambda x: np.trace(symmetric(x)),
    ),
    "tridiagonal system": (
        lambda x: lax.linalg.tridiagonal_solve(x[0].at[0].set(0), 4 + x[1], x[2].at[3].set(0), x),
        lambda x: np.linalg.solve(np.diag(x[0, 1:], -1) + np.diag(4 + x[1]) + np.diag(x[2, :3], 1), x),
    ),
    "complex": (
        lambda x: jnp.abs(jnp.linalg.solve(symmetric(x) + 1j * x, x[:, 0])),
        lambda x: np.abs(np.linalg.solve(symmetric(x) + 1j * x, x[:, 0])),
    ),
    "spectrum": (lambda x: jnp.abs(jnp.fft.rfft2(x)), lambda x: np.abs(np.fft.rfft2(x)).astype(np.float32)),
}


def exponential(x):
    term = total = np.eye(4)
    for i in range(1, 20):
        term = term @ x / i
        total = total + term
    return total


@hansa.federated_computation("{float32[4,4]}@CLIENTS")
def algebra(value):
    work = hansa.jax_computation(lambda x: [function(x) for function, _ in FUNCTIONS.values()])
    return hansa.federated_sum(hansa.federated_map(work, value))


def test_loaded_it_gives_numpys_numbers(tmp_path, monkeypatch):
    hansa.save(algebra, tmp_path / "algebra.hansa", platforms=("cpu",))
    monkeypatch.setattr(process, "_KNOWN", {})  # as in another process
    loaded = hansa.load(tmp_path / "algebra.hansa")
    data = [RNG.normal(size=(4, 4)).astype(np.float32) for _ in range(3)]
    found = loaded(data)
    for (name, (_, expected)), value in zip(FUNCTIONS.items(), found, strict=True):
        np.testing.assert_allclose(value, sum(expected(x) for x in data), rtol=2e-3, atol=2e-3, err_msg=name)


@hansa.federated_computation("{float32[?,3,3]}@CLIENTS")
def of_batches(value):
    def work(x):
        whole = symmetric(x)
        q, r = jnp.linalg.qr(x)
        parts = [jnp.linalg.inv(whole), jnp.linalg.cholesky(whole), q @ r, jnp.linalg.svd(x)[1]]
        return [part.sum(0) for part in parts]

    return hansa.federated_sum(hansa.federated_map(hansa.jax_computation(work), value))


@pytest.mark.slow
def test_batches_of_matrices_of_any_number(tmp_path, monkeypatch):
    hansa.save(of_batches, tmp_path / "batches.hansa", platforms=("cpu", "cuda", "tpu"))
    monkeypatch.setattr(process, "_KNOWN", {})
    loaded = hansa.load(tmp_path / "batches.hansa")
    for sizes in ([5, 5], [1, 1]):
        data = [RNG.normal(size=(n, 3, 3)).astype(np.float32) for n in sizes]
        inverse, cholesky, product, singular = loaded(data)
        whole = [np.asarray(symmetric(x)) for x in data]
        np.testing.assert_allclose(inverse, sum(np.linalg.inv(x).sum(0) for x in whole), rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(cholesky, sum(np.linalg.cholesky(x).sum(0) for x in whole), rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(product, sum(x.sum(0) for x in data), rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(singular, sum(np.linalg.svd(x)[1].sum(0) for x in data), rtol=1e-3, atol=1e-4)


def of(shape, dtype=np.float32):
    return jax.ShapeDtypeStruct(shape, dtype)


M, V, INFO = of((4, 4)), of((4,)), of((), np.int32)
N, L, U = np.uint8(ord("N")), np.uint8(ord("L")), np.uint8(ord("U"))
FORGED = {
    "pivots too short": ("getrf", [M], [M, of((1,), np.int32), INFO], {}),
    "pivots of another type": ("getrf", [M], [M, of((4,), np.int8), INFO], {}),
    "no pivots": ("getrf", [M], [M, INFO], {}),
    "a matrix that is smaller": ("getrf", [M], [of((4, 1)), of((4,), np.int32), INFO], {}),
    "an option that there is not": ("getrf", [M], [M, of((4,), np.int32), INFO], {"mode": N}),
    "no square": ("potrf", [of((4, 3))], [of((4, 3)), INFO], {"uplo": L}),
    "an option of another value": ("potrf", [M], [M, INFO], {"uplo": np.uint8(7)}),
    "an option of another type": ("potrf", [M], [M, INFO], {"uplo": np.int64(76)}),
    "batches of different sizes": ("potrf", [of((9, 4, 4))], [of((2, 4, 4)), of((9,), np.int32)], {"uplo": L}),
    "info for fewer": ("potrf", [of((9, 4, 4))], [of((9, 4, 4)), of((1,), np.int32)], {"uplo": L}),
    "reflectors too short": ("geqrf", [M], [M, of((2,))], {}),
    "more reflectors than columns": ("orgqr", [of((4, 2)), of((4,))], [of((4, 2))], {}),
    "more columns than rows": ("orgqr", [of((2, 4)), of((2,))], [of((2, 4))], {}),
    "all singular vectors in too small an array": (
        "gesdd", [of((4, 2))], [of((4, 2)), of((2,)), of((4, 2)), of((2, 2)), INFO], {"mode": np.uint8(ord("A"))},
    ),
    "eigenvalues too short": ("syevd", [M], [M, of((2,)), INFO], {"mode": np.uint8(ord("V")), "uplo": L}),
    "a selection by a function that is not there": (
        "gees", [M], [M, M, V, V, INFO, INFO], {"mode": np.uint8(ord("V")), "sort": np.uint8(ord("S"))},
    ),
    "rows from before the first": ("gehrd", [M], [M, of((3,)), INFO], {"low": np.int32(-9), "high": np.int32(4)}),
    "rows beyond the last": ("gehrd", [M], [M, of((3,)), INFO], {"low": np.int32(1), "high": np.int32(400)}),
    "a triangle that is smaller": (
        "trsm", [of((2, 2)), M], [M], {"side": L, "uplo": U, "trans_x": N, "diag": N},
    ),
    "off-diagonals too short": ("sytrd", [M], [M, V, of((1,)), of((3,)), INFO], {"uplo": L}),
    "diagonals too short": ("gtsv", [of((2,)), V, V, M], [of((2,)), V, V, M, INFO], {}),
}  # fmt: skip


def calling(target, takes, gives, options, **more):
    def work(x):
        call = jax.ffi.ffi_call(target, gives, **more)
        given = call(*(jnp.zeros(kind.shape, kind.dtype) + x[0, 0] for kind in takes), **options)
        return [x + jnp.sum(given[0]).astype(x.dtype)]

    return exported(work)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "doubled.hansa"
    hansa.save(doubled, path, platforms=("cpu",))
    return path


def test_forged_calls_are_refused_by_name(saved, tmp_path):
    right = {
        "as JAX calls it": calling("lapack_sgetrf_ffi", [M], [M, of((4,), np.int32), INFO], {}),
    }
    wrong = {
        name: calling(f"lapack_s{target}_ffi", takes, gives, options)
        for name, (target, takes, gives, options) in FORGED.items()
    }
    wrong["with an effect"] = changed(
        right["as JAX calls it"], lambda text: text.replace("mhlo.backend_config = {}", "has_side_effect = true")
    )
    wrong["for elements of another type"] = calling("lapack_dgetrf_ffi", [M], [M, of((4,), np.int32), INFO], {})
    assert looked_at(list(right.values())) == ["nothing"]
    found = looked_at(list(wrong.values()))
    assert len(found) == len(wrong), found
    for name, what in zip(wrong, found, strict=True):
        assert what.startswith("a call of 'lapack_"), (name, what)
    made = [*right.values(), wrong["reflectors too short"]]
    first, second = tried([forge(saved, tmp_path / f"{i}.hansa", each) for i, each in enumerate(made)])
    assert first.startswith("LOADED"), first
    assert second.startswith("REFUSED ArtifactError") and "a call of 'lapack_sgeqrf_ffi' as JAX makes none" in second


@pytest.mark.parametrize(
    "target",
    ["no_such_target", "xla_ffi_python_cpu_callback", "cpu_csr_sparse_dense_ffi", "Sharding", "AllocateBuffer",
     "tpu_custom_call", "mosaic_gpu_v2", "tf.call_tf_function", "__gpu$xla.gpu.triton", "ApproxTopK"],
)  # fmt: skip
def test_other_code_is_refused_by_name(saved, tmp_path, target):
    path = forge(saved, tmp_path / "forged.hansa", calling(target, [M], [M], {}, has_side_effect=len(target) % 2 == 0))
    with pytest.raises(hansa.ArtifactError, match=f"a call of '{target}'".replace("$", r"\$")):
        hansa.load(path)


def test_sizes_that_lie_are_found_when_they_are_known(tmp_path):
    """LAPACK writes three numbers for each of 5000 matrices, into an array that at the call has place for one."""
    hansa.save(batches, tmp_path / "batches.hansa", platforms=("cpu",))
    (size,) = jax.export.symbolic_shape("b")

    def work(x):
        return [jnp.zeros((3, 3), x.dtype) + jnp.linalg.qr(x, mode="raw")[0].sum()]

    def shorter(text):
        before, call, after = text.partition("stablehlo.custom_call @lapack_sgeqrf_ffi(")
        assert call
        shape = after.split(")")[0].split(", ")[-1]
        lines = before.splitlines()
        (number,) = [i for i, line in enumerate(lines[-12:], len(lines) - 12) if line.strip().startswith(f"{shape} = ")]
        lines[number] = f"    {shape} = stablehlo.constant dense<[1, 3]> : tensor<2xi32>"
        return "\n".join(lines) + call + after

    paths = [
        forge(tmp_path / "batches.hansa", tmp_path / f"{i}.hansa", exported(work, of((size, 3, 3)), change=change))
        for i, change in enumerate((lambda text: text, shorter))
    ]
    honest, forged = tried(paths, (5000, 3, 3))
    assert honest.startswith("LOADED"), honest
    assert forged.startswith("REFUSED") and "a call of 'lapack_sgeqrf_ffi' as JAX makes none" in forged, forged


def test_the_part_of_a_client_is_looked_at_too(saved, tmp_path):
    made = calling("lapack_sgetrf_ffi", [M], [M, of((1,), np.int32), INFO], {})
    with pytest.raises(hansa.ArtifactError, match="a call of 'lapack_sgetrf_ffi' as JAX makes none"):
        hansa.load_client_stage(forge(saved, tmp_path / "forged.hansa", made))


def test_what_a_file_cannot_hold_is_refused_when_it_is_saved(tmp_path):
    @hansa.federated_computation("{float32[8]}@CLIENTS")
    def approximate(value):
        work = hansa.jax_computation(lambda x: lax.approx_max_k(x, 2)[0])
        return hansa.federated_sum(hansa.federated_map(work, value))

    with pytest.raises(hansa.ArtifactError, match=r"cannot be saved: .* has a call of 'ApproxTopK', which no file may"):
        hansa.save(approximate, tmp_path / "approximate.hansa")
