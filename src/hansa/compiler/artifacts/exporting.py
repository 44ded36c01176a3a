"""From functions of arrays to entries of a file: StableHLO, by `jax.export`, for arguments of any size.

Hansa writes nothing that it would not read: what it has exported is looked at as a file of a stranger is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export as jax_export
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun

from hansa.compiler.artifact_error import ArtifactError
from hansa.compiler.artifacts.file import Writer
from hansa.compiler.artifacts.functions import look_at
from hansa.compiler.boundary import Symbols, avals
from hansa.compiler.evaluate import sequence_elements
from hansa.compiler.rewrites import faster
from hansa.compiler.sequences import Aval, NeedsSizes
from hansa.portable.tensors import Refused
from hansa.types import TensorType, Type


class Exporter:
    """Exports the functions of one program.

    Args:
        name: the program's, for messages.
        writer: takes the functions and arrays.
        platforms: what to compile for, as in `jax.export`.
    """

    def __init__(self, name: str, writer: Writer, platforms: tuple[str, ...]) -> None:
        self._name, self._writer, self._platforms = name, writer, platforms

    def any_size(
        self,
        name: str,
        function: Callable[..., list[Any]],
        kinds: Sequence[Type],
        before: Sequence[Aval] = (),
        stacked: tuple[Sequence[bool], int | None] | None = None,
    ) -> tuple[dict[str, Any], list[Aval]]:
        """`export`, for arguments `before` and then the arrays of types whose unknown sizes may be any.

        With `stacked`, it is for so many clients, or for any number: these of the arrays are stacks then, and so are
        all results.

        Each unknown size is one of its own, if the function can be traced so, or the same on the same axis of all.
        """
        try:
            unknown = _count_unknown(kinds)
            raised: Exception | None = None
            for shared in (False, True) if unknown > 1 else (False,):
                symbols = Symbols(shared)
                try:
                    arguments = [*before, *(aval for kind in kinds for aval in avals(kind, symbols))]
                    if stacked is None:
                        return self.export(name, function, arguments)
                    own, number = stacked
                    clients = symbols.new() if number is None else number
                    stacks = [
                        Aval((clients, *aval.shape), aval.dtype) if is_own else aval
                        for aval, is_own in zip(arguments, own, strict=True)
                    ]
                    axes = tuple(0 if is_own else None for is_own in own)
                    return self.export(name, jax.vmap(function, axes), stacks)
                except ArtifactError:
                    raise
                except Exception as error:
                    raised = raised or error
            assert raised is not None
            raise raised
        except ArtifactError:
            raise
        except NeedsSizes as error:
            raise ArtifactError(
                f"{self._name!r} cannot be saved: {error}. A file holds programs for batches of every size, so "
                "write the function for any: without `if` on a size, and with operations along the batch that Hansa "
                "knows"
            ) from error
        except Exception as error:
            raise ArtifactError(
                f"{self._name!r} cannot be saved: {name} cannot be compiled for data of every size: "
                f"{type(error).__name__}: {error}"
            ) from error

    def export(
        self, name: str, function: Callable[..., list[Any]], arguments: Sequence[Aval]
    ) -> tuple[dict[str, Any], list[Aval]]:
        """A function as an entry, with the arrays it closes over as others, and the shapes of its results."""
        with jax.enable_x64(True):
            closed = faster(jax.make_jaxpr(function)(*arguments), portable=True)
            constants, restore = zip(*map(_plain, closed.consts), strict=True) if closed.consts else ((), ())

            def run(*arrays: Any) -> list[Any]:
                consts = [put(array) for put, array in zip(restore, arrays, strict=False)]
                return list(jaxpr_as_fun(ClosedJaxpr(closed.jaxpr, consts))(*arrays[len(consts) :]))

            run.__name__ = "".join(letter if letter.isalnum() else "_" for letter in name)
            shapes = [jax.ShapeDtypeStruct(array.shape, array.dtype) for array in constants]
            try:
                with _without_source_lines():
                    exported = jax_export.export(jax.jit(run), platforms=self._platforms)(*shapes, *arguments)
                data = bytes(exported.serialize())
                look_at(exported)
            except Refused as error:
                raise ArtifactError(
                    f"{self._name!r} cannot be saved: {name} has {error}, which no file may have; write it "
                    "with other operations"
                ) from error
            except Exception as error:
                raise ArtifactError(
                    f"{self._name!r} cannot be saved: {name} cannot be exported for "
                    f"{', '.join(self._platforms)}: {error}"
                ) from error
        entry = {"entry": self._writer.function(data), "constants": [self._writer.array(a) for a in constants]}
        return entry, [jax.ShapeDtypeStruct(aval.shape, aval.dtype) for aval in closed.out_avals]


@contextmanager
def _without_source_lines() -> Iterator[None]:
    """StableHLO that does not say which files and lines it comes from: a file is for other people's machines."""
    name = "jax_traceback_in_locations_limit"
    before = getattr(jax.config, name)
    jax.config.update(name, 0)
    try:
        yield
    finally:
        jax.config.update(name, before)


def _plain(constant: Any) -> tuple[Any, Callable[[Any], Any]]:
    """A constant as an array that NumPy has, and how to make it of that."""
    if jnp.issubdtype(constant.dtype, jax.dtypes.prng_key):
        kind = jax.random.key_impl(constant)
        return np.asarray(jax.random.key_data(constant)), lambda data: jax.random.wrap_key_data(data, impl=kind)
    return np.asarray(constant), lambda data: data


def _count_unknown(kinds: Iterable[Type]) -> int:
    """How many sizes of tensors are unknown, those in sequences apart."""
    plain = [part for kind in kinds if not sequence_elements(kind) for part in kind.components()]
    return sum(part.shape.count(None) for part in plain if isinstance(part, TensorType))
