"""How the clients' values become one value at the server: rules that are put together by nesting."""

from typing import TYPE_CHECKING as _TYPE_CHECKING

from hansa import _lazy

if _TYPE_CHECKING:
    from hansa.aggregators import attacks as attacks
    from hansa.aggregators import codecs as codecs
    from hansa.aggregators.aggregation import Aggregation as Aggregation
    from hansa.aggregators.bounds import clipping as clipping
    from hansa.aggregators.bounds import excluding as excluding
    from hansa.aggregators.bounds import zeroing as zeroing
    from hansa.aggregators.centers import geometric_median as geometric_median
    from hansa.aggregators.choosing import bulyan as bulyan
    from hansa.aggregators.choosing import krum as krum
    from hansa.aggregators.choosing import multi_krum as multi_krum
    from hansa.aggregators.compression import compressed as compressed
    from hansa.aggregators.factory import Factory as Factory
    from hansa.aggregators.measuring import measured as measured
    from hansa.aggregators.named import drive as drive
    from hansa.aggregators.named import eden as eden
    from hansa.aggregators.named import quantised as quantised
    from hansa.aggregators.named import random_k as random_k
    from hansa.aggregators.named import sign as sign
    from hansa.aggregators.named import sketched as sketched
    from hansa.aggregators.named import ternary as ternary
    from hansa.aggregators.named import top_k as top_k
    from hansa.aggregators.ordering import median as median
    from hansa.aggregators.ordering import trimmed_mean as trimmed_mean
    from hansa.aggregators.rotation import rotated as rotated
    from hansa.aggregators.sums import mean as mean
    from hansa.aggregators.sums import sum as sum

_PARTS = ("attacks", "codecs")

_HOMES = {
    "hansa.aggregators.aggregation": ("Aggregation",),
    "hansa.aggregators.bounds": ("clipping", "excluding", "zeroing"),
    "hansa.aggregators.centers": ("geometric_median",),
    "hansa.aggregators.choosing": ("bulyan", "krum", "multi_krum"),
    "hansa.aggregators.compression": ("compressed",),
    "hansa.aggregators.factory": ("Factory",),
    "hansa.aggregators.measuring": ("measured",),
    "hansa.aggregators.named": ("drive", "eden", "quantised", "random_k", "sign", "sketched", "ternary", "top_k"),
    "hansa.aggregators.ordering": ("median", "trimmed_mean"),
    "hansa.aggregators.rotation": ("rotated",),
    "hansa.aggregators.sums": ("mean", "sum"),
}

if not _TYPE_CHECKING:
    __getattr__, __dir__, __all__ = _lazy.names_of(__name__, _HOMES, _PARTS)
