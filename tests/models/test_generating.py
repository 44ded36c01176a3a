"""What a model writes, beside a loop over single texts, and ROUGE-L beside a recursion over all subsequences."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import pytest

import hansa
from hansa.learning import BatchOutput, exact_match, functional_model, generating, rouge_l, token_accuracy

LENGTH, VOCABULARY, END = 7, 6, 0
random = np.random.default_rng(5)
FROM_ONE, FROM_TWO = (random.normal(size=(VOCABULARY, VOCABULARY)).astype("float32") for _ in range(2))
FROM_ONE[:, END] += 1  # answers are short
SPEC = f"<x=<ids=int32[?,{LENGTH}],mask=int32[?,{LENGTH}]>,y=int32[?,{LENGTH}],sample_weight=float32[?,{LENGTH}]>"
METRICS = {"rouge_l": rouge_l(end=END), "exact_match": exact_match(), "right": token_accuracy()}


def forward(weights: Any, batch: Any, training: bool, rng: Any) -> Any:
    """Scores by a token and the one before it, where the mask is; else nonsense."""
    import jax.numpy as jnp

    ids = batch.x.ids
    before = jnp.pad(ids[:, :-1], ((0, 0), (1, 0)))
    logits = weights["one"][ids] + weights["two"][before]
    return BatchOutput((logits**2).mean(), jnp.where(batch.x.mask[..., None] > 0, logits, -logits))


def written(prompt: list[int], most: int) -> list[int]:
    """Greedily, one token after another."""
    found: list[int] = []
    while len(found) < most:
        before = [0, *prompt, *found]
        token = int((FROM_ONE[before[-1]] + FROM_TWO[before[-2]]).argmax())
        found.append(token)
        if token == END:
            break
    return found


def longest(one: tuple[int, ...], other: tuple[int, ...]) -> int:
    @lru_cache(None)
    def of(i: int, j: int) -> int:
        if i == len(one) or j == len(other):
            return 0
        if one[i] == other[j]:
            return 1 + of(i + 1, j + 1)
        return max(of(i + 1, j), of(i, j + 1))

    return of(0, 0)


def examples(seed: int, size: int) -> tuple[dict[str, Any], list[dict[str, float]]]:
    """Prompts with answers that are partly what the model writes, and what the metrics are of each."""
    own = np.random.default_rng(seed)
    coding = hansa.simulation.TokenCoding(
        lambda text: [int(c) for c in text], LENGTH, end=END, inputs="ids", mask="mask"
    )
    prompts, answers, expected = [], [], []
    for _ in range(size):
        prompt = own.integers(1, VOCABULARY, own.integers(1, 4)).tolist()
        full = written(prompt, LENGTH - len(prompt) + 1)
        true = [token for token in full if token != END][: own.integers(1, 5) if own.random() < 0.5 else None]
        true = [int(own.integers(1, VOCABULARY)) if own.random() < 0.2 else token for token in true] or [1]
        true = true[: LENGTH - len(prompt)]
        prompts.append("".join(map(str, prompt)))
        answers.append("".join(map(str, true)))
        said = [token for token in full if token != END]
        common = longest(tuple(said), tuple(true))
        reference = [*true, END]
        right = sum(a == b for a, b in zip(full, reference, strict=False))
        expected.append(
            {
                "rouge_l": 2 * common / (len(said) + len(true)),
                "exact_match": float(full[: len(reference)] == reference),
                "right": right,
                "tokens": len(reference),
            }
        )
    arrays = coding.answers(prompts, answers)
    batch = {"x": {"ids": arrays.pop("ids"), "mask": arrays.pop("mask")}, **arrays}
    return batch, expected


def test_what_is_written_and_how_good_it_is():
    model = functional_model({"one": FROM_ONE, "two": FROM_TWO}, forward, input_spec=SPEC)
    writer = generating(model, tokens="x/ids", mask="x/mask", end=END, metrics=METRICS)
    clients, expected = zip(*(examples(seed, size) for seed, size in ((1, 9), (2, 4))), strict=True)
    found = hansa.learning.build_per_client_evaluation(writer)(model.initial_weights, [[c] for c in clients])
    every = [*expected[0], *expected[1]]
    together = hansa.learning.build_federated_evaluation(writer)(model.initial_weights, [[c] for c in clients])
    for name in ("rouge_l", "exact_match"):
        assert 0 < np.mean([e[name] for e in every]) < 1
        np.testing.assert_allclose(together[name], np.mean([e[name] for e in every]), rtol=1e-6)
        each = [np.mean([e[name] for e in one]) for one in expected]
        np.testing.assert_allclose([float(one.metrics[name]) for one in found], each, rtol=1e-6)
    np.testing.assert_allclose(together.right, sum(e["right"] for e in every) / sum(e["tokens"] for e in every), 1e-6)


def test_what_is_no_field_of_batches_is_refused():
    model = functional_model({"one": FROM_ONE, "two": FROM_TWO}, forward, input_spec=SPEC)
    with pytest.raises(ValueError, match="tokens='ids' names no field"):
        generating(model, tokens="ids", metrics=METRICS)
    with pytest.raises(ValueError, match="mask='y/z' names no field"):
        generating(model, tokens="x/ids", mask="y/z", metrics=METRICS)
    with pytest.raises(TypeError, match="generating takes a model"):
        generating("x", tokens="x", metrics=METRICS)
    other = functional_model(
        {"one": FROM_ONE},
        lambda w, b, t, r: BatchOutput(w["one"].sum()),
        input_spec="<x=int32[?,4],y=int32[?,4]>",
        name="m",
    )
    with pytest.raises(ValueError, match="have no field sample_weight"):
        generating(other, tokens="x", metrics={})
