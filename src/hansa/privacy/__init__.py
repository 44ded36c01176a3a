"""Differential privacy: noise in what leaves the clients, the rules that keep it sound, and what it costs."""

from typing import TYPE_CHECKING as _TYPE_CHECKING

from hansa import _lazy

if _TYPE_CHECKING:
    from hansa.language.flows import Release as Release
    from hansa.language.noise import noise_of as noise_of
    from hansa.privacy.accountant import Accountant as Accountant
    from hansa.privacy.budget import Budget as Budget
    from hansa.privacy.calibration import calibrate as calibrate
    from hansa.privacy.charge import Charge as Charge
    from hansa.privacy.clipping import Adaptive as Adaptive
    from hansa.privacy.example_level import dpsgd as dpsgd
    from hansa.privacy.example_level import site_guarantee as site_guarantee
    from hansa.privacy.guarantee import Guarantee as Guarantee
    from hansa.privacy.ledger import Entry as Entry
    from hansa.privacy.ledger import Ledger as Ledger
    from hansa.privacy.ledger import LedgerError as LedgerError
    from hansa.privacy.ledger import read_ledger as read_ledger
    from hansa.privacy.mechanisms import Gaussian as Gaussian
    from hansa.privacy.mechanisms import Local as Local
    from hansa.privacy.mechanisms import Matrix as Matrix
    from hansa.privacy.mechanisms import Skellam as Skellam
    from hansa.privacy.mechanisms import joint_noise_multiplier as joint_noise_multiplier
    from hansa.privacy.metric_ranges import NoisedMetrics as NoisedMetrics
    from hansa.privacy.metric_ranges import noised_metrics as noised_metrics
    from hansa.privacy.requirements import releases as releases
    from hansa.privacy.requirements import require_private as require_private
    from hansa.privacy.requirements import require_protected as require_protected
    from hansa.privacy.rules import PrivateFactory as PrivateFactory
    from hansa.privacy.rules import distributed as distributed
    from hansa.privacy.rules import gaussian as gaussian
    from hansa.privacy.rules import local as local
    from hansa.privacy.rules import matrix as matrix
    from hansa.privacy.sampled_steps import DPSGD as DPSGD
    from hansa.privacy.sampling import AtMost as AtMost
    from hansa.privacy.sampling import Fixed as Fixed
    from hansa.privacy.sampling import Poisson as Poisson
    from hansa.privacy.sampling import Separated as Separated
    from hansa.privacy.sampling import Sites as Sites
    from hansa.privacy.sampling import Truncated as Truncated
    from hansa.privacy.sampling import claim_of as claim_of
    from hansa.privacy.weighting import Capped as Capped
    from hansa.privacy.weighting import capped as capped

_HOMES = {
    "hansa.language.flows": ("Release",),
    "hansa.language.noise": ("noise_of",),
    "hansa.privacy.accountant": ("Accountant",),
    "hansa.privacy.budget": ("Budget",),
    "hansa.privacy.calibration": ("calibrate",),
    "hansa.privacy.charge": ("Charge",),
    "hansa.privacy.example_level": ("dpsgd", "site_guarantee"),
    "hansa.privacy.guarantee": ("Guarantee",),
    "hansa.privacy.ledger": ("Entry", "Ledger", "LedgerError", "read_ledger"),
    "hansa.privacy.mechanisms": ("Gaussian", "Local", "Matrix", "Skellam", "joint_noise_multiplier"),
    "hansa.privacy.metric_ranges": ("NoisedMetrics", "noised_metrics"),
    "hansa.privacy.requirements": ("releases", "require_private", "require_protected"),
    "hansa.privacy.sampled_steps": ("DPSGD",),
    "hansa.privacy.sampling": ("AtMost", "Fixed", "Poisson", "Separated", "Sites", "Truncated", "claim_of"),
    "hansa.privacy.clipping": ("Adaptive",),
    "hansa.privacy.rules": ("PrivateFactory", "distributed", "gaussian", "local", "matrix"),
    "hansa.privacy.weighting": ("Capped", "capped"),
}

if not _TYPE_CHECKING:
    __getattr__, __dir__, __all__ = _lazy.names_of(__name__, _HOMES)
