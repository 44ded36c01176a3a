"""Which way a metric is worse, as its name says: of losses and errors less is better, of accuracies more.

The words of the name decide, and of several that say something the last: `top_5_error` is an error. Who would have to
guess is told nothing.
"""

from __future__ import annotations

import re

_LESS = """
    bce bces bpb bpc brier cce cer circle cost costs crossentropy ctc deviance discrepancy distance divergence ece
    eer err error errors failure failures fid fn fnr fp fpr hamming hinge huber inaccuracy infidelity jsd kl kld
    kullback logcosh logloss loss losses mae mape mda medae misclassification misclassifications misclassified
    mispredictions miss misses mistake mistakes mse msle nll nlls overconfidence penalties penalty perplexities
    perplexity poisson ppl regret residual residuals rmse rmsle scce smape violation violations wer xent
"""
_MORE = """
    acc accs accuracies accuracy ap aps auc aucs auprc auroc bleu correct correctness correlation elbo f1 f2 fbeta
    hit hits iou ious jaccard kappa likelihood likelihoods loglikelihood mcc miou mrr ndcg npv ppv prauc precision
    precisions psnr r2 recall recalls reward rewards rocauc rouge sensitivity similarity specificity ssim tn tnr tp
    tpr
"""
_PHRASES = {
    ("average", "precision"): False,
    ("bits", "per"): True,
    ("cross", "entropy"): True,
    ("f", "1"): False,
    ("f", "beta"): False,
    ("false", "alarm"): True,
    ("false", "negative"): True,
    ("false", "negatives"): True,
    ("false", "positive"): True,
    ("false", "positives"): True,
    ("io", "u"): False,
    ("log", "cosh"): True,
    ("log", "loss"): True,
    ("neg", "log", "likelihood"): True,
    ("negative", "log", "likelihood"): True,
    ("r", "squared"): False,
    ("true", "negative"): False,
    ("true", "negatives"): False,
    ("true", "positive"): False,
    ("true", "positives"): False,
}
"""Words that say something together, whatever they say alone: whether less is better."""

_OTHER = """
    avoided change complement corrected correction d2 decrease delta detected difference disparity drop explained fixed
    free gain gains gap improvement improvements inverse inverted minus neg negated negative negatives non not range
    reciprocal reduction saved scale skill spread std threshold time variance weight
"""
"""Words that may turn another's meaning, or make it something else."""

_ENDINGS = (("loss", True), ("error", True), ("errors", True), ("entropy", True), ("accuracy", False))

_TURNING = frozenset(_OTHER.split())
_WORDS = dict.fromkeys(_LESS.split(), True) | dict.fromkeys(_MORE.split(), False)


def less_is_better(name: str) -> bool | None:
    """Whether less is better of a metric, or None if its name does not say.

    Args:
        name: the name, in any case, of words with `_`, `-`, spaces or capitals between them; or a path of such,
            `auc/lower`, of which the last part that says something counts.
    """
    for part in reversed(name.split("/")):
        said = _said(part)
        if said is not None:
            return said
    return None


def _said(name: str) -> bool | None:
    if re.match(r"\s*1\s*-", name):
        return None
    words = [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])\d*|[A-Z]?[a-z]+\d*|\d+", name)]
    if "at" in words[1:]:  # precision at a recall
        words = words[: words.index("at", 1)]
    said: bool | None = None
    turned = False
    i = 0
    while i < len(words):
        size = next((n for n in (3, 2) if tuple(words[i : i + n]) in _PHRASES), 1)
        if size > 1:
            said = _PHRASES[tuple(words[i : i + size])]
        else:
            said = _alone(words[i], words[i + 1 : i + 2], said)
            turned |= words[i] in _TURNING
        i += size
    return None if turned else said


def _alone(word: str, following: list[str], said: bool | None) -> bool | None:
    """What a name says after one more word."""
    if word in _WORDS:
        return _WORDS[word]
    if re.fullmatch(r"top\d+", word) or (word == "top" and re.fullmatch(r"k|\d+", "".join(following))):
        return False
    return next((less for ending, less in _ENDINGS if word.endswith(ending)), said)
