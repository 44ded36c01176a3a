"""Makes the next thing ready while this one is being used."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def ahead(items: Iterator[T]) -> Iterator[T]:
    """The same items, each begun, in another thread, when the one before it is taken.

    An error in making an item is raised where that item would be taken.
    """
    end = object()
    with ThreadPoolExecutor(1, "hansa-ahead") as thread:
        coming = thread.submit(next, items, end)
        while (item := coming.result()) is not end:
            coming = thread.submit(next, items, end)
            yield item  # type: ignore[misc]
