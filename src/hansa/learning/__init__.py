"""Learning algorithms, and the models they train."""

from typing import TYPE_CHECKING as _TYPE_CHECKING

from hansa import _lazy

if _TYPE_CHECKING:
    from hansa.learning import algorithms as algorithms
    from hansa.learning import arithmetic as arithmetic
    from hansa.learning import tabular as tabular
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
    from hansa.learning.averaging import build_federated_averaging_process as build_federated_averaging_process
    from hansa.learning.client_metrics import ClientMetrics as ClientMetrics
    from hansa.learning.client_training import local_training as local_training
    from hansa.learning.client_work import ClientWork as ClientWork
    from hansa.learning.client_work import LocalWork as LocalWork
    from hansa.learning.continuing import with_weights as with_weights
    from hansa.learning.distributions import ClientMetric as ClientMetric
    from hansa.learning.distributions import Distribution as Distribution
    from hansa.learning.evaluation import build_federated_evaluation as build_federated_evaluation
    from hansa.learning.evaluation import build_per_client_evaluation as build_per_client_evaluation
    from hansa.learning.finalizers import Finalizer as Finalizer
    from hansa.learning.finalizers import apply_optimizer as apply_optimizer
    from hansa.learning.groups import spread_models as spread_models
    from hansa.learning.hparams import Hparam as Hparam
    from hansa.learning.metrics import RoundMetrics as RoundMetrics
    from hansa.learning.passes import mean_gradient as mean_gradient
    from hansa.learning.passes import mean_loss as mean_loss
    from hansa.learning.passes import training_pass as training_pass
    from hansa.learning.personalization import build_personalization_eval as build_personalization_eval
    from hansa.learning.prediction import build_prediction as build_prediction
    from hansa.learning.process import LearningProcess as LearningProcess
    from hansa.learning.process import build_process as build_process
    from hansa.learning.server_data import ServerData as ServerData
    from hansa.learning.states import LearningState as LearningState
    from hansa.learning.tff_names import build_unweighted_fed_avg as build_unweighted_fed_avg
    from hansa.learning.tff_names import build_unweighted_fed_prox as build_unweighted_fed_prox
    from hansa.learning.tff_names import build_unweighted_mime_lite as build_unweighted_mime_lite
    from hansa.learning.tff_names import build_weighted_fed_avg as build_weighted_fed_avg
    from hansa.learning.tff_names import build_weighted_fed_prox as build_weighted_fed_prox
    from hansa.learning.tff_names import build_weighted_mime_lite as build_weighted_mime_lite
    from hansa.learning.tff_names import compose_learning_process as compose_learning_process
    from hansa.models.adapter_files import load_adapters as load_adapters
    from hansa.models.adapter_files import save_adapters as save_adapters
    from hansa.models.adapter_merging import merge_adapters as merge_adapters
    from hansa.models.buckets import bucketed as bucketed
    from hansa.models.generating import generating as generating
    from hansa.models.jax.models import functional_model as functional_model
    from hansa.models.keras.models import from_compiled_keras_model as from_compiled_keras_model
    from hansa.models.keras.models import from_keras_model as from_keras_model
    from hansa.models.metrics import Metric as Metric
    from hansa.models.metrics import MetricSums as MetricSums
    from hansa.models.model import FunctionalModel as FunctionalModel
    from hansa.models.outputs import BatchOutput as BatchOutput
    from hansa.models.tensorflow.models import Model as Model
    from hansa.models.tensorflow.models import TrainableModel as TrainableModel
    from hansa.models.text_metrics import choice_accuracy as choice_accuracy
    from hansa.models.text_metrics import exact_match as exact_match
    from hansa.models.text_metrics import perplexity as perplexity
    from hansa.models.text_metrics import rouge_l as rouge_l
    from hansa.models.text_metrics import token_accuracy as token_accuracy
    from hansa.models.torch.frontend import from_torch as from_torch
    from hansa.models.torch.frontend import state_dict as state_dict
    from hansa.models.weight_files import load_weights as load_weights
    from hansa.models.weight_files import save_weights as save_weights
    from hansa.models.weights import ModelWeights as ModelWeights

_HOMES = {
    "hansa.learning.algorithms.p_fed_me": ("build_p_fed_me",),
    "hansa.learning.algorithms.apfl": ("build_apfl",),
    "hansa.learning.algorithms.per_fed_avg": ("build_per_fed_avg",),
    "hansa.learning.algorithms.reconstruction": ("build_reconstruction",),
    "hansa.learning.personalization": ("build_personalization_eval",),
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
    "hansa.learning.averaging": ("build_federated_averaging_process",),
    "hansa.learning.client_work": ("ClientWork", "LocalWork"),
    "hansa.learning.finalizers": ("Finalizer", "apply_optimizer"),
    "hansa.learning.client_training": ("local_training",),
    "hansa.learning.process": ("LearningProcess", "build_process"),
    "hansa.learning.server_data": ("ServerData",),
    "hansa.learning.states": ("LearningState",),
    "hansa.learning.client_metrics": ("ClientMetrics",),
    "hansa.learning.distributions": ("ClientMetric", "Distribution"),
    "hansa.learning.continuing": ("with_weights",),
    "hansa.learning.evaluation": (
        "build_federated_evaluation",
        "build_per_client_evaluation",
    ),
    "hansa.learning.groups": ("spread_models",),
    "hansa.learning.hparams": ("Hparam",),
    "hansa.learning.metrics": ("RoundMetrics",),
    "hansa.learning.tff_names": (
        "build_unweighted_fed_avg",
        "build_unweighted_fed_prox",
        "build_unweighted_mime_lite",
        "build_weighted_fed_avg",
        "build_weighted_fed_prox",
        "build_weighted_mime_lite",
        "compose_learning_process",
    ),
    "hansa.learning.passes": ("mean_gradient", "mean_loss", "training_pass"),
    "hansa.learning.prediction": ("build_prediction",),
    "hansa.models.adapter_files": ("load_adapters", "save_adapters"),
    "hansa.models.adapter_merging": ("merge_adapters",),
    "hansa.models.buckets": ("bucketed",),
    "hansa.models.text_metrics": ("choice_accuracy", "exact_match", "perplexity", "rouge_l", "token_accuracy"),
    "hansa.models.generating": ("generating",),
    "hansa.models.jax.models": ("functional_model",),
    "hansa.models.keras.models": (
        "from_compiled_keras_model",
        "from_keras_model",
    ),
    "hansa.models.metrics": (
        "Metric",
        "MetricSums",
    ),
    "hansa.models.outputs": ("BatchOutput",),
    "hansa.models.model": ("FunctionalModel",),
    "hansa.models.tensorflow.models": (
        "Model",
        "TrainableModel",
    ),
    "hansa.models.torch.frontend": (
        "from_torch",
        "state_dict",
    ),
    "hansa.models.weight_files": (
        "load_weights",
        "save_weights",
    ),
    "hansa.models.weights": ("ModelWeights",),
}

_PARTS = ("algorithms", "arithmetic", "tabular")

if not _TYPE_CHECKING:
    __getattr__, __dir__, __all__ = _lazy.names_of(__name__, _HOMES, _PARTS)
