"""Hansa's worker for algorithms: those that FedJAX or pfl has, by the option, or federated averaging."""

from __future__ import annotations

import hansa  # isort: skip
from typing import Any

import jax
import numpy as np
import optax

from benchmarks.peers import dense
from benchmarks.peers.protocol import Task, serve
from hansa import learning


class HansaAlgorithm:
    """One of Hansa's algorithms, of a model in plain JAX."""

    def __init__(self, task: Task, name: str) -> None:
        self.task, self.name = task, name
        domains = {"domain_id": dense.domains(task.y)} if name == "agnostic" else {}
        arrays = {"x": task.x, "y": task.y.reshape(-1), **domains}
        self.population = hansa.ClientBatches(arrays, task.offsets, task.batch_size)
        self.process = self._process()
        self.state = self.process.initialize()

    def _process(self) -> Any:
        names = [f"w{number}" for number in range(len(self.task.weights))]
        rate = self.task.learning_rate

        def forward(weights: Any, batch: Any, training: bool, rng: Any) -> learning.BatchOutput:
            scores = dense.logits([weights[name] for name in names], batch.x)
            return learning.BatchOutput(dense.of_scores(scores, batch.y).mean(), scores)

        model = learning.functional_model(
            dict(zip(names, self.task.weights, strict=True)),
            forward,
            input_spec=f"<x=float32[?,{self.task.x.shape[1]}],y=int32[?]>",
            optimizer=optax.sgd(rate),
        )
        base: dict[str, Any] = {"base_optimizer": optax.sgd(rate, momentum=dense.MOMENTUM)}
        if self.name == "fed_prox":
            return learning.build_fed_prox(model, proximal_strength=dense.PROXIMAL)
        if self.name == "mime":
            return learning.build_mime(model, **base)
        if self.name == "mime_lite":
            return learning.build_mime_lite(model, **base)
        if self.name == "scaffold":
            population = len(self.task.offsets) - 1
            return learning.build_scaffold(model, client_learning_rate=rate, population=population)
        if self.name == "hyp_cluster":
            starts = [
                learning.ModelWeights.create(hansa.Struct(zip(names, weights, strict=True)), hansa.Struct())
                for weights in dense.two_starts(self.task.weights)
            ]
            return learning.build_hyp_cluster(model, groups=2, initial_models=starts)
        if self.name == "agnostic":
            return learning.build_agnostic(
                model,
                example_loss=lambda output, batch: dense.of_scores(output.predictions, batch.y),
                domain_weights=dense.DOMAIN_WEIGHTS,
                domain_learning_rate=dense.DOMAIN_RATE,
                domain_window_size=dense.WINDOW,
            )
        return learning.build_federated_averaging_process(model)

    def round(self, number: int) -> float:
        """One call of `process.next`."""
        self.state, _ = self.process.next(self.state, self.population.select(self.task.cohort(number)))
        jax.block_until_ready(self.state.model)
        return 0.0

    def evaluate(self) -> float:
        """Nothing."""
        return 0.0

    def weights(self) -> list[np.ndarray]:
        """As FedJAX's worker gives them."""
        if self.name == "hyp_cluster":
            stacked = [np.asarray(w) for w in self.state.finalizer.models.trainable]
            return [w[group] for group in range(2) for w in stacked]
        found = [np.asarray(w) for w in self.state.model.trainable]
        more = [np.asarray(self.state.finalizer.domain_weights)] if self.name == "agnostic" else []
        return [*found, *more]


if __name__ == "__main__":
    serve(HansaAlgorithm)
