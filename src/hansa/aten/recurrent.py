"""LSTM, GRU and plain recurrent layers, in one direction or two: each direction of a layer is one scan."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from hansa.aten.random import dropout
from hansa.aten.table import operation

Cell = Callable[..., tuple[Any, ...]]
"""(state, the step's part of the gates, weights of the state, their bias, a projection or None) -> state."""


def _lstm(state: Any, given: Any, weight: Any, bias: Any, projection: Any) -> tuple[Any, ...]:
    h, c = state
    i, f, g, o = jnp.split(given + h @ weight.T + bias, 4, -1)
    c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
    h = jax.nn.sigmoid(o) * jnp.tanh(c)
    return h if projection is None else h @ projection.T, c


def _gru(state: Any, given: Any, weight: Any, bias: Any, _: Any) -> tuple[Any, ...]:
    (h,) = state
    (xr, xz, xn), (hr, hz, hn) = jnp.split(given, 3, -1), jnp.split(h @ weight.T + bias, 3, -1)
    r, z = jax.nn.sigmoid(xr + hr), jax.nn.sigmoid(xz + hz)
    return ((1 - z) * jnp.tanh(xn + r * hn) + z * h,)


def _plain(activation: Callable[[Any], Any]) -> Cell:
    return lambda state, given, weight, bias, _: (activation(given + state[0] @ weight.T + bias),)


def _recurrent(cell: Cell) -> Callable[..., Any]:
    def run(
        key: Any,
        x: Any,
        initial: Any,
        weights: Sequence[Any],
        has_biases: bool,
        layers: int,
        dropout_p: float,
        train: bool,
        bidirectional: bool,
        batch_first: bool,
    ) -> Any:
        """All steps' results, and each last state: [layers * directions, batch, features]."""
        initial = tuple(initial) if isinstance(initial, list | tuple) else (initial,)
        alone = x.ndim == 2  # one sequence, without a batch
        if alone:
            x = x[:, None]
            initial = tuple(s[:, None] if s.ndim == 2 else s for s in initial)
        elif batch_first:
            x = jnp.swapaxes(x, 0, 1)
        ways = 1 + bidirectional
        per = len(weights) // (layers * ways)
        last: list[tuple[Any, ...]] = []
        for layer in range(layers):
            outs = []
            for way in range(ways):
                number = layer * ways + way
                own = list(weights[number * per : (number + 1) * per])
                out, state = _scan(cell, x, tuple(s[number] for s in initial), own, has_biases, bool(way))
                outs.append(out)
                last.append(state)
            x = jnp.concatenate(outs, -1) if ways > 1 else outs[0]
            if layer < layers - 1:
                x = dropout(jax.random.fold_in(key, layer), x, dropout_p, train)
        states = [jnp.stack(parts) for parts in zip(*last, strict=True)]
        if alone:
            return x[:, 0], *(s[:, 0] for s in states)
        return jnp.swapaxes(x, 0, 1) if batch_first else x, *states

    return run


def _scan(cell: Cell, x: Any, state: Any, own: list[Any], has_biases: bool, reverse: bool) -> Any:
    """One direction of one layer: the results of all steps, and the last state."""
    of_input, of_state, *rest = own
    bias_input, bias = rest[:2] if has_biases else (None, jnp.zeros((), x.dtype))
    projection = rest[2 if has_biases else 0] if len(rest) > 2 * has_biases else None
    given = x @ of_input.T
    given = given if bias_input is None else given + bias_input

    def step(state: Any, given: Any) -> Any:
        after = cell(state, given, of_state, bias, projection)
        return after, after[0]

    state, out = lax.scan(step, state, given, reverse=reverse)
    return out, state


for _name, _cell in (
    ("lstm", _lstm),
    ("gru", _gru),
    ("rnn_tanh", _plain(jnp.tanh)),
    ("rnn_relu", _plain(jax.nn.relu)),
):
    operation(f"{_name}.input", draws=True)(_recurrent(_cell))


@operation("lstm_cell")
def _lstm_cell(x: Any, state: Any, w_in: Any, w: Any, b_in: Any = None, b: Any = None) -> Any:
    given = x @ w_in.T if b_in is None else x @ w_in.T + b_in
    return _lstm(tuple(state), given, w, 0 if b is None else b, None)


@operation("gru_cell")
def _gru_cell(x: Any, h: Any, w_in: Any, w: Any, b_in: Any = None, b: Any = None) -> Any:
    given = x @ w_in.T if b_in is None else x @ w_in.T + b_in
    return _gru((h,), given, w, 0 if b is None else b, None)[0]


def _plain_cell(activation: Callable[[Any], Any]) -> Callable[..., Any]:
    def run(x: Any, h: Any, w_in: Any, w: Any, b_in: Any = None, b: Any = None) -> Any:
        total = x @ w_in.T + h @ w.T
        return activation(total + sum(part for part in (b_in, b) if part is not None))

    return run


operation("rnn_tanh_cell")(_plain_cell(jnp.tanh))
operation("rnn_relu_cell")(_plain_cell(jax.nn.relu))
