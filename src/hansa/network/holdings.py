"""What a device has: its client's examples, or single values, by name. They never leave it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hansa.compiler.artifacts.device import DeviceStage
from hansa.compiler.artifacts.ports import Port
from hansa.network.orders import Order
from hansa.simulation.data_plan import DataPlan, PlanError
from hansa.types import SequenceType, Struct, StructType, Type, to_value


class RefusedError(Exception):
    """The device does not do what it is asked for. The message says why, to the coordinator too."""


class Holdings:
    """The arrays of one client.

    Args:
        arrays: by name: examples `[examples, ...]`, or values.
    """

    def __init__(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        self._arrays = dict(arrays)

    @classmethod
    def read(cls, path: Path) -> Holdings:
        """The arrays of a file `.npz`, of which none is an object of Python."""
        with np.load(path, allow_pickle=False) as file:
            return cls({name: file[name] for name in file.files})

    @property
    def size(self) -> int:
        """Bytes of all arrays."""
        return sum(np.asarray(array).nbytes for array in self._arrays.values())

    def check(self, stage: DeviceStage, order: Order) -> None:
        """Looks whether the client has what a stage takes of it, by its types alone.

        Args:
            stage: the stage.
            order: the task.

        Raises:
            RefusedError: if it has nothing of the kind; the message says what.
        """
        for port, source in zip(stage.inputs, order.inputs, strict=True):
            if source[:1] != ("argument",):
                continue
            if isinstance(port.type, SequenceType):
                first = {name: np.asarray(array)[:1] for name, array in self._arrays.items() if np.ndim(array)}
                Holdings(first).value(port, order)
            else:
                self.value(port, order)

    def value(self, port: Port, order: Order) -> Any:
        """What a stage takes of this client.

        Args:
            port: its name and type. A sequence is made of the examples, by the order's plan. Anything else is the array
                of that name, a struct of those of its fields' names, or the one array that there is.
            order: the task.

        Raises:
            RefusedError: if the client has nothing of the kind.
        """
        try:
            if isinstance(port.type, SequenceType):
                return self._batches(port, order)
            return to_value(self._of(port.name, port.type), port.type, port.name)
        except (TypeError, ValueError) as error:
            raise RefusedError(f"the data here is none for {port.name!r} of type {port.type}: {error}") from None

    def _batches(self, port: Port, order: Order) -> Any:
        if order.plan is None:
            raise RefusedError(
                f"the task does not say what batches are made of the examples for {port.name!r}: the coordinator gives "
                "a plan, devices(data=population.plan())"
            )
        try:
            plan = DataPlan.from_json(order.plan)
        except PlanError as error:
            raise RefusedError(str(error)) from None
        element = port.type.element  # type: ignore[attr-defined]
        if not element.is_assignable_from(plan.example_type):
            raise RefusedError(f"the plan makes batches of {plan.example_type}, and {port.name!r} is of {element}")
        return plan.batches(self._arrays, order.client_id, order.key.round, number=order.number)

    def _of(self, name: str, kind: Type) -> Any:
        if isinstance(kind, StructType) and name not in self._arrays:
            return Struct((field, self._of(str(field), part)) for field, part in kind.fields)
        if name not in self._arrays and len(self._arrays) == 1:
            return next(iter(self._arrays.values()))
        if name not in self._arrays:
            have = ", ".join(map(repr, self._arrays)) or "nothing"
            raise ValueError(f"there is no {name!r}; the client has {have}")
        return self._arrays[name]


def batch_rows(order: Order) -> int | None:
    """How many rows batches are computed with: as many as in a simulation of the same plan."""
    capacity = None if order.plan is None else order.plan.get("batch_capacity")
    return capacity if isinstance(capacity, int) else None
