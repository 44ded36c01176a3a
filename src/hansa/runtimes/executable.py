"""One compiled function over the devices of a mesh, compiled again for other shapes only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun
from jax.sharding import Mesh, PartitionSpec


class Executable:
    """A JAX function that runs on every device of a mesh.

    Arrays that the function closes over, such as a model's initial weights, are arguments of the compiled program and
    not constants in it, so a large model does not make a large program.

    Args:
        function: takes and returns pytrees of arrays; `jax.lax` collectives see the mesh's axis.
        mesh: the devices.
        in_specs: for each argument, how it lies on the devices.
        out_specs: how the result lies on the devices.
        on_compile: called each time the function is compiled.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        mesh: Mesh,
        in_specs: tuple[PartitionSpec, ...],
        out_specs: Any,
        on_compile: Callable[[], None],
    ) -> None:
        self._spread = jax.shard_map(function, mesh=mesh, in_specs=in_specs, out_specs=out_specs, check_vma=False)
        # A device per core needs no threads of its own. Set here only: the user's other JAX code keeps its threads.
        alone = mesh.size > 1 and mesh.devices.flat[0].platform == "cpu"
        self._options = {"xla_cpu_multi_thread_eigen": False} if alone else None
        self._on_compile = on_compile
        self._compiled: dict[Any, Callable[..., Any]] = {}

    def __call__(self, *args: Any) -> Any:
        """The function's result, compiled for these shapes if it was not yet."""
        leaves, tree = jax.tree.flatten(args)
        key = (tree, tuple((leaf.shape, leaf.dtype) for leaf in leaves))
        with jax.enable_x64(True):
            if key not in self._compiled:
                self._compiled[key] = self._compile(args)
            return self._compiled[key](leaves)

    def _compile(self, args: tuple[Any, ...]) -> Callable[..., Any]:
        closed, shape = jax.make_jaxpr(self._spread, return_shape=True)(*args)
        tree, consts = jax.tree.structure(shape), closed.consts

        def run(consts: list[Any], leaves: list[Any]) -> Any:
            return jax.tree.unflatten(tree, jaxpr_as_fun(ClosedJaxpr(closed.jaxpr, consts))(*leaves))

        self._on_compile()
        compiled = jax.jit(run, compiler_options=self._options)
        return lambda leaves: compiled(consts, leaves)
