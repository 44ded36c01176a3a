"""Which way a metric is worse, as Keras says of its own and as the names of others say."""

import inspect

import keras
import pytest

from hansa._directions import less_is_better
from tests.models.keras.test_folds import ARGUMENTS

LESS = """
    loss val_loss total_loss mse MSE mae rmse mape mean_absolute_error mean_squared_error_1 MeanAbsoluteError max_error
    error error_rate top_5_error perplexity ppl crossentropy cross_entropy CrossEntropyLoss cross-entropy
    softmaxcrossentropy kl kl_divergence KLDivergence kullback_leibler_divergence nll negative_log_likelihood hinge
    brier_score log_loss logcosh log_cosh poisson huber false_positives false_negative_rate WER word_error_rate
    miss_rate calibration_error bits_per_byte accuracy_loss loss/total out/mse regret cosine_distance inaccuracy
"""
MORE = """
    accuracy acc val_accuracy binary_accuracy accuracy_2 worst_accuracy testaccuracy auc AUC auc_1 auc/lower AUC/pr
    ROC-AUC pr_auc precision recall f1 f1_score F1Score f_beta_score r2 R2Score r2_score r_squared top_k top5 top_5
    top_k_categorical_accuracy topKAccuracy sensitivity specificity_at_sensitivity precision_at_recall recall_at_fpr
    recall@10 true_positives true_negative_rate mean_io_u mean_iou cosine_similarity log_likelihood bleu error_accuracy
"""
UNKNOWN = """
    confidence largest_logit num_examples score total mean my_metric 1-accuracy one_minus_accuracy
    neg_mean_squared_error accuracy_gap accuracy_drop loss_scale error_reduction recall_of_negatives lossless std top
    top_layer_norm time x 0 tversky d2_absolute_error_score loss_improvement errors_avoided explained_deviance
    mse_skill_score information_gain
"""


@pytest.mark.parametrize("names, expected", [(LESS, True), (MORE, False), (UNKNOWN, None)])
def test_names_say_it_or_nothing_is_said(names, expected):
    assert {name: less_is_better(name) for name in names.split()} == dict.fromkeys(names.split(), expected)


def test_of_keras_own_metrics_it_is_what_keras_says():
    said = {}
    for name, kind in vars(keras.metrics).items():
        if inspect.isclass(kind) and name not in ("Metric", "Mean", "Sum", "MeanMetricWrapper"):
            metric = kind(**ARGUMENTS.get(name, {}))
            said[metric.name] = {"up": False, "down": True}.get(getattr(metric, "_direction", None))
    assert len(said) > 35
    for name, expected in said.items():
        assert less_is_better(name) is not None, name
        assert expected is None or less_is_better(name) == expected, name


@pytest.mark.parametrize(
    "name", [name for name in dir(keras.losses) if name.endswith(("entropy", "error", "divergence"))]
)
def test_keras_own_losses_are_losses(name):
    assert less_is_better(name) is True
