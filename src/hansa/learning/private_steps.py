"""The steps of DP-SGD on a client: examples drawn by chance, their gradients clipped one by one, and noise.

Abadi et al. 2016, arXiv:1607.00133, algorithm 1. All of a client's examples are put into one array first, so that what
is drawn does not depend on how they are batched. Sums are of integers, in float64, which holds them exactly: they are
the same in any order, and one example changes them by the clipping norm at most.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from hansa.language.cipher_stream import words
from hansa.language.encoding import rounded_gaussian
from hansa.language.mechanism import STEPS
from hansa.language.sequences import sequence_reduce
from hansa.learning.client_work import Given
from hansa.learning.local_steps import Hooks, LocalSteps
from hansa.learning.training_steps import ClientOptimizer
from hansa.models.accumulators import example
from hansa.models.model import Forward, FunctionalModel, TrainingStep
from hansa.models.outputs import BatchOutput
from hansa.privacy.sampled_steps import DPSGD
from hansa.types import Struct, StructType, infer_type, tensor_leaves
from hansa.types.narrow import HALVES

STEPS_OF_CLIP = 2.0**30
"""How many integers the clipping norm is."""

_SHORTER = 1 - 2.0**-30
"""A norm that is found in float64 may be too small by less than this part of it."""


class PrivateSteps(LocalSteps):
    """The steps of DP-SGD, in place of one for each batch.

    Args:
        model, optimizer, hooks, given: as of `LocalSteps`.
        rule: how it is done.

    Raises:
        ValueError: if the model cannot be trained so: JAX does not differentiate it, a batch is no rows of examples, or
            a layer looks at other examples of a batch, too.
    """

    def __init__(
        self, model: FunctionalModel, optimizer: ClientOptimizer, hooks: Hooks, given: Given, rule: DPSGD
    ) -> None:
        self._rule: DPSGD | None = None  # until what a step may change is read off one without noise
        super().__init__(model, optimizer, hooks, given)
        _check(model, self.changing["non_trainable"])
        self._rule = rule
        self._train, self._collect, self._measure = self._training(rule), self._collecting(rule), self._measuring()

    def run(self, at: Any, data: Any, carry: Any = None) -> Any:
        """The steps, from the start."""
        assert carry is None and self._rule is not None
        given = {str(name): at[name] for name in self._names}
        first = self.start(at)
        local = first.local
        if self._rule.metrics == "open":
            local = sequence_reduce(data, local, self._measure, given={"model": at.sent.model, "key": at.key})
        return self._train(given, first, local, sequence_reduce(data, self._no_rows(self._rule), self._collect))

    def _no_rows(self, rule: DPSGD) -> Struct:
        """The array of examples before there are any."""
        batch = self._like_batch()
        rows = jax.tree.map(lambda leaf: np.zeros((rule.max_examples, *leaf.shape[1:]), _held(leaf.dtype)), batch)
        return Struct.of(rows=rows, count=np.int32(0))

    def _like_batch(self) -> Any:
        """A batch of two examples of zeros, in the dtypes that computations of this model see."""
        given = example(self.model.batch_type)
        if self.model.wide:
            return given
        return jax.tree.map(lambda leaf: leaf.astype(HALVES.get(leaf.dtype.name, leaf.dtype)), given)

    def _collecting(self, rule: DPSGD) -> Any:
        @self.local(infer_type(self._no_rows(rule)), self.model.batch_type)
        def collect(held: Any, batch: Any) -> Any:
            size = jax.tree.leaves(batch)[0].shape[0]
            places = held.count + jnp.arange(size, dtype=jnp.int32)

            def put(into: Any, leaf: Any) -> Any:
                return into.at[places].add(leaf.astype(into.dtype), mode="drop")

            rows = jax.tree.map(put, held.rows, batch)
            return {"rows": rows, "count": jnp.minimum(held.count + size, rule.max_examples).astype(jnp.int32)}

        return collect

    def _measuring(self) -> Any:
        kind = StructType([("model", self.at["sent"]["model"]), ("key", self.at["key"])])  # type: ignore[index]

        @self.local(self.carry["local"], self.model.batch_type, kind)
        def measure(local: Any, batch: Any, given: Any) -> Any:
            key = jax.random.wrap_key_data(given.key)
            return self.model.forward(given.model, local, batch, False, key).local

        return measure

    def _training(self, rule: DPSGD) -> Any:
        given_type = StructType([(name, kind) for name, kind in self.at.fields if name in self._names])

        @self.local(given_type, self.carry, self.carry["local"], infer_type(self._no_rows(rule)))
        def train(given: Any, carry: Any, local: Any, held: Any) -> Any:
            def step(number: Any, carry: Any) -> Any:
                batch = Struct.of(rows=held.rows, count=held.count, step=number, noise=given.noise)
                return self._stepped(carry, batch, given)

            after = lax.fori_loop(jnp.int32(0), jnp.int32(rule.steps), step, carry)
            steps = jnp.where(held.count > 0, jnp.int32(rule.steps), 0)
            return after._replace(local=local, step=steps, num_examples=held.count)

        return train

    def _training_step(self, at: Any) -> TrainingStep:
        if self._rule is None:
            return super()._training_step(at)
        direct = None if self.hooks.direction is None else partial(self._direction, at)
        return self.optimizer.step(at.hparams, direct, partial(self._noised, at))

    def _noised(self, at: Any, weights: Any, local: Any, batch: Any, key: Any, scale: Any) -> tuple[Forward, Any]:
        """The noised gradient, in place of that of a batch."""
        rule = self._rule
        assert rule is not None
        with jax.enable_x64(True):
            rate = _rate(rule, batch.count)
            drawn, number = _drawn(batch.noise, batch.step, rate, batch.count, rule)
            total = self._sum_of_clipped(weights, local, batch, key, drawn, number)
            if rule.noise_multiplier:
                total = _with_noise(total, words(batch.noise, 8, nonce=(batch.step, 2, 0)), rule.noise_multiplier)
            expected = jnp.maximum(rate * batch.count, 1e-300)
            factor = rule.clip / STEPS_OF_CLIP / expected
            gradient = jax.tree.map(lambda sum, w: (sum * factor).astype(w.dtype), total, weights.trainable)
        output = BatchOutput(jnp.float32(0), num_examples=jnp.int32(0))
        return Forward(output, weights.non_trainable, local), gradient

    def _sum_of_clipped(self, weights: Any, local: Any, batch: Any, key: Any, drawn: Any, number: Any) -> Any:
        """The sum of the clipped gradients of those drawn, as integers in float64.

        Args:
            drawn: the rows of those drawn, int32 [max_examples], and a number that is too large after them.
            number: how many are drawn.
        """
        rule = self._rule
        assert rule is not None
        together = min(rule.physical_batch_size, rule.max_examples)
        like = self._like_batch()
        zero = jax.tree.map(lambda w: jnp.zeros(w.shape, jnp.float64), weights.trainable)
        drawn = jnp.concatenate([drawn, jnp.full(together - 1, rule.max_examples, jnp.int32)])

        def of_one(row: Any) -> Any:
            with jax.enable_x64(self.model.wide):
                one = jax.tree.map(
                    lambda held, leaf: lax.dynamic_slice_in_dim(held, row, 1).astype(leaf.dtype), batch.rows, like
                )
                own = jax.random.fold_in(key, row)
                _, gradient = self.model.gradients_of(weights, local, one, own)
            return _clipped(gradient, row < rule.max_examples, rule.clip)

        def add(turn: Any, total: Any) -> Any:
            if together == 1:
                return jax.tree.map(jnp.add, total, of_one(drawn[turn]))
            parts = jax.vmap(of_one)(lax.dynamic_slice_in_dim(drawn, turn * together, together))
            return jax.tree.map(lambda sum, part: sum + part.sum(0), total, parts)

        turns = (number + (together - 1)) // together
        return lax.fori_loop(jnp.int32(0), turns.astype(jnp.int32), add, zero)


def _rate(rule: DPSGD, count: Any) -> Any:
    """The probability of each example to be drawn, float64."""
    if rule.batch_size is None:
        return jnp.float64(rule.sampling_rate)
    return jnp.minimum(1.0, rule.batch_size / jnp.maximum(count, 1).astype(jnp.float64))


def _drawn(key: Any, step: Any, rate: Any, count: Any, rule: DPSGD) -> tuple[Any, Any]:
    """The rows that are drawn for a step, each by itself, int32 [max_examples], and how many they are."""
    most = rule.max_examples
    pairs = words(words(key, 8, nonce=(step, 1, 0)), 2 * most).reshape(most, 2).astype(jnp.uint64)
    number = (pairs[:, 0] << np.uint64(32) | pairs[:, 1]) >> np.uint64(11)
    chosen = (number.astype(jnp.float64) * 2.0**-53 < rate) & (jnp.arange(most) < count)
    (rows,) = jnp.nonzero(chosen, size=most, fill_value=most)
    return rows.astype(jnp.int32), chosen.sum().astype(jnp.int32)


def _clipped(gradient: Any, is_there: Any, clip: float) -> Any:
    """A gradient of the norm `clip` at most, as integers in float64; zeros for none, or one that is not finite.

    Rounding is towards zero, which makes no norm larger.
    """
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), gradient)
        squares = [jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(wide)]
        norm = jnp.sqrt(sum(squares, jnp.float64(0)))
        factor = _SHORTER * STEPS_OF_CLIP / jnp.maximum(norm, clip)
        good = is_there & jnp.isfinite(norm)
        return jax.tree.map(lambda leaf: jnp.where(good, jnp.trunc(leaf * factor), 0.0), wide)


def _with_noise(total: Any, key: Any, noise_multiplier: float) -> Any:
    """Integers with Gaussian noise that is rounded to integers."""
    leaves, tree = jax.tree.flatten(total)
    sizes = [math.prod(leaf.shape) for leaf in leaves]
    noise = rounded_gaussian(key[None], (noise_multiplier * STEPS_OF_CLIP / STEPS,), sum(sizes)).astype(jnp.float64)
    parts = jnp.split(noise, np.cumsum(sizes)[:-1])
    return jax.tree.unflatten(tree, [leaf + part.reshape(leaf.shape) for leaf, part in zip(leaves, parts, strict=True)])


def _held(dtype: Any) -> Any:
    """The dtype in which examples of another are held: one that can be added up."""
    return np.dtype(np.uint8) if dtype == np.bool_ else dtype


def _check(model: FunctionalModel, changed: set[str | None]) -> None:
    """Checks that a model has gradients of examples."""
    if model.gradients is not None:
        raise ValueError(
            f"dpsgd takes the gradient of each example, and JAX does not differentiate the model {model.name!r}; it "
            "needs a model in JAX or PyTorch, or a Keras model on its JAX backend"
        )
    for leaf in tensor_leaves(model.batch_type):
        if not leaf.shape or leaf.shape[0] is not None or None in leaf.shape[1:]:
            raise ValueError(
                f"dpsgd draws examples, which are rows of a batch's tensors, and a batch of the model {model.name!r} "
                f"has {leaf} in {model.batch_type.compact()}: each tensor must have the shape [?, …], without another ?"
            )
    if changed:
        names = ", ".join(sorted(map(str, changed)))
        raise ValueError(
            f"in training, the model {model.name!r} changes {names} by what it sees of whole batches, without noise, "
            "as BatchNormalization does: that would tell of examples. Take a layer that looks at one example at a "
            "time, such as GroupNormalization or LayerNormalization, or train with that layer frozen"
        )
