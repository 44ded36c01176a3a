"""Names of metrics for people, in titles of pictures and pages: `num_empty_clients` is "Clients without examples"."""

from __future__ import annotations

_KNOWN = {
    "num_examples": "Examples",
    "num_clients": "Clients",
    "num_non_finite_clients": "Clients left out: not finite",
    "num_empty_clients": "Clients without examples",
    "num_non_finite_metrics": "Metrics left out: not finite",
    "model_unchanged": "Model unchanged",
}
_SHORT = {"auc", "bleu", "f1", "fn", "fp", "iou", "mae", "mape", "mse", "rmse", "tn", "tp"}
"""Words that are letters, of which people write capitals."""


def titled(name: str) -> str:
    """A metric's name as a title: `test_loss` is "Test loss", `auc/lower` "AUC, lower"."""
    parts = [_KNOWN.get(part) or _words(part) for part in name.split("/")]
    text = ", ".join(part if not index or part[1:2].isupper() else part[:1].lower() + part[1:]
                     for index, part in enumerate(parts))  # fmt: skip
    return text[:1].upper() + text[1:]


def _words(name: str) -> str:
    text = " ".join(word.upper() if word in _SHORT else word for word in name.replace("_", " ").strip().split(" "))
    return text or name
