"""A call before anything is computed: who takes part, and how much work each client has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hansa.language.computation import Computation
from hansa.runtimes.arguments import settle, survey
from hansa.runtimes.client_sizes import check_client_sizes


@dataclass(frozen=True)
class Call:
    """One call of a computation. Of the clients' data nothing has been read, but for iterators.

    Attributes:
        argument: what the caller passed, with iterators read into lists.
        what: how messages name it.
        ids: the clients' numbers, [clients].
        client_ids: who they are, [clients]; their positions, where the data does not say it.
        work: what each client's data costs, as far as is known, at least 1; int64 [clients].
        on_disk: the size of what is to be read from disk, in bytes.
    """

    argument: Any
    what: str
    ids: npt.NDArray[Any]
    client_ids: npt.NDArray[Any]
    work: npt.NDArray[np.int64]
    on_disk: int

    @classmethod
    def of(cls, computation: Computation, argument: Any, default_num_clients: int = 0) -> Call:
        """A call of a computation with an argument.

        Raises:
            TypeError, ValueError: if the argument does not say who takes part as its type asks.
        """
        kind, what = computation.type_signature.parameter, f"the argument of {computation.name!r}"
        cohort = survey(kind, argument, what)
        argument = settle(kind, argument, what, cohort)
        check_client_sizes(kind, argument, what)
        size = default_num_clients if cohort.size is None else cohort.size
        ids = np.arange(size, dtype=np.int32) if cohort.ids is None else cohort.ids
        client_ids = np.arange(size) if cohort.client_ids is None else cohort.client_ids
        work = np.ones(size, np.int64) if cohort.work is None else cohort.work
        return cls(argument, what, ids, client_ids, work, cohort.on_disk)

    @property
    def own(self) -> dict[str, npt.NDArray[Any]]:
        """What there is for each client that is no part of the argument: see `hansa.language.runtime_values`."""
        return {"client_id": self.ids}

    @property
    def size(self) -> int:
        """How many clients take part."""
        return len(self.ids)
