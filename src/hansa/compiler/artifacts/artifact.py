"""`save` and `load`: computations and processes as files that any Python process with Hansa can run.

A file holds types, stages and StableHLO, and nothing of the Python code that made them: no class, no function.
"""

from __future__ import annotations

import importlib
import io
import os
from collections.abc import Callable, Sequence
from typing import Any, BinaryIO, TypeVar

import jax
from jax import export

from hansa import templates
from hansa.compiler.artifact_error import ArtifactError
from hansa.compiler.artifacts.device import KIND, DeviceStage, client_stage
from hansa.compiler.artifacts.file import Reader, Writer
from hansa.compiler.artifacts.functions import PLATFORMS, Functions
from hansa.compiler.artifacts.load import ProgramDecoder, StoredProgram, functions_of
from hansa.compiler.artifacts.ports import Ports, decode_ports
from hansa.compiler.artifacts.save import ProgramEncoder
from hansa.compiler.artifacts.source import Given
from hansa.compiler.artifacts.version_1 import upgraded
from hansa.language.computation import Computation
from hansa.language.computations import PolymorphicComputation
from hansa.portable.tensors import Refused

T = TypeVar("T")

PROCESSES: dict[str, tuple[str, ...]] = {
    "AggregationProcess": ("initialize", "next"),
    "IterativeProcess": ("initialize", "next"),
    "MeasuredProcess": ("initialize", "next"),
}
"""The classes of `hansa.templates` that can be saved, with the computations that they are made of, in order."""

_CONVENTIONS = (
    export.minimum_supported_calling_convention_version,
    export.maximum_supported_calling_convention_version,
)
"""The oldest and the newest way of calling exported functions that this JAX has; it writes the newest."""

_COMPUTATION = "computation"


def save(
    value: Computation | PolymorphicComputation | templates.IterativeProcess | DeviceStage,
    path: str | os.PathLike[str] | BinaryIO,
    *,
    platforms: Sequence[str] = ("cpu", "cuda", "tpu"),
) -> None:
    """Writes a computation, a process or a device's stage to a file, which `load` reads in any Python process.

    The file has the stages of the computations as StableHLO, for batches of any size and any number of them, and any
    number of clients. The model's code, Keras, TensorFlow and the module that made the computation are not needed to
    run them. A file that is there is replaced; if writing fails, it stays as it was.

    Args:
        value: a computation with declared types, a process, which is saved as the class of `hansa.templates` that it
            is, or a `DeviceStage`.
        path: the file, such as `averaging.hansa`, or one that is open to write bytes. `io.BytesIO()` is one, whose
            `getvalue()` are the bytes then.
        platforms: what to compile for: of "cpu", "cuda", "rocm" and "tpu".

    Raises:
        TypeError: if the value is no such thing, or is a computation without declared types; or if the file is open to
            write text.
        ValueError: if a platform is none.
        ArtifactError: if a part of it cannot be compiled for any size, or for one of the platforms; the message says
            which.
        OSError: if the file cannot be written.

    Examples:
        >>> @hansa.federated_computation("{float32}@CLIENTS")
        ... def average(readings):
        ...     return hansa.federated_mean(readings)
        >>> hansa.save(average, "average.hansa", platforms=["cpu"])
        >>> hansa.load("average.hansa")([1.0, 2.0])
        np.float32(1.5)
    """
    if isinstance(platforms, str) or not platforms:
        raise TypeError(f"platforms is a sequence of names, such as ('cpu', 'cuda'); found {platforms!r}")
    unknown = [name for name in platforms if name not in PLATFORMS]
    if unknown:
        raise ValueError(f"platforms are of {', '.join(PLATFORMS)}; found {unknown[0]!r}")
    _check_target(path)
    writer = Writer()
    if isinstance(value, DeviceStage):
        content = value._encode(writer)
    else:
        template, members = _members(value)
        encoded = {name: ProgramEncoder(member, writer, tuple(platforms)).encode() for name, member in members.items()}
        content = {"kind": template, "programs": encoded}
    hansa = importlib.import_module("hansa")
    made_by = {"hansa": hansa.__version__, "jax": jax.__version__, "calling_convention": _CONVENTIONS[1]}
    writer.write(path, {**made_by, **content})


def load(path: str | os.PathLike[str] | bytes | bytearray | memoryview) -> Any:
    """Reads what `save` has written: a computation, a process of the same class, or a `DeviceStage`.

    It gives the same results as what was saved, on any of the platforms that it was saved for. Large constants, such as
    weights, stay in the file, which stays open, until the first call that needs them.

    Args:
        path: the file, or its bytes. Of bytes that nobody can write into nothing is copied.

    Raises:
        ArtifactError: if the file is no artifact, is damaged, or was written by a newer Hansa. The first call
            raises it, too, if constants are damaged, or the file was changed or cut off after it was loaded.
        TypeError: if it is neither a path nor bytes.
        OSError: if there is no file, or it cannot be read.

    Examples:
        >>> add = hansa.jax_computation(lambda a, b: a + b, "int32", "int32")
        >>> hansa.save(add, "add.hansa")
        >>> print(hansa.load("add.hansa").type_signature)
        (<a=int32,b=int32> -> int32)
    """
    reader = _read(path)
    return _decoded(reader, lambda: _load(reader))


def load_client_stage(
    path: str | os.PathLike[str] | bytes | bytearray | memoryview, number: int = 0, computation: str | None = None
) -> DeviceStage:
    """Reads one client stage of what `save` has written: all that a client's device needs.

    Args:
        path: the file, or its bytes.
        number: which client stage of the computation, from 0.
        computation: which computation of a process; by default `next`.

    Raises:
        ArtifactError, TypeError, OSError: as `load`.
        IndexError, KeyError: if the file has no such stage, or no such computation.

    Examples:
        >>> @hansa.federated_computation("{float32}@CLIENTS")
        ... def average_square(readings):
        ...     return hansa.federated_mean(hansa.federated_map(hansa.jax_computation(jnp.square), readings))
        >>> hansa.save(average_square, "square.hansa", platforms=["cpu"])
        >>> stage = hansa.load_client_stage("square.hansa")
        >>> stage.inputs
        (Port(name='the argument', type=to_type('float32')),)
        >>> stage.work([], [3.0]).contributions
        <<9.0>>
    """
    reader = _read(path)
    name, program = _program(reader, computation)
    count = _decoded(reader, lambda: len(program["clients"]))
    if not 0 <= number < count:
        raise IndexError(
            f"there is no client stage {number} in {name!r} of {reader.name}: it has {count}, numbered from 0"
        )
    return _decoded(reader, lambda: client_stage(program, number, reader))


def load_ports(path: str | os.PathLike[str] | bytes | bytearray | memoryview, computation: str | None = None) -> Ports:
    """What goes into the stages of a saved computation and comes out of them, by name and type.

    No more than the file's manifest is read for it, so this is quick, however large the file is. Nothing else of it has
    been checked.

    Args:
        path: the file, or its bytes.
        computation: which computation of a process; by default `next`.

    Raises:
        ArtifactError, TypeError, OSError: as `load`.
        KeyError: if the file has no such computation.

    Examples:
        >>> @hansa.federated_computation("{float32}@CLIENTS", "float32@SERVER")
        ... def far(readings, limit):
        ...     above = hansa.jax_computation(lambda reading, limit: jnp.float32(reading > limit))
        ...     return hansa.federated_mean(hansa.federated_map(above, [readings, hansa.federated_broadcast(limit)]))
        >>> hansa.save(far, "far.hansa", platforms=["cpu"])
        >>> (stage,) = hansa.load_ports("far.hansa").clients
        >>> [(port.name, port.source) for port in stage.broadcasts + stage.inputs]
        [('limit', ('argument', 1)), ('readings', ('argument', 0))]
        >>> stage.aggregates[0].operation, stage.aggregates[0].result
        ('federated_mean', Port(name='mean', type=to_type('float32')))
    """
    reader = _read(path)
    _, program = _program(reader, computation)
    return _decoded(reader, lambda: decode_ports(program))


def load_program(given: Given, computation: str | None = None) -> StoredProgram:
    """One computation of what `save` has written, for those who run its stages themselves: with ports and their nodes.

    Raises:
        ArtifactError, TypeError, OSError: as `load`.
        KeyError: if the file has no such computation.
    """
    reader = _read(given)
    _, program = _program(reader, computation)

    def decode() -> StoredProgram:
        functions = Functions(reader, list(functions_of(program)))
        decoder = ProgramDecoder(program, reader, functions)
        found = StoredProgram(decoder.decode(), decode_ports(program), decoder.known)
        functions.looked_at()
        return found

    return _decoded(reader, decode)


def _program(reader: Reader, computation: str | None) -> tuple[str, dict[str, Any]]:
    """A computation in a manifest, and its name there."""
    programs = _decoded(reader, lambda: _programs(reader))
    if not programs:
        raise ArtifactError(
            f"{reader.name} has no computations, and so no client stages to take out; it is read by hansa.load"
        )
    name = computation or (next(iter(programs)) if len(programs) == 1 else "next")
    if name not in programs:
        raise KeyError(f"{reader.name} has no computation {name!r}: it has {', '.join(programs)}")
    return name, programs[name]


def _programs(reader: Reader) -> dict[str, dict[str, Any]]:
    """The computations in a manifest, in the form of the newest version."""
    programs = dict(reader.manifest.get("programs", {}))
    if reader.manifest["version"] > 1:
        return programs
    return {name: upgraded(found, reader) for name, found in programs.items()}


def _check_target(path: Any) -> None:
    if not isinstance(path, str | os.PathLike) and (isinstance(path, io.TextIOBase) or not hasattr(path, "write")):
        raise TypeError(
            "hansa.save takes the path of a file, or one that is open to write bytes, such as io.BytesIO() or "
            f"open(…, 'wb'); found {path!r}"
        )


def _members(value: Any) -> tuple[str, dict[str, Computation]]:
    """What a value to be saved is called, and the computations it is made of."""
    if isinstance(value, Computation):
        return _COMPUTATION, {_COMPUTATION: value}
    for kind in type(value).__mro__:
        if kind.__name__ in PROCESSES and kind is getattr(templates, kind.__name__):
            return kind.__name__, {name: getattr(value, name) for name in PROCESSES[kind.__name__]}
    if isinstance(value, PolymorphicComputation):
        raise TypeError(
            f"{value.name!r} has no declared types, so there is no one program to save: declare them in the decorator, "
            f"or save {value.name}.specialize(…) for some"
        )
    raise TypeError(f"hansa.save takes a computation or a process, found {value!r}")


def _read(given: Given) -> Reader:
    """A file whose manifest is whole, and that this JAX can run."""
    reader = Reader(given)
    found, (oldest, newest) = reader.manifest.get("calling_convention"), _CONVENTIONS
    if not isinstance(found, int):
        raise ArtifactError(f"{reader.name} is damaged: it does not say which JAX can run it")
    if not oldest <= found <= newest:
        raise ArtifactError(
            f"{reader.name} was written with JAX {reader.manifest.get('jax')}, whose functions (version {found}) JAX "
            f"{jax.__version__} cannot run (it runs versions {oldest} to {newest}): "
            + ("update JAX" if found > newest else "save it again with a JAX between the two")
        )
    return reader


def _load(reader: Reader) -> Any:
    manifest = reader.manifest
    kind = manifest["kind"]
    if kind == KIND:
        return DeviceStage(manifest["stage"], reader)
    functions = Functions(reader, reader.functions)
    members = {name: ProgramDecoder(found, reader, functions).decode() for name, found in _programs(reader).items()}
    functions.looked_at()
    if kind == _COMPUTATION:
        return members[_COMPUTATION]
    return getattr(templates, kind)(**{name: members[name] for name in PROCESSES[kind]})


def _decoded(reader: Reader, decode: Callable[[], T]) -> T:
    """What is decoded from a file. What goes wrong, but for its entries, is that it does not say what it should."""
    try:
        return decode()
    except ArtifactError:
        raise
    except Refused as error:
        raise ArtifactError(f"{reader.name} has {error}; no file of Hansa's has, and it is not loaded") from error
    except OSError as error:
        raise ArtifactError(f"{reader.name} cannot be looked at, for which Python is started again: {error}") from error
    except Exception as error:
        raise ArtifactError(
            f"{reader.name} is damaged, or was not written by Hansa: {type(error).__name__}: {error}"
        ) from error
