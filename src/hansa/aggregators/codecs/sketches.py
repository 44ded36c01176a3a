"""The codec of count sketches."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from hansa.aggregators.checks import check_share, check_whole
from hansa.aggregators.codecs.codec import Codec
from hansa.aggregators.codecs.sparse import number_of


def sketched(rows: int = 5, columns: int = 1024, *, keep: float | None = None, seed: int = 0) -> Codec:
    """A count sketch: sums of the numbers, each with a random sign and in a random column, in several rows (Charikar et
    al. 2002, "Finding frequent items in data streams", section 3).

    Number i is added, with the sign s_r(i), to column h_r(i) of each row r. Its estimate is the median over rows of the
    columns where it is, with the sign. Signs and columns are 2-wise independent functions of the place (Dietzfelbinger
    1996: multiply, add, shift). The error is at most 3 |x|_2 / sqrt(columns) with high probability in the rows.

    Args:
        rows: how many, each with functions of its own.
        columns: how many sums there are in a row.
        keep: which share of the numbers is decoded, those of the largest estimates (FetchSGD: Rothchild et al. 2020,
            arXiv:2007.07682); the others are zero. By default all are.
        seed: what the functions are drawn of.

    Returns:
        A linear codec: the server needs the sum of the clients' sketches only. A message has 4 rows columns bytes,
        whatever the size of the vector is.

    Raises:
        ValueError: if an argument is not what is said above.

    Examples:
        >>> codec = hansa.aggregators.codecs.sketched(rows=3, columns=100)
        >>> x = np.float32(5 * np.eye(1, 1000, 7)[0])
        >>> back = codec.decode(codec.encode(x), 1000)
        >>> float(back[7]), codec.num_bytes("float32[1000]")
        (5.0, 1200)
    """
    check_whole("rows of sketched", rows, 1)
    check_whole("columns of sketched", columns, 1, 2**31 - 1)
    if keep is not None:
        check_share("keep of sketched", keep)
    factors, offsets = np.random.default_rng(seed).integers(0, 2**64, (2, rows), np.uint64)

    def places(size: int) -> tuple[Any, Any]:
        """The column and the sign of each number in each row."""
        with jax.enable_x64(True):
            index = lax.iota(np.uint64, size)
            mixed = jnp.asarray(factors)[:, None] * index + jnp.asarray(offsets)[:, None]
            high = mixed >> np.uint64(32)  # 32 bits that are 2-wise independent for places below 2**32
            column = ((high >> np.uint64(1)) * np.uint64(columns)) >> np.uint64(31)
            return column.astype(np.int32), 1 - 2 * (high & np.uint64(1)).astype(np.float32)

    def encode(x: Any, key: Any) -> Any:
        column, signs = places(x.size)
        row = jnp.arange(rows)[:, None]
        return {"sketch": jnp.zeros((rows, columns), jnp.float32).at[row, column].add(signs * x)}

    def decode(message: Any, size: int, key: Any) -> Any:
        column, signs = places(size)
        found = median_of_rows(jnp.take_along_axis(message.sketch, column, 1) * signs)
        if keep is None:
            return found
        _, largest = lax.top_k(jnp.abs(found), number_of(keep, size))
        return jnp.zeros(size, jnp.float32).at[largest].set(found[largest])

    settings: dict[str, object] = {"rows": rows, "columns": columns}
    settings |= ({} if keep is None else {"keep": keep}) | ({"seed": seed} if seed else {})
    return Codec("sketched", encode, decode, draws="nothing", linear=True, settings=settings)


def median_of_rows(values: Any) -> Any:
    """The median of each column."""
    ordered = jnp.sort(values, 0)
    number = len(values)
    return ordered[(number - 1) // 2] * 0.5 + ordered[number // 2] * 0.5
