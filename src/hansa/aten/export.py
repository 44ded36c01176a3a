"""Graphs of PyTorch modules, by `torch.export`. This is the one place that calls PyTorch."""

from __future__ import annotations

import logging
import math
import operator
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import jax.numpy as jnp
import torch
from torch.export.graph_signature import InputKind, OutputKind

from hansa.aten.graph import Assigned, Graph, Input, Ref, Step
from hansa.aten.places import where
from hansa.aten.refusals import NotExportable, missing, outer, refusal
from hansa.aten.rows import keep_rows_apart
from hansa.aten.table import Operation, find

NARROW = {"int64": "int32", "uint64": "uint32", "float64": "float32", "complex128": "complex64"}
"""What 64-bit types are computed in."""

_SIZE = 5  # of the batch that a module is exported with: none that a model asks for
_CHECKS = {"_assert_scalar", "_assert_async", "_assert_tensor_metadata", "sym_constrain_range_for_size",
           "sym_constrain_range"}  # fmt: skip
_OF_NUMBERS: dict[Any, Any] = {
    **{getattr(operator, name): getattr(operator, name) for name in
       ("add", "sub", "mul", "floordiv", "truediv", "mod", "neg", "pow", "getitem", "eq", "ne", "lt", "le", "gt",
        "ge")},
    torch.sym_max: max, torch.sym_min: min, torch.sym_int: int, torch.sym_float: lambda x: x,
    torch.sym_not: operator.not_,
    math.ceil: math.ceil, math.floor: math.floor, math.trunc: math.trunc,
}  # fmt: skip
"""Python's operations on sizes, and on lists of results."""


def export(
    module: torch.nn.Module,
    types: Sequence[tuple[tuple[Any, ...], Any]],
    size: int | None,
    name: str,
    original: Mapping[int, str],
) -> Graph:
    """The graph of a module that is called with the tensors of a batch, one after another.

    Args:
        module: in the mode that the graph is to be of; it returns a list of tensors.
        types: the shapes and dtypes of the tensors, None for the number of examples.
        size: that number, or None for a graph of batches of every size.
        name: what messages call the module.
        original: the names of the tensors of the module that `module` is a copy of, by their addresses: those are not
            to be used.

    Raises:
        NotExportable: if there is no such graph, or an operation in it is not in the table, or it uses a tensor of
            the original.
    """
    with _quiet(), _without_layers(), _noticing_functions() as functions, torch.enable_grad():
        given = [
            torch.zeros([(_SIZE if size is None else size) if n is None else n for n in shape], dtype=dtype)
            for shape, dtype in types
        ]
        batch = torch.export.Dim("batch", min=1)
        shapes = tuple({0: batch} if size is None and shape[:1] == (None,) else None for shape, _ in types)
        try:
            program = torch.export.export(module, tuple(given), dynamic_shapes=(shapes,), strict=False)
            _stop_gradients(program.graph_module.graph)
            program = program.run_decompositions(_decompositions())
        except Exception as error:
            raise refusal(name, error) from error
    if functions:
        raise NotExportable(
            f"{name!r} uses the torch.autograd.Function {', '.join(sorted(functions))}, whose backward pass is no part "
            "of a graph: write it with PyTorch's operations (x + (y - x).detach() has the value of y and the gradient "
            "of x)"
        )
    taken = [original[t.data_ptr()] for t in program.constants.values() if _address(t) in original]
    if taken:
        raise outer(name, taken)
    return _graph(program, name)


def _address(value: Any) -> int | None:
    return value.data_ptr() if isinstance(value, torch.Tensor) and value.numel() else None


def addresses(module: torch.nn.Module) -> dict[int, str]:
    """The names of the parameters and buffers of a module, by the addresses of their memory."""
    found = {_address(tensor): name for name, tensor in [*module.named_parameters(), *module.named_buffers()]}
    return {address: name for address, name in found.items() if address}


def _decompositions() -> Any:
    """What is to be taken apart: operations that the table does not have."""
    table = torch.export.default_decompositions()
    for overload in list(table):
        if find(_name(overload)) is not None:
            table.pop(overload)
    return table


def _stop_gradients(graph: Any) -> None:
    """Lets no gradient pass out of `torch.no_grad()`, of which taking a graph apart loses all trace."""
    for node in list(graph.nodes):
        if str(node.target) == "wrap_with_set_grad_enabled" and node.args[0] is False:
            for part in [user for user in node.users if user.target is operator.getitem]:
                with graph.inserting_after(part):
                    stopped = graph.call_function(torch.ops.aten.detach.default, (part,))
                stopped.meta = dict(part.meta)
                part.replace_all_uses_with(stopped, delete_user_cb=lambda user, own=stopped: user is not own)


def _graph(program: Any, name: str) -> Graph:
    signature = program.graph_signature
    graph = program.graph_module.graph
    for node in reversed(list(graph.nodes)):
        if _name(node.target).partition(".")[0] in _CHECKS and not node.users:
            graph.erase_node(node)
    graph.eliminate_dead_code()
    keep_rows_apart(graph)
    numbers: dict[Any, Ref] = {}
    inputs: list[Input] = []
    steps: list[Step] = []
    unknown: list[tuple[str, str]] = []
    results: Sequence[Any] = ()
    specs = iter(signature.input_specs)
    for node in graph.nodes:
        if node.op == "placeholder":
            numbers[node] = Ref(len(inputs))
            inputs.append(_input(next(specs), program))
        elif node.op == "call_function":
            called = _name(node.target)
            known = Operation(_OF_NUMBERS[node.target]) if node.target in _OF_NUMBERS else find(called)
            if known is None:
                unknown.append((called, where(node)))
                continue
            numbers[node] = Ref(len(inputs) + len(steps))
            args, kwargs = _argument(node.args, numbers), _argument(dict(node.kwargs), numbers)
            kept = {key: value for key, value in kwargs.items() if key not in _STORAGE}
            steps.append(Step(called, known, args, kept, _dtype_of(node.meta.get("val")), where(node)))
        elif node.op == "output":
            results = node.args[0]
        else:
            unknown.append((str(node.target), where(node)))
    if unknown:
        raise missing(name, unknown)
    pairs = [(spec, _argument(value, numbers)) for spec, value in zip(signature.output_specs, results, strict=True)]
    for spec, _ in pairs:
        if spec.kind == OutputKind.PARAMETER_MUTATION:
            raise NotExportable(
                f"{name!r} assigns its parameter {_own(spec.target)!r} in forward, as only an optimizer may: make it "
                "a buffer, self.register_buffer(…)"
            )
    return Graph(
        inputs,
        steps,
        [value for spec, value in pairs if spec.kind == OutputKind.USER_OUTPUT],
        [Assigned(_own(spec.target), value) for spec, value in pairs if spec.kind == OutputKind.BUFFER_MUTATION],
    )


_STORAGE = {"device", "layout", "pin_memory", "memory_format", "non_blocking", "generator", "copy", "requires_grad"}


def _input(spec: Any, program: Any) -> Input:
    if spec.kind == InputKind.USER_INPUT:
        return Input("batch")
    found = program.constants.get(spec.target)
    if spec.kind in (InputKind.PARAMETER, InputKind.BUFFER) and not (found is not None and spec.persistent is False):
        return Input("weight", _own(spec.target))
    return Input("constant", _own(spec.target) if spec.kind == InputKind.BUFFER else "", to_array(found))


def _own(target: str) -> str:
    """The name in the user's module, which is the field `module` of what is exported."""
    return target.removeprefix("module.")


def _argument(value: Any, numbers: dict[Any, Ref]) -> Any:
    """An argument as plain data."""
    if isinstance(value, torch.fx.Node):
        return numbers.get(value)
    if isinstance(value, list | tuple):
        return type(value)([_argument(part, numbers) for part in value])
    if isinstance(value, dict):
        return {name: _argument(part, numbers) for name, part in value.items()}
    if isinstance(value, torch.dtype):
        return dtype_name(value)
    return None if isinstance(value, torch.device | torch.layout | torch.memory_format) else value


def _name(target: Any) -> str:
    """The name of an operation with its overload, such as `add.Tensor`."""
    packet = getattr(target, "overloadpacket", None)
    if packet is None:
        return str(getattr(target, "__name__", target))
    overload = getattr(target, "_overloadname", "default")
    return str(packet.__name__) if overload == "default" else f"{packet.__name__}.{overload}"


def dtype_name(dtype: Any) -> str:
    """The name of a PyTorch dtype, in 32 bits."""
    name = str(dtype).removeprefix("torch.")
    return NARROW.get(name, name)


def _dtype_of(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return dtype_name(value.dtype)
    return [_dtype_of(part) for part in value] if isinstance(value, list | tuple) else None


def to_array(tensor: Any) -> Any:
    """A copy of a tensor as an array of NumPy, in 32 bits."""
    own = tensor.detach().cpu()
    if own.dtype == torch.bfloat16:
        return own.float().numpy().astype(jnp.bfloat16)
    array = own.numpy()
    return array.astype(NARROW.get(array.dtype.name, array.dtype.name), copy=True)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without PyTorch's advice: what of it concerns the user is told in an error."""
    loggers = [logging.getLogger(name) for name in list(logging.root.manager.loggerDict) if name.startswith("torch")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


@contextmanager
def _without_layers() -> Iterator[None]:
    """Without the operations that stand for whole layers of a transformer in inference; and `pack_padded_sequence`
    fails where it is called, not in the layer that is given what it returns."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    torch._VF._pack_padded_sequence = _packs
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
        del torch._VF._pack_padded_sequence  # of a module that finds in another one what it has not itself


def _packs(*args: Any, **kwargs: Any) -> Any:
    raise NotImplementedError("packed sequences")


@contextmanager
def _noticing_functions() -> Iterator[set[str]]:
    """The names of the `torch.autograd.Function`s that are called."""
    found: set[str] = set()
    # What `apply` calls, which may be a bound method from before.
    base = torch.autograd.function._SingleLevelFunction

    def apply(cls: Any, *args: Any, **kwargs: Any) -> Any:
        if not cls.__module__.startswith("torch."):
            found.add(cls.__name__)
        return super(base, cls).apply(*args, **kwargs)

    base.apply = classmethod(apply)
    try:
        yield found
    finally:
        del base.apply
