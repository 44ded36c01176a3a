"""How the clients' values become one value at the server: rules that are put together by nesting."""

from typing import TYPE_CHECKING as _TYPE_CHECKING

from hansa import _lazy

if _TYPE_CHECKING:
    from hansa.aggregators.aggregation import Aggregation as Aggregation
    from hansa.aggregators.bounds import clipping as clipping
    from hansa.aggregators.bounds import zeroing as zeroing
    from hansa.aggregators.centers import geometric_median as geometric_median
    from hansa.aggregators.choosing import krum as krum
    from hansa.aggregators.choosing import multi_krum as multi_krum
    from hansa.aggregators.factory import Factory as Factory
    from hansa.aggregators.ordering import median as median
    from hansa.aggregators.ordering import trimmed_mean as trimmed_mean
    from hansa.aggregators.sums import mean as mean
    from hansa.aggregators.sums import sum as sum

_HOMES = {
    "hansa.aggregators.aggregation": ("Aggregation",),
    "hansa.aggregators.bounds": ("clipping", "zeroing"),
    "hansa.aggregators.centers": ("geometric_median",),
    "hansa.aggregators.choosing": ("krum", "multi_krum"),
    "hansa.aggregators.factory": ("Factory",),
    "hansa.aggregators.ordering": ("median", "trimmed_mean"),
    "hansa.aggregators.sums": ("mean", "sum"),
}

if not _TYPE_CHECKING:
    __getattr__, __dir__, __all__ = _lazy.names_of(__name__, _HOMES)
