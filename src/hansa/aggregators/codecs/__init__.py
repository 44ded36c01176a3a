"""Codecs: vectors as messages of fewer bytes. `hansa.aggregators.compressed` makes rules of them."""

from typing import TYPE_CHECKING as _TYPE_CHECKING

from hansa import _lazy

if _TYPE_CHECKING:
    from hansa.aggregators.codecs.codec import Codec as Codec
    from hansa.aggregators.codecs.rotations import drive as drive
    from hansa.aggregators.codecs.rotations import eden as eden
    from hansa.aggregators.codecs.rotations import rotated as rotated
    from hansa.aggregators.codecs.rounding import quantised as quantised
    from hansa.aggregators.codecs.rounding import ternary as ternary
    from hansa.aggregators.codecs.signs import sign as sign
    from hansa.aggregators.codecs.sketches import sketched as sketched
    from hansa.aggregators.codecs.sparse import random_k as random_k
    from hansa.aggregators.codecs.sparse import top_k as top_k

_HOMES = {
    "hansa.aggregators.codecs.codec": ("Codec",),
    "hansa.aggregators.codecs.rotations": ("drive", "eden", "rotated"),
    "hansa.aggregators.codecs.rounding": ("quantised", "ternary"),
    "hansa.aggregators.codecs.signs": ("sign",),
    "hansa.aggregators.codecs.sketches": ("sketched",),
    "hansa.aggregators.codecs.sparse": ("random_k", "top_k"),
}

if not _TYPE_CHECKING:
    __getattr__, __dir__, __all__ = _lazy.names_of(__name__, _HOMES)
