"""A module with its loss as `hansa.aten` exports it: called with the tensors of a batch, and returning tensors.

A graph is for batches of every size, where there is one; where the module asks for the size, there is one for each.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import torch
from jax import export as jax_export
from torch import nn

from hansa import aten
from hansa.aten.export import addresses, export
from hansa.aten.refusals import NotExportable
from hansa.language.local import NotCompilable, tensors
from hansa.types import StructType, Type

Call = Callable[[nn.Module, Any], Any]
"""(module, batch) -> (loss, predictions)."""


class NotSized(Exception):
    """There is no graph for batches of every size, but one for each."""


@dataclass(frozen=True)
class _Exported:
    """A graph, and how its results after the loss are put together."""

    graph: aten.Graph
    predictions: Any


class ModuleFunction:
    """A module with its loss, as a function of weights and a batch.

    Args:
        module: the module. Copies of it are exported, in training as it is or as `train()` makes it, and in inference.
        call: gives the loss and the predictions.
        kind: the type of a batch of any size.
        name: what messages call the module.
    """

    def __init__(self, module: nn.Module, call: Call, kind: Type, name: str) -> None:
        self._given = module
        own = copy.deepcopy(module).cpu()
        self._modes = {True: own if module.training else copy.deepcopy(own).train(), False: copy.deepcopy(own).eval()}
        self._call, self._kind, self._name = call, kind, name
        self._types = [((None, *leaf.shape[1:]), torch_dtype(leaf.dtype)) for leaf in tensors(kind)]
        self._exported: dict[tuple[bool, int | None], _Exported] = {}
        self._of_any_size: dict[bool, bool] = {}

    def __call__(
        self, weights: Mapping[str, Any], batch: Sequence[Any], training: bool, key: Any
    ) -> tuple[Any, Any, dict[str, Any]]:
        """The loss, the predictions, and the buffers that were assigned, by name.

        Args:
            weights: the parameters and buffers, under each of their names.
            batch: the batch's arrays, perhaps of symbolic size.
            training: whether it is the module in training.
            key: a JAX random key.
        """
        found = self._for(training, batch[0].shape[0])
        try:
            (loss, *rest), assigned = found.graph(weights, batch, key)
        except aten.Unsupported as error:
            raise NotCompilable(f"the PyTorch module {self._name!r} uses {error}, which Hansa does not have") from None
        return loss, jax.tree.unflatten(found.predictions, rest), assigned

    def used(self) -> set[str]:
        """The names of the weights that the module in training uses."""
        size = None if self.for_every_size(True) else _SOME
        graph = self._of(True, size).graph
        return {source.name for source in _inputs_of(graph.steps, graph) if source.kind == "weight"}

    def for_every_size(self, training: bool) -> bool:
        """Whether there is one graph for batches of every size.

        Raises:
            NotCompilable: if there is none for a single size either.
        """
        if training not in self._of_any_size:
            try:
                self._of(training, None)
                self._of_any_size[training] = True
            except NotExportable:
                self._checked(training)
                self._of_any_size[training] = False
        return self._of_any_size[training]

    def _checked(self, training: bool) -> None:
        try:
            self._of(training, _SOME)
        except NotExportable as error:
            raise NotCompilable(f"the PyTorch module {error}") from error

    def _for(self, training: bool, size: Any) -> _Exported:
        if self.for_every_size(training):
            return self._of(training, None)
        if jax_export.is_symbolic_dim(size):
            raise NotSized(f"the PyTorch module {self._name!r} is another graph for each size of a batch")
        return self._of(training, int(size))

    def _of(self, training: bool, size: int | None) -> _Exported:
        key = (training, size)
        if key not in self._exported:
            noted: list[Any] = []
            step = _Step(self._modes[training], self._kind, self._call, self._name, noted)
            graph = export(step, self._types, size, self._name, addresses(self._given))
            if training:
                self._check_buffers(graph)
            self._exported[key] = _Exported(graph, noted[-1])
        return self._exported[key]

    def _check_buffers(self, graph: aten.Graph) -> None:
        """Refuses what a batch would leave for the next one in a buffer that is none of the weights."""
        assigned = {one.name for one in graph.assigned}
        for source in _inputs_of((*graph.steps, *graph.results, *graph.assigned), graph):
            if source.kind == "constant" and source.name in assigned:
                raise NotExportable(
                    f"{self._name!r} assigns its buffer {source.name!r} and reads what an earlier batch has put there, "
                    "but the buffer is not in the state_dict, so that no value of it is kept: register it with "
                    "persistent=True"
                )


_SOME = 5


class _Step(nn.Module):  # type: ignore[misc] # which mypy does not look at
    """A module with its loss, called with the tensors of a batch one after another.

    Args:
        module: the module.
        kind: the type of a batch.
        call: gives the loss and the predictions.
        name: what messages call the module.
        noted: how the predictions are put together is put in there; attributes are again as before after an export.
    """

    def __init__(self, module: nn.Module, kind: Type, call: Call, name: str, noted: list[Any]) -> None:
        super().__init__()
        self.module = module
        self._kind, self._call, self._name = kind, call, name
        self._note = noted.append

    def forward(self, *leaves: Any) -> list[Any]:
        """The loss, and the tensors of the predictions."""
        given = leaves[0] if len(leaves) == 1 and isinstance(leaves[0], tuple | list) else leaves
        before = dict(self.module.named_buffers())
        found = self._call(self.module, structured(self._kind, iter(given)))
        _assign_in_place(self.module, before)
        loss, predictions = found if isinstance(found, tuple | list) and len(found) == 2 else (found, None)
        self._check(loss)
        flat, tree = jax.tree.flatten(_plain(predictions))
        self._note(tree)
        return [loss, *flat]

    def _check(self, loss: Any) -> None:
        if not isinstance(loss, torch.Tensor) or not loss.is_floating_point():
            raise NotExportable(
                f"{self._name!r} has a loss that is {type(loss).__name__}; it must be a tensor of a float, such as "
                "that of torch.nn.CrossEntropyLoss()"
            )
        if loss.ndim:
            raise NotExportable(
                f"{self._name!r} has a loss with {loss.ndim} axes; take the mean over the examples, as with "
                "reduction='mean' or loss.mean()"
            )


def _assign_in_place(module: nn.Module, before: Mapping[str, torch.Tensor]) -> None:
    """Lets what a forward pass has put in the place of a buffer be a value of that buffer, which an export notices."""
    for name, buffer in list(module.named_buffers()):
        old = before.get(name)
        if old is not None and old is not buffer:
            path, _, own = name.rpartition(".")
            old.copy_(buffer.detach())
            module.get_submodule(path)._buffers[own] = old


def structured(kind: Type, leaves: Iterator[Any]) -> Any:
    """Tensors in the structure of a type: a dict where fields have names, else a tuple."""
    if not isinstance(kind, StructType):
        return next(leaves)
    values = [structured(part, leaves) for part in kind]
    return tuple(values) if None in kind.names else dict(zip(kind.names, values, strict=True))


def _plain(value: Any) -> Any:
    """Predictions in dicts and tuples, also those of Hugging Face's outputs."""
    if isinstance(value, Mapping):
        return {str(name): _plain(part) for name, part in value.items() if part is not None}
    if isinstance(value, tuple | list):
        return tuple(_plain(part) for part in value)
    return value


def torch_dtype(dtype: Any) -> torch.dtype:
    """The type in which a module is given an array. Integers are PyTorch's own, which its labels and indices must be;
    floats are of 32 bits, in which they are computed."""
    name = {"int32": "int64", "uint32": "int64", "float64": "float32"}.get(dtype.name, dtype.name)
    found = getattr(torch, name, None)
    if not isinstance(found, torch.dtype):
        raise TypeError(f"PyTorch has no tensors of the type {dtype.name}: cast the array to another one")
    return found


def _inputs_of(parts: Sequence[Any], graph: aten.Graph) -> list[aten.Input]:
    """The inputs of a graph that some of its steps or results refer to."""
    numbers = set(_numbers([(part.args, dict(part.kwargs)) if isinstance(part, aten.Step) else part for part in parts]))
    return [source for number, source in enumerate(graph.inputs) if number in numbers]


def _numbers(value: Any) -> Iterator[int]:
    """The numbers of the values that an argument refers to."""
    if isinstance(value, aten.Ref):
        yield value.number
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _numbers(part)
    elif isinstance(value, dict):
        yield from _numbers(list(value.values()))
    elif isinstance(value, aten.Assigned):
        yield from _numbers(value.value)
