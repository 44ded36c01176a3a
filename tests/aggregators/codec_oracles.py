"""Each codec in NumPy and float64: what is decoded of a message, given the same random draws; and its bytes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

Key = Any


def uniform(key: Key, shape: tuple[int, ...]) -> np.ndarray:
    return np.asarray(jax.random.uniform(key, shape, np.float32), np.float64)


def rows_of(x: np.ndarray, width: int, edge: bool = False) -> np.ndarray:
    more = -len(x) % width
    return np.pad(x, (0, more), mode="edge" if edge else "constant").reshape(-1, width)


def quantised(bits: int, bucket: int) -> Callable[[np.ndarray, Key], np.ndarray]:
    def decoded(x: np.ndarray, key: Key) -> np.ndarray:
        rows = rows_of(x, min(bucket, len(x)), edge=True)
        low, high = rows.min(1, keepdims=True), rows.max(1, keepdims=True)
        step = np.where(high > low, high - low, 1) / (2**bits - 1)
        place = (rows - low) / step
        up = uniform(key, rows.shape) < place - np.floor(place)
        return (low + (np.floor(place) + up) * np.where(high > low, step, 0)).ravel()[: len(x)]

    return decoded


def ternary(bucket: int) -> Callable[[np.ndarray, Key], np.ndarray]:
    def decoded(x: np.ndarray, key: Key) -> np.ndarray:
        rows = rows_of(x, min(bucket, len(x)))
        scale = np.abs(rows).max(1, keepdims=True)
        there = uniform(key, rows.shape) < np.abs(rows) / np.where(scale > 0, scale, 1)
        return (scale * np.sign(rows) * there).ravel()[: len(x)]

    return decoded


def hadamard(width: int) -> np.ndarray:
    matrix = np.ones((1, 1))
    while len(matrix) < width:
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    return matrix / math.sqrt(width)


def width_of(size: int, block: int) -> int:
    return min(block, 2 ** max(1, math.ceil(math.log2(max(size, 2)))))


def random_signs(key: Key, shape: tuple[int, ...]) -> np.ndarray:
    size = math.prod(shape)
    words = np.asarray(jax.random.bits(key, (-(-size // 32),), np.uint32))
    bits = np.unpackbits(words.view(np.uint8), bitorder="little")[:size]
    return 1 - 2.0 * bits.reshape(shape)


def eden(centroids: list[float], block: int) -> Callable[[np.ndarray, Key], np.ndarray]:
    def decoded(x: np.ndarray, key: Key) -> np.ndarray:
        rows = rows_of(x, width_of(len(x), block))
        signs, matrix = random_signs(key, rows.shape), hadamard(rows.shape[1])
        turned = (rows * signs) @ matrix
        each = np.sqrt((turned**2).mean(1, keepdims=True))
        normal = turned / np.where(each > 0, each, 1)
        near = np.array(centroids)[np.abs(normal[..., None] - np.array(centroids)).argmin(-1)]
        product = (turned * near).sum(1, keepdims=True)
        scale = (turned**2).sum(1, keepdims=True) / np.where(product > 0, product, 1)
        return (((scale * near) @ matrix) * signs).ravel()[: len(x)]

    return decoded


def rotated(inner: Callable[[np.ndarray, Key], np.ndarray], block: int) -> Callable[[np.ndarray, Key], np.ndarray]:
    def decoded(x: np.ndarray, key: Key) -> np.ndarray:
        turning, drawing = jax.random.split(key)
        rows = rows_of(x, width_of(len(x), block))
        signs, matrix = random_signs(turning, rows.shape), hadamard(rows.shape[1])
        back = inner(((rows * signs) @ matrix).ravel(), drawing).reshape(rows.shape)
        return ((back @ matrix) * signs).ravel()[: len(x)]

    return decoded


def sign(x: np.ndarray, key: Key) -> np.ndarray:
    return np.where(x >= 0, 1, -1) * np.abs(x).mean()


def top_k(share: float) -> Callable[[np.ndarray, Key], np.ndarray]:
    def decoded(x: np.ndarray, key: Key) -> np.ndarray:
        found, largest = np.zeros_like(x), np.argsort(-np.abs(x), kind="stable")[: max(1, round(share * len(x)))]
        found[largest] = x[largest]
        return found

    return decoded


def random_k(share: float, unbiased: bool = True) -> Callable[[np.ndarray, Key], np.ndarray]:
    def decoded(x: np.ndarray, key: Key) -> np.ndarray:
        k = max(1, round(share * len(x)))
        drawn = np.asarray(jax.random.bits(key, (len(x),), np.uint32))
        chosen, found = np.argsort(~drawn, kind="stable")[:k], np.zeros_like(x)
        found[chosen] = x[chosen] * (len(x) / k if unbiased else 1)
        return found

    return decoded


def hashes(rows: int, columns: int, size: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    factors, offsets = np.random.default_rng(seed).integers(0, 2**64, (2, rows), np.uint64)
    column, signs = np.zeros((rows, size), int), np.zeros((rows, size))
    for row in range(rows):
        for i in range(size):
            high = ((int(factors[row]) * i + int(offsets[row])) % 2**64) >> 32
            column[row, i], signs[row, i] = ((high >> 1) * columns) >> 31, 1 - 2 * (high & 1)
    return column, signs


def sketch_of(x: np.ndarray, rows: int, columns: int) -> np.ndarray:
    column, signs = hashes(rows, columns, len(x))
    table = np.zeros((rows, columns))
    for row in range(rows):
        np.add.at(table[row], column[row], signs[row] * x)
    return table


def estimates(table: np.ndarray, size: int) -> np.ndarray:
    column, signs = hashes(*table.shape, size)
    return np.median([table[row, column[row]] * signs[row] for row in range(len(table))], 0)
