"""Of which secret noise is made, and the keys of its streams.

A key is 256 bits, made of the secret and of what it is for: the round, the attempt, which call of it, and which of the
computation's sums. So no two sums have the same noise, and a round that is made again has the same one. Secrets are in
no computation, state or file of a computation: whoever runs a computation hands keys in
(`hansa.language.runtime_values`).
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hansa.language.occasions import Occasion

SECRET_BYTES = 32
"""How long a secret is."""

Key = npt.NDArray[np.uint32]
"""The key of a stream: uint32 [8]."""


@dataclass(frozen=True)
class _Source:
    secret: bytes
    salt: bytes
    round: int | None


_source: ContextVar[_Source | None] = ContextVar("hansa_noise", default=None)


@contextmanager
def noise_of(secret: bytes, *, round_number: int | None = None, salt: bytes = b"") -> Iterator[None]:
    """Within it, noise is made of this secret; elsewhere each call has a secret of its own, which nobody keeps.

    Rounds of a run that are made again draw the same noise, so they must be of the same contributions: of two sums with
    the same noise anybody can tell the difference. For another attempt at a round give another salt. Noise that is
    correlated over rounds (`hansa.privacy.Matrix`) takes no notice of the salt and of attempts, as later rounds draw it
    again: such a round must not be made again with other contributions.

    Args:
        secret: 32 random bytes, such as `secrets.token_bytes(32)`. Who has them can take noise away.
        round_number: which round the calls within are, from 1; by default what `hansa.program.train` says.
        salt: what distinguishes attempts at the same round.

    Raises:
        ValueError: if the secret has another length.

    Examples:
        >>> import secrets
        >>> @hansa.federated_computation("{float32}@CLIENTS")
        ... def total(values):
        ...     return hansa.federated_private_sum(values, 1.0, hansa.privacy.Gaussian(1.0))
        >>> with hansa.privacy.noise_of(secrets.token_bytes(32)):
        ...     noised = total([0.5, 1.0])
    """
    if not isinstance(secret, bytes) or len(secret) != SECRET_BYTES:
        raise ValueError(f"the secret must be {SECRET_BYTES} bytes, such as secrets.token_bytes({SECRET_BYTES})")
    if not isinstance(salt, bytes):
        raise ValueError(f"the salt must be bytes, found {type(salt).__name__}")
    if round_number is not None and (type(round_number) is not int or round_number < 0):
        raise ValueError(f"the round_number must be a number of a round, from 1; found {round_number!r}")
    token = _source.set(_Source(secret, salt, round_number))
    try:
        yield
    finally:
        _source.reset(token)


class NoiseKeys:
    """The keys of the noise of one call.

    Args:
        occasion: what the call is part of; None for a call by itself.
    """

    def __init__(self, occasion: Occasion | None) -> None:
        self._source = _source.get()
        self._occasion = occasion

    def of(self, number: int, terms: int, rounds: int | None = None) -> Key:
        """Those of the computation's sum of this number, for this round, the one before, and so on: uint32 [terms, 8].

        They are zeros for rounds before the first one, in which nothing was drawn.

        Args:
            number: of the sum.
            terms: how many rounds.
            rounds: how many rounds there may be; None if that does not matter.

        Raises:
            ValueError: if rounds matter, and it is no round of a run with a secret, or there were enough of them.
        """
        if rounds is None:
            return self._key("round", self._round, self._attempt, number)[None]
        in_run = self._occasion is not None and self._occasion.part == "round"
        if self._source is None or (self._source.round is None and not in_run):
            raise ValueError(
                "noise that is correlated over rounds needs to know which round it is, and a secret of the run: call "
                "it in hansa.program.train, or, round by round, within hansa.privacy.noise_of(secret, round_number=…)"
            )
        if not 1 <= self._round <= rounds:
            raise ValueError(
                f"this is round {self._round}, and the noise is for rounds 1 to {rounds}: there is no privacy beyond "
                "them; make the aggregator with more rounds"
            )
        keys = [self._key("rounds", self._round - back, number) for back in range(min(terms, self._round))]
        return np.stack([*keys, *[np.zeros(8, np.uint32)] * (terms - len(keys))])

    @property
    def _round(self) -> int:
        if self._source is not None and self._source.round is not None:
            return self._source.round
        return 0 if self._occasion is None else self._occasion.round

    @property
    def _attempt(self) -> Any:
        found = self._occasion
        salt = b"" if self._source is None else self._source.salt
        return (salt, found.attempt, found.part, found.call) if found is not None else salt

    def _key(self, *purpose: Any) -> Key:
        if self._source is None:
            # Each key is drawn by itself, and kept nowhere.
            return np.frombuffer(secrets.token_bytes(SECRET_BYTES), "<u4").astype(np.uint32)
        text = repr(purpose).encode()
        digest = hashlib.blake2b(
            text, digest_size=SECRET_BYTES, key=self._source.secret, person=b"hansa noise"
        ).digest()
        return np.frombuffer(digest, "<u4").astype(np.uint32)
