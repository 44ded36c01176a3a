"""Checkpoints: the state after a round in a file, there whole or not at all, with the exact bits of every array.

The file is one of Hansa's artifacts: a ZIP archive with a checksum of each entry, which are all checked before anything
is taken from it. What clients keep is in files beside it (`hansa.program.client_rows`), and so is what no round
changes (`hansa.program.constants`); it names them.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hansa._errors import UserError
from hansa._files import remove_parts, set_aside
from hansa._warnings import warn
from hansa.compiler.artifact_error import ArtifactError
from hansa.compiler.artifacts.file import Reader, Writer
from hansa.compiler.artifacts.types import decode_type, decode_value
from hansa.program.client_rows import Keeping, Segments, beside, segments_of, with_states
from hansa.program.constants import CONSTANTS, Apart, Constants, constants_beside, constants_of
from hansa.types import (
    CLIENTS,
    FederatedType,
    StructType,
    TensorType,
    Type,
    infer_type,
    is_tensor_structure,
    to_value,
)

_KIND = "checkpoint"
_MOST_ROUNDS = 1 << 53
_MOST_TIMES, _SMALL = 64, 1 << 30
"""A state may have so many times the bytes of its file, as arrays that are alike are stored once; a small one, more."""
_NAME = re.compile(r"round-(\d+)\.hansa")


class CheckpointError(UserError):
    """A checkpoint that cannot be used: it is damaged, or of another process.

    Examples:
        >>> hansa.program.load_checkpoint(".")
        Traceback (most recent call last):
            ...
        hansa.program.checkpoints.CheckpointError: . has no checkpoints in a folder `checkpoints`
    """


@dataclass(frozen=True)
class Checkpoint:
    """Where a run stands.

    Attributes:
        round: how many rounds are finished.
        state: the process's state after them.
        saved: what the callbacks remember, by a name for each.
        stopped: the reason for which a callback has stopped the run, if one has.
        run: what `run.json` said, if the checkpoint is of a run with a folder.

    Examples:
        >>> checkpoint = hansa.program.Checkpoint(round=12, state=state)
        >>> checkpoint.round, checkpoint.stopped
        (12, None)
    """

    round: int
    state: Any
    saved: Mapping[str, Any] = field(default_factory=dict)
    stopped: str | None = None
    run: Mapping[str, Any] | None = None


def state_member(kind: Type) -> Type:
    """The type of a state's value, if it can be saved; of what clients keep, that of one client's.

    Raises:
        TypeError: if it is not made of tensors and structs.
    """
    member = _unplaced(kind)
    if not is_tensor_structure(member):
        raise TypeError(f"a state that is saved must be of tensors and structs, found {kind}; leave out run_dir")
    return member


def _unplaced(kind: Type) -> Type:
    if isinstance(kind, StructType):
        return StructType([(name, _unplaced(field)) for name, field in kind.fields], container=kind.container)
    return kind.member if isinstance(kind, FederatedType) else kind


def _kept(kind: Type, path: tuple[int, ...] = ()) -> list[list[int]]:
    """The ways to the parts of a state that clients keep."""
    if isinstance(kind, StructType):
        return [found for i, field in enumerate(kind) for found in _kept(field, (*path, i))]
    listed = isinstance(kind, FederatedType) and kind.placement is CLIENTS and not kind.all_equal
    return [list(path)] if listed else []


def save_checkpoint(path: str | os.PathLike[str], checkpoint: Checkpoint, state_type: Type) -> None:
    """Write a checkpoint to a file. A file that is there is replaced at once.

    What clients keep is written into files in a folder `clients` beside the checkpoint, if it is in none of
    them yet, and is read from there afterwards.

    Args:
        path: the file.
        checkpoint: what it is to hold.
        state_type: the type of the state, which is kept with it.

    Raises:
        OSError: if it cannot be written.

    Examples:
        >>> hansa.program.save_checkpoint("twelve.hansa", hansa.program.Checkpoint(12, state), process.state_type)
        >>> hansa.program.load_checkpoint("twelve.hansa").round
        12
    """
    path = Path(path)
    _save(path, checkpoint, state_type, (), constants_beside(path))


def _save(
    path: Path, checkpoint: Checkpoint, state_type: Type, fixed: Sequence[jax.Array], constants: Constants
) -> None:
    """Writes a checkpoint, and the arrays that are fixed into a file of their own if they are in none yet."""
    writer, saved = Writer(), {}
    keeping, apart = Keeping(beside(path), checkpoint.round), Apart(fixed, constants)
    state = keeping.without(checkpoint.state)
    for name, remembered in checkpoint.saved.items():
        value = keeping.without(remembered)
        kind = infer_type(value, f"what {name} remembers")
        saved[name] = {**apart.encode(to_value(value, kind), kind, writer), **keeping.listed(remembered)}
    manifest = {
        "kind": _KIND,
        "round": checkpoint.round,
        "stopped": checkpoint.stopped,
        "state": {**apart.encode(state, state_member(state_type), writer), **keeping.listed(checkpoint.state)},
        "saved": saved,
        "run": None if checkpoint.run is None else dict(checkpoint.run),
    }
    writer.write(path, manifest)


def load_checkpoint(path: str | os.PathLike[str], state_type: Type | None = None) -> Checkpoint:
    """Read a file of `save_checkpoint`, or the newest whole one of a run's folder.

    Args:
        path: the file, or the folder of a run.
        state_type: the type that the state must have, such as `process.state_type`; by default any.

    Raises:
        CheckpointError: if the file is damaged, or its state has another type, or the folder has no checkpoint.
        OSError: if it cannot be read.

    Examples:
        >>> result = hansa.program.train(process, data, rounds=2, run_dir="runs/first", progress=False)
        >>> checkpoint = hansa.program.load_checkpoint("runs/first", process.state_type)
        >>> checkpoint.round
        2
        >>> state, metrics = process.next(checkpoint.state, data.cohort([0, 1, 2]))
    """
    path = Path(path)
    if path.is_dir():
        found = Checkpoints(path / "checkpoints").newest(state_type)
        if found is None:
            raise CheckpointError(f"{path} has no checkpoints in a folder `checkpoints`")
        return found
    try:
        reader = Reader(path)
        if reader.manifest.get("kind") != _KIND:
            raise CheckpointError(
                f"{path} is no checkpoint, but a saved {reader.manifest.get('kind')!r}: read it by hansa.load"
            )
        found = reader.manifest["state"]
        kind, kept = decode_type(found), [part["at"] for part in found.get("clients", ())]
    except (OSError, CheckpointError):
        raise
    except Exception as error:  # whatever comes of a manifest that is not what was written
        raise CheckpointError(f"{path} cannot be read: {_told(error)}") from error
    if state_type is not None:
        expected = state_member(state_type)
        if expected != kind:
            raise StateTypeError(
                f"{path} is of another process: its state has the type {kind}, and that of this process is {expected}"
            )
        if kept != _kept(state_type):
            raise StateTypeError(
                f"{path} is of another process: its clients keep {len(kept) or 'no'} parts of the state, and those of "
                f"this process {len(_kept(state_type)) or 'none'}"
            )
        kind = expected
    try:
        return _decoded(reader, kind, path)
    except Exception as error:  # as above
        raise CheckpointError(f"{path} does not hold what a checkpoint does: {_told(error)}") from error


def _decoded(reader: Reader, kind: Type, path: Path) -> Checkpoint:
    """The checkpoint in a file at a path, whose state has the type.

    Raises:
        Exception: of any kind, if the manifest or the arrays are not what was written.
    """
    found, constants = reader.manifest, constants_beside(path)
    files = constants_of(found)
    size = reader.size + sum(map(constants.size, files))
    round_number, stopped, run = found["round"], found["stopped"], found.get("run")
    if type(round_number) is not int or not 0 <= round_number < _MOST_ROUNDS:
        raise ValueError(f"its round is {round_number!r}")
    if not isinstance(stopped, str | None) or not isinstance(run, dict | None):
        raise ValueError("it does not say of which run it is, or whether that was stopped")
    kinds = {name: decode_type(value) for name, value in found["saved"].items()}
    whole = sum(_bytes(each) for each in (kind, *kinds.values()))
    if whole > max(_SMALL, _MOST_TIMES * size):
        raise ValueError(f"its types are of {whole:,} bytes, and the file has {size:,}")
    # On CPUs JAX takes the memory into which they are read.
    with jax.enable_x64(True):
        arrays = {name: list(map(jax.device_put, constants.load(name))) for name in files}
    given = (reader, beside(path), arrays)
    saved = {name: _decode(found["saved"][name], each, *given) for name, each in kinds.items()}
    return Checkpoint(round_number, _decode(found["state"], kind, *given), saved, stopped, run)


def _bytes(kind: Type) -> int:
    return sum(
        math.prod(size or 0 for size in part.shape) * np.dtype(part.dtype).itemsize
        for part in kind.components()
        if isinstance(part, TensorType)
    )


def _told(error: Exception) -> str:
    return str(error) if isinstance(error, ArtifactError) else f"{type(error).__name__}: {error}"


class StateTypeError(CheckpointError, TypeError):
    """A checkpoint whose state has another type than the process's."""


class Checkpoints:
    """A folder of checkpoints of one run, `round-00000012.hansa` after twelve rounds.

    Args:
        folder: the folder, which is made when the first one is written.
        keep: how many to keep, the newest; more than one, so that there is another if one is damaged.
        every: those of rounds that are multiples of this are kept, too.
    """

    def __init__(self, folder: Path, keep: int = 2, every: int | None = None) -> None:
        self._folder, self._keep, self._every = folder, keep, every
        self._segments = beside(folder / "round-00000000.hansa")
        self._constants = Constants(folder / CONSTANTS)
        self._named: dict[Path, tuple[set[str], set[str]]] = {}

    def save(self, checkpoint: Checkpoint, state_type: Type, fixed: Sequence[jax.Array] = ()) -> None:
        """Write one, and remove those that are not kept. Arrays that are fixed are written once for all."""
        self._folder.mkdir(exist_ok=True)
        path = self._folder / f"round-{checkpoint.round:08d}.hansa"
        self._named.pop(path, None)
        _save(path, checkpoint, state_type, fixed, self._constants)
        self._remove_old()

    def newest(self, state_type: Type | None) -> Checkpoint | None:
        """The newest that can be used, with a warning for each that cannot; None if there is none at all.

        Raises:
            CheckpointError: if there are some and none can be used.
        """
        problems: list[Exception] = []
        paths = self._paths()
        while paths:
            path = paths.pop()
            try:
                found = load_checkpoint(path, state_type)
                if found.round != _number(path):
                    raise CheckpointError(f"{path} is the checkpoint of round {found.round}, by another name")
            except (CheckpointError, OSError) as error:
                if not os.path.lexists(
                    path
                ):  # the process that trains has removed it meanwhile, as there are newer ones
                    problems, paths = [], self._paths()
                elif isinstance(error, CheckpointError):
                    problems.append(error)
                else:
                    problems.append(CheckpointError(f"{path} cannot be read: {error.strerror or error}"))
            else:
                for problem in problems:
                    warn(f"{problem}; the checkpoint before it is used")
                return found
        for problem in problems:
            if isinstance(problem, StateTypeError):
                raise problem
        if problems:
            raise CheckpointError(
                f"none of the checkpoints in {self._folder} can be read, the newest because {problems[0]}; a new run "
                "begins in another folder"
            )
        return None

    def clean(self, round_number: int) -> None:
        """Remove what was left of writing and removing, and put aside damaged checkpoints of later rounds."""
        if self._folder.is_dir():
            remove_parts(self._folder)
            for path in self._paths():
                if _number(path) > round_number:
                    set_aside(path)
            self._remove_old()

    def _remove_old(self) -> None:
        for path in self._paths()[: -self._keep]:
            kept = self._every is not None and _number(path) % self._every == 0
            if not kept and (path.is_symlink() or not path.is_dir()):
                path.unlink(missing_ok=True)
        self._remove_unnamed()

    def _remove_unnamed(self) -> None:
        """Remove what clients kept and constants, but for what a checkpoint names; nothing, if one does not say it."""
        if not self._segments.exist() and not self._constants.exist():
            return
        paths = self._paths()
        for path in paths:
            if path not in self._named:
                try:
                    manifest = Reader(path).manifest
                    self._named[path] = segments_of(manifest), constants_of(manifest)
                except Exception:  # whatever comes of a file that is damaged
                    return
        self._named = {path: self._named[path] for path in paths}
        self._segments.clean(name for names, _ in self._named.values() for name in names)
        self._constants.clean(name for _, names in self._named.values() for name in names)

    def _paths(self) -> list[Path]:
        if not os.path.isdir(self._folder):
            return []
        try:
            names = os.listdir(self._folder)
        except OSError as error:
            raise CheckpointError(f"{self._folder} cannot be read: {error.strerror or error}") from error
        return sorted((self._folder / name for name in names if _NAME.fullmatch(name)), key=_number)


def _number(path: Path) -> int:
    found = _NAME.fullmatch(path.name)
    assert found is not None
    return int(found[1])


def _decode(
    found: dict[str, Any], kind: Type, reader: Reader, segments: Segments, constants: Mapping[str, list[jax.Array]]
) -> Any:
    """The value, in the kinds of arrays that it was in: JAX's, NumPy's, NumPy's scalars."""
    leaves, tree = jax.tree.flatten(decode_value(found["value"], kind, reader))
    apart = found.get("constants", {"file": "", "at": []})
    for place, number in apart["at"]:
        leaves[place] = constants[apart["file"]][number]
    with jax.enable_x64(True):
        restored = [
            jnp.asarray(leaf) if on_device else leaf.copy() if isinstance(leaf, np.ndarray) else leaf
            for leaf, on_device in zip(leaves, found["on_device"], strict=True)
        ]
    value = jax.tree.unflatten(tree, restored)
    if not kind.is_assignable_from(infer_type(value)):
        raise ValueError(f"a value of the type {infer_type(value)} in place of {kind}")
    for part in found.get("clients", ()):
        value = with_states(value, kind, part["at"], part, segments)
    return value
