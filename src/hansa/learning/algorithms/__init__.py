"""Algorithms of the literature, each in a file: what clients do, how updates become one, how the server goes on."""

from typing import TYPE_CHECKING as _TYPE_CHECKING

from hansa import _lazy

if _TYPE_CHECKING:
    from hansa.learning.algorithms.agnostic import build_agnostic as build_agnostic
    from hansa.learning.algorithms.apfl import build_apfl as build_apfl
    from hansa.learning.algorithms.ditto import build_ditto as build_ditto
    from hansa.learning.algorithms.fed_distill import build_fed_distill as build_fed_distill
    from hansa.learning.algorithms.fed_dyn import build_fed_dyn as build_fed_dyn
    from hansa.learning.algorithms.fed_exp import build_fed_exp as build_fed_exp
    from hansa.learning.algorithms.fed_lc import build_fed_lc as build_fed_lc
    from hansa.learning.algorithms.fed_nova import build_fed_nova as build_fed_nova
    from hansa.learning.algorithms.fed_opt import build_fed_adagrad as build_fed_adagrad
    from hansa.learning.algorithms.fed_opt import build_fed_adam as build_fed_adam
    from hansa.learning.algorithms.fed_opt import build_fed_avgm as build_fed_avgm
    from hansa.learning.algorithms.fed_opt import build_fed_yogi as build_fed_yogi
    from hansa.learning.algorithms.fed_prox import build_fed_prox as build_fed_prox
    from hansa.learning.algorithms.fed_sam import build_fed_sam as build_fed_sam
    from hansa.learning.algorithms.fed_sgd import build_fed_sgd as build_fed_sgd
    from hansa.learning.algorithms.fl_trust import build_fl_trust as build_fl_trust
    from hansa.learning.algorithms.het_lora import build_het_lora as build_het_lora
    from hansa.learning.algorithms.hyp_cluster import build_hyp_cluster as build_hyp_cluster
    from hansa.learning.algorithms.ifca import build_ifca as build_ifca
    from hansa.learning.algorithms.lora import build_fed_ex_lora as build_fed_ex_lora
    from hansa.learning.algorithms.lora import build_ffa_lora as build_ffa_lora
    from hansa.learning.algorithms.mime import build_mime as build_mime
    from hansa.learning.algorithms.mime import build_mime_lite as build_mime_lite
    from hansa.learning.algorithms.moon import build_moon as build_moon
    from hansa.learning.algorithms.p_fed_me import build_p_fed_me as build_p_fed_me
    from hansa.learning.algorithms.partial import build_fed_bn as build_fed_bn
    from hansa.learning.algorithms.partial import build_fed_per as build_fed_per
    from hansa.learning.algorithms.partial import build_fed_rep as build_fed_rep
    from hansa.learning.algorithms.partial import build_lg_fed_avg as build_lg_fed_avg
    from hansa.learning.algorithms.partial import build_partial_personalization as build_partial_personalization
    from hansa.learning.algorithms.per_fed_avg import build_per_fed_avg as build_per_fed_avg
    from hansa.learning.algorithms.q_fed_avg import build_q_fed_avg as build_q_fed_avg
    from hansa.learning.algorithms.reconstruction import build_reconstruction as build_reconstruction
    from hansa.learning.algorithms.scaffold import build_scaffold as build_scaffold

_HOMES = {
    "hansa.learning.algorithms.p_fed_me": ("build_p_fed_me",),
    "hansa.learning.algorithms.apfl": ("build_apfl",),
    "hansa.learning.algorithms.per_fed_avg": ("build_per_fed_avg",),
    "hansa.learning.algorithms.reconstruction": ("build_reconstruction",),
    "hansa.learning.algorithms.agnostic": ("build_agnostic",),
    "hansa.learning.algorithms.ditto": ("build_ditto",),
    "hansa.learning.algorithms.partial": (
        "build_fed_bn",
        "build_fed_per",
        "build_fed_rep",
        "build_lg_fed_avg",
        "build_partial_personalization",
    ),
    "hansa.learning.algorithms.fed_distill": ("build_fed_distill",),
    "hansa.learning.algorithms.fed_dyn": ("build_fed_dyn",),
    "hansa.learning.algorithms.fed_exp": ("build_fed_exp",),
    "hansa.learning.algorithms.fed_nova": ("build_fed_nova",),
    "hansa.learning.algorithms.fed_opt": ("build_fed_adagrad", "build_fed_adam", "build_fed_avgm", "build_fed_yogi"),
    "hansa.learning.algorithms.fed_sgd": ("build_fed_sgd",),
    "hansa.learning.algorithms.fed_prox": ("build_fed_prox",),
    "hansa.learning.algorithms.fl_trust": ("build_fl_trust",),
    "hansa.learning.algorithms.mime": ("build_mime", "build_mime_lite"),
    "hansa.learning.algorithms.q_fed_avg": ("build_q_fed_avg",),
    "hansa.learning.algorithms.ifca": ("build_ifca",),
    "hansa.learning.algorithms.hyp_cluster": ("build_hyp_cluster",),
    "hansa.learning.algorithms.fed_sam": ("build_fed_sam",),
    "hansa.learning.algorithms.fed_lc": ("build_fed_lc",),
    "hansa.learning.algorithms.het_lora": ("build_het_lora",),
    "hansa.learning.algorithms.lora": ("build_fed_ex_lora", "build_ffa_lora"),
    "hansa.learning.algorithms.moon": ("build_moon",),
    "hansa.learning.algorithms.scaffold": ("build_scaffold",),
}

if not _TYPE_CHECKING:
    __getattr__, __dir__, __all__ = _lazy.names_of(__name__, _HOMES)
