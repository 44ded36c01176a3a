"""The functions of a file: serialized by `jax.export`, and looked at before they are used.

What `jax.export` reads is not made for hostile input. So what it is given has the form that it writes for a function of
arrays that gives a list of arrays, on one device, without effects; and its StableHLO has been looked at
(`hansa.portable`), and takes and gives what the function says.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import jax
import numpy as np
from jax import export
from jax._src.export import serialization_generated as fields  # what `jax.export.deserialize` reads, before it reads it
from jax.export import Exported
from jax.extend.mlir.dialects import stablehlo
from jax.interpreters import mlir

from hansa.compiler.artifacts.file import Reader
from hansa.portable.check import Signature, check
from hansa.portable.process import Inspection, remember
from hansa.portable.tensors import Tensor

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")
"""What functions can be compiled for."""

_IN_SIZES = re.compile(r"[A-Za-z_]\w*\(?|\d{1,18}(?!\d)|\^\d(?!\d)|[-+*,) ]")
"""What sizes are written with: sums of products, and functions of them. No powers of sums, which grow without end."""

_ELEMENTS = {
    "bool": "i1",
    **{f"int{n}": f"i{n}" for n in (2, 4, 8, 16, 32, 64)},
    **{f"uint{n}": f"ui{n}" for n in (2, 4, 8, 16, 32, 64)},
    "float16": "f16",
    "bfloat16": "bf16",
    "float32": "f32",
    "float64": "f64",
    "complex64": "complex<f32>",
    "complex128": "complex<f64>",
}


class Functions:
    """Some functions of a file.

    Args:
        reader: the file.
        names: of the entries.
    """

    def __init__(self, reader: Reader, names: Iterable[str]) -> None:
        self._found = {name: read_function(reader.function(name)) for name in names}
        self._inspection = Inspection([exported.mlir_module_serialized for exported in self._found.values()])
        self._signatures: dict[str, Signature] = {}

    def exported(self, name: str) -> Exported:
        """A function, which is not to be called before `looked_at`."""
        return self._found[name]

    def is_open(self, name: str) -> bool:
        """Whether it has sizes to look at when they are known."""
        self.looked_at()
        return self._signatures[name].is_open

    def looked_at(self) -> None:
        """Waits until all functions have been looked at.

        Raises:
            Refused: if one of them has what no file may have.
            ValueError: if its StableHLO takes or gives something else than it says.
        """
        if not self._signatures:
            self._signatures = dict(zip(self._found, self._inspection.signatures(), strict=True))
            for name, signature in self._signatures.items():
                _same_types(self._found[name], signature)


def read_function(data: bytes) -> Exported:
    """A function, its StableHLO apart.

    Raises:
        Exception: of some kind, if it has another form than a function of arrays.
    """
    found = fields.Exported.GetRootAsExported(bytearray(data))
    if found.OrderedEffectsLength() or found.UnorderedEffectsLength():
        Inspection([found.MlirModuleSerializedAsNumpy().tobytes()]).signatures()  # which says what has the effect
    _plain(found, len(data))
    exported = export.deserialize(bytearray(data))
    count = len(exported.in_avals)
    trees: list[Any] = [exported.in_tree, exported.out_tree]
    plain: list[Any] = [((0,) * count, {}), [0] * len(exported.out_avals)]
    _require(trees == list(map(jax.tree.structure, plain)), "nested arguments or results")
    platforms = exported.platforms
    _require(0 < len(set(platforms)) == len(platforms) and set(platforms) <= set(PLATFORMS), "platforms")
    _require(export.DisabledSafetyCheck.platform() not in exported.disabled_safety_checks, "platforms")
    kept = exported.module_kept_var_idx
    _require(list(kept) == sorted(set(kept)) and all(0 <= index < count for index in kept), "arguments")
    sizes = [size for aval in (*exported.in_avals, *exported.out_avals) for size in aval.shape]
    _require(all(export.is_symbolic_dim(size) or size >= 0 for size in sizes), "sizes")
    return exported


def look_at(exported: Exported) -> None:
    """Looks at a function of JAX's own making, in this process, so that it need not be when it is loaded here.

    Raises:
        Refused: if it has what no file may have.
    """
    with mlir.make_ir_context() as context:
        module = stablehlo.deserialize_portable_artifact(context, exported.mlir_module_serialized)
        remember(exported.mlir_module_serialized, check(module))


def _plain(found: Any, size: int) -> None:
    """Looks at the form of what is to be read: nothing in it may be larger than the file, or within itself."""
    _require(found.NrDevices() == 1 or (not found.NrDevices() and found.NrDevicesShort() == 1), "devices")
    nothing = (found.OrderedEffectsLength(), found.UnorderedEffectsLength())
    shared = (found.UniqueAbstractMeshesLength(), found.UniqueNamedShardingsLength())
    _require(not any((*nothing, *shared)) and found.Vjp() is None, "effects, shardings or derivatives")
    lengths = [
        *(found.InAvalsLength(), found.OutAvalsLength(), found.UniqueAvalsLength(), found.PlatformsLength()),
        *(found.InAvalsIdxsLength(), found.OutAvalsIdxsLength(), found.ModuleKeptVarIdxLength()),
        *(found.InShardingsLength(), found.OutShardingsLength(), found.DisabledChecksLength()),
        *(found.InShardingsIdxsLength(), found.OutShardingsIdxsLength()),
    ]
    _require(max(lengths) <= size // 2, "lengths")
    for count, get in (
        (found.InAvalsLength(), found.InAvals),
        (found.OutAvalsLength(), found.OutAvals),
        (found.UniqueAvalsLength(), found.UniqueAvals),
    ):
        for i in range(count):
            aval = get(i)
            _require(aval.ShapeLength() <= 64, "a rank")
            text = ",".join(aval.Shape(axis).decode("ascii") for axis in range(aval.ShapeLength()))
            _require(len(text) < 4000 and not _IN_SIZES.sub("", text), "a size")
    for shardings, get in (
        (found.InShardingsLength(), found.InShardings),
        (found.OutShardingsLength(), found.OutShardings),
    ):
        for i in range(shardings):
            _require(get(i).NamedSharding() is None and get(i).HloShardingProtoIsNone(), "shardings")
    kinds = fields.PyTreeDefKind
    arguments, results = found.InTree(), found.OutTree()
    _require(arguments.Kind() == kinds.tuple and arguments.ChildrenLength() == 2, "arguments")
    positional, named = arguments.Children(0), arguments.Children(1)
    _require(named.Kind() == kinds.dict and not named.ChildrenLength(), "arguments")
    for tree, kind in ((positional, kinds.tuple), (results, kinds.list)):
        _require(tree.Kind() == kind and tree.ChildrenLength() <= size // 2, "arguments or results")
        leaves = (tree.Children(i) for i in range(tree.ChildrenLength()))
        _require(
            all(leaf.Kind() == kinds.leaf and not leaf.ChildrenLength() for leaf in leaves), "arguments or results"
        )


def _require(right: bool, what: str) -> None:
    if not right:
        raise ValueError(f"a function with {what} of another form than Hansa writes")


def _same_types(exported: Exported, signature: Signature) -> None:
    """Looks whether StableHLO takes and gives what the function says."""
    arguments = [_tensor(exported.in_avals[index]) for index in exported.module_kept_var_idx]
    found = list(signature.arguments)
    if len(exported.platforms) > 1:
        platform = found.pop(0) if found else None
        _require(platform in (Tensor((), "i32"), Tensor((), "i64")), "a number of the platform")
    results = [_tensor(aval) for aval in exported.out_avals]
    for what, said, does in (("takes", arguments, found), ("gives", results, list(signature.results))):
        if said != does:
            raise ValueError(
                f"a function that says that it {what} ({', '.join(map(str, said))}), and whose StableHLO {what} "
                f"({', '.join(map(str, does))})"
            )


def _tensor(aval: Any) -> Tensor:
    shape = tuple(None if export.is_symbolic_dim(size) else int(size) for size in aval.shape)
    dtype = np.dtype(aval.dtype).name
    return Tensor(shape, _ELEMENTS.get(dtype, f"f{dtype.removeprefix('float').upper()}"))
