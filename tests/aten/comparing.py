"""An operation of the table against PyTorch's: its results, and the gradients by its arguments."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch

from hansa.aten import find
from hansa.aten.export import dtype_name, to_array


def operation_of(name: str) -> Any:
    """PyTorch's operation of a name such as `max.dim`."""
    packet, _, overload = name.partition(".")
    return getattr(getattr(torch.ops.aten, packet), overload or "default")


def compare(
    name: str, args: tuple[Any, ...], kwargs: dict[str, Any], tolerance: float, gradient: bool, results: int
) -> None:
    """Asserts that an operation has PyTorch's results, and its gradients.

    Args:
        name: the operation's.
        args, kwargs: what it is called with.
        tolerance: how far apart results may be, relative to the largest of PyTorch's or absolutely.
        gradient: whether it has one.
        results: how many of its results are looked at, the first ones.
    """
    operation = find(name)
    assert operation is not None, name
    theirs = [
        t.clone().requires_grad_(gradient) if t.is_floating_point() and not hasattr(t, "fixed") else t
        for t in _tensors(args)
    ]
    expected = _flat(operation_of(name)(*_with(args, iter(theirs)), **kwargs))
    known = _flat_dtypes(expected)
    kinds: list[Any] = []

    def ours(*arrays: Any) -> list[Any]:
        key = (jax.random.key(0),) if operation.draws else ()
        found = operation.function(*key, *_with(args, iter(arrays)), **_plain(kwargs))
        flat = _flat(found)
        kinds[:] = [part is not None for part in flat]
        cast = [None if x is None else jnp.asarray(x).astype(kind) for x, kind in zip(flat, known, strict=False)]
        return [x for x in cast if x is not None]

    arrays = [jnp.asarray(to_array(t)) for t in theirs]
    found = ours(*arrays)
    wanted = [t for t, is_there in zip(expected, kinds, strict=False) if is_there][:results]
    found = found[:results]
    for mine, their in zip(found, wanted, strict=True):
        assert mine.shape == tuple(their.shape), (name, mine.shape, their.shape)
        _close(name, mine, to_array(their), tolerance)
    if not gradient:
        return
    rng = np.random.default_rng(0)
    cotangents = [torch.tensor(rng.normal(size=tuple(t.shape)), dtype=t.dtype) for t in wanted]
    through = [(t, c) for t, c in zip(wanted, cotangents, strict=True) if t.requires_grad]
    leaves = [t for t in theirs if t.requires_grad]
    told = torch.autograd.grad([t for t, _ in through], leaves, [c for _, c in through], allow_unused=True)
    places = [i for i, t in enumerate(theirs) if t.requires_grad]

    def loss(*moving: Any) -> Any:
        whole = list(arrays)
        for i, value in zip(places, moving, strict=True):
            whole[i] = value
        terms = zip(ours(*whole)[:results], wanted, cotangents, strict=True)
        return sum((x * jnp.asarray(to_array(c))).sum() for x, t, c in terms if t.requires_grad)

    mine_all = jax.grad(loss, argnums=tuple(range(len(places))))(*(arrays[i] for i in places))
    for mine, their in zip(mine_all, told, strict=True):
        _close(f"the gradient of {name}", mine, np.zeros(mine.shape) if their is None else to_array(their), tolerance)


def _close(name: str, mine: Any, theirs: Any, tolerance: float) -> None:
    theirs = np.asarray(theirs)
    kind = theirs.dtype if theirs.dtype.name == "bfloat16" else None
    theirs = theirs.astype("float32") if kind is not None else theirs
    finite = np.abs(theirs[np.isfinite(theirs)]) if theirs.dtype.kind == "f" else np.zeros(0)
    scale = max(1.0, float(finite.max(initial=0)))
    np.testing.assert_allclose(np.asarray(mine), theirs, atol=tolerance * scale, rtol=tolerance, err_msg=name)


def _tensors(value: Any) -> list[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return [value]
    return [found for part in value for found in _tensors(part)] if isinstance(value, list | tuple) else []


def _with(value: Any, tensors: Any) -> Any:
    """Arguments with others in place of their tensors."""
    if isinstance(value, torch.Tensor):
        return next(tensors)
    return type(value)(_with(part, tensors) for part in value) if isinstance(value, list | tuple) else value


def _plain(kwargs: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in kwargs.items() if name not in ("dtype", "device")}


def _flat(value: Any) -> list[Any]:
    if isinstance(value, list | tuple):
        return [found for part in value for found in _flat(part)]
    return [value]


def _flat_dtypes(tensors: list[Any]) -> list[str]:
    return [dtype_name(t.dtype) if isinstance(t, torch.Tensor) else "float32" for t in tensors]
