"""Differential privacy: noise of a known size in what leaves the clients, and the rules that keep it sound."""

from typing import TYPE_CHECKING as _TYPE_CHECKING

from hansa import _lazy

if _TYPE_CHECKING:
    from hansa.language.flows import Release as Release
    from hansa.language.noise import noise_of as noise_of
    from hansa.privacy.mechanisms import Gaussian as Gaussian
    from hansa.privacy.mechanisms import Local as Local
    from hansa.privacy.mechanisms import Matrix as Matrix
    from hansa.privacy.mechanisms import Skellam as Skellam
    from hansa.privacy.mechanisms import joint_noise_multiplier as joint_noise_multiplier
    from hansa.privacy.requirements import releases as releases
    from hansa.privacy.requirements import require_private as require_private
    from hansa.privacy.requirements import require_protected as require_protected

_HOMES = {
    "hansa.language.flows": ("Release",),
    "hansa.language.noise": ("noise_of",),
    "hansa.privacy.mechanisms": ("Gaussian", "Local", "Matrix", "Skellam", "joint_noise_multiplier"),
    "hansa.privacy.requirements": ("releases", "require_private", "require_protected"),
}

if not _TYPE_CHECKING:
    __getattr__, __dir__, __all__ = _lazy.names_of(__name__, _HOMES)
