"""One compiled function over the devices of a mesh, compiled again for other shapes only."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax import lax
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun
from jax.sharding import Mesh, PartitionSpec

from hansa._memory import give_back
from hansa.compiler.rewrites import faster
from hansa.runtimes.dealt import AXIS, Dealt


class Executable:
    """A JAX function that runs on every device of a mesh.

    Arrays that the function closes over, such as a model's initial weights, are arguments of the compiled program and
    not constants in it, so a large model does not make a large program.

    Args:
        function: takes and returns pytrees of arrays; `jax.lax` collectives see the mesh's axis.
        mesh: the devices.
        in_specs: for each argument, how it lies on the devices, but for what is dealt out.
        out_specs: how the result lies on the devices.
        on_compile: called each time the function is compiled.
        collective: whether the function is to know of the mesh. If not, and the mesh is the default device, JAX calls
            it with less ado.
        donated: the positions of arguments whose memory the result may take. They cannot be used after a call.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        mesh: Mesh,
        in_specs: tuple[PartitionSpec, ...],
        out_specs: Any,
        on_compile: Callable[[], None],
        collective: bool = True,
        donated: tuple[int, ...] = (),
    ) -> None:
        self._function, self._mesh, self._in_specs, self._out_specs = function, mesh, in_specs, out_specs
        self._collective = collective or mesh.size > 1 or mesh.devices.flat[0] != jax.devices()[0]
        # With threads of its own in a product, a device may add up in another order than without: one device gives the
        # bits of many. Set here only: the user's other JAX code keeps its threads.
        on_cpu = mesh.devices.flat[0].platform == "cpu"
        self._options = {"xla_cpu_multi_thread_eigen": False} if on_cpu else None
        self._on_compile, self._donated = on_compile, donated
        self._compiled: dict[Any, Callable[..., Any]] = {}

    def __call__(self, *args: Any) -> Any:
        """The function's result, compiled for these shapes if it was not yet."""
        leaves, tree = jax.tree.flatten(args)
        key = (tree, tuple((leaf.shape, leaf.dtype, type(leaf) is np.ndarray) for leaf in leaves))
        with jax.enable_x64(True):
            if key not in self._compiled:
                self._compiled[key] = self._compile(args, leaves, tree)
            return self._compiled[key](leaves)

    def _compile(self, args: tuple[Any, ...], leaves: list[Any], tree: Any) -> Callable[..., Any]:
        give_back()
        specs = [spec for given, arg in zip(self._in_specs, args, strict=True) for spec in _specs(given, arg)]
        parcel = Parcel(leaves, [spec == PartitionSpec() for spec in specs])
        gone = [i in self._donated for i, arg in enumerate(args) for _ in jax.tree.leaves(arg)]
        gone = [gone[i] for i in parcel.others]

        def unpacked(buffers: list[Any], others: list[Any]) -> Any:
            return self._function(*jax.tree.unflatten(tree, parcel.open(buffers, others)))

        if self._collective:
            in_specs = (PartitionSpec(), [specs[i] for i in parcel.others])
            unpacked = jax.shard_map(
                unpacked, mesh=self._mesh, in_specs=in_specs, out_specs=self._out_specs, check_vma=False
            )
        closed, shape = jax.make_jaxpr(unpacked, return_shape=True)(*parcel.pack(leaves))
        if self._mesh.devices.flat[0].platform == "cpu":
            closed = faster(closed)
        result, consts = jax.tree.structure(shape), closed.consts

        def run(given: list[Any], consts: list[Any], buffers: list[Any], kept: list[Any]) -> Any:
            both = {True: iter(given), False: iter(kept)}
            others = [next(both[mine]) for mine in gone]
            return jax.tree.unflatten(result, jaxpr_as_fun(ClosedJaxpr(closed.jaxpr, consts))(*buffers, *others))

        self._on_compile()
        compiled = jax.jit(run, compiler_options=self._options, donate_argnums=0)

        def call(leaves: list[Any]) -> Any:
            buffers, others = parcel.pack(leaves)
            if not self._donated:
                return compiled([], consts, buffers, others)
            given = [leaf for leaf, mine in zip(others, gone, strict=True) if mine]
            return compiled(given, consts, buffers, [leaf for leaf, mine in zip(others, gone, strict=True) if not mine])

        return call


def _specs(spec: PartitionSpec, arg: Any) -> list[PartitionSpec]:
    """How each leaf of an argument lies on the devices."""
    parts = jax.tree.leaves(arg, is_leaf=lambda part: isinstance(part, Dealt))
    return [PartitionSpec(AXIS) if isinstance(part, Dealt) else spec for part in parts for _ in jax.tree.leaves(part)]


class Parcel:
    """Puts small arrays in host memory together, in one buffer for all dtypes of 32 bits and one for each other dtype:
    a transfer costs more than a few bytes do.

    Args:
        leaves: arrays, as they will be packed each time.
        replicated: for each, whether every device gets all of it, as it must to be packed.

    Attributes:
        others: the positions of the arrays that are left as they are.
    """

    def __init__(self, leaves: list[Any], replicated: list[bool]) -> None:
        groups: dict[Any, list[int]] = {}
        for i, (leaf, everywhere) in enumerate(zip(leaves, replicated, strict=True)):
            if everywhere and type(leaf) is np.ndarray and leaf.nbytes <= _SMALL:
                groups.setdefault(_WORD if leaf.dtype.name in _WORDS else leaf.dtype, []).append(i)
        self._groups = [(dtype, group) for dtype, group in groups.items() if len(group) > 1]
        packed = {i for _, group in self._groups for i in group}
        self.others = [i for i in range(len(leaves)) if i not in packed]
        self._avals = [(leaf.shape, leaf.dtype) for leaf in leaves]

    def pack(self, leaves: list[Any]) -> tuple[list[Any], list[Any]]:
        """The buffers, and the other arrays."""
        buffers = [np.concatenate([leaves[i].reshape(-1).view(dtype) for i in group]) for dtype, group in self._groups]
        return buffers, [leaves[i] for i in self.others]

    def open(self, buffers: list[Any], others: list[Any]) -> list[Any]:
        """The arrays in their order again."""
        leaves: list[Any] = [None] * len(self._avals)
        for i, leaf in zip(self.others, others, strict=True):
            leaves[i] = leaf
        for (_, group), buffer in zip(self._groups, buffers, strict=True):
            start = 0
            for i in group:
                shape, dtype = self._avals[i]
                size = math.prod(shape)
                words = lax.slice_in_dim(buffer, start, start + size)
                leaves[i] = lax.bitcast_convert_type(words, dtype).reshape(shape)
                start += size
        return leaves


_WORD, _WORDS = np.dtype("int32"), ("int32", "uint32", "float32")

_SMALL = 2**16
"""Bytes; larger arrays are transferred by themselves, without a copy."""
