"""Text as tokens of one's own tokenizer: sequences of one length, with weights that say which tokens are learned."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from hansa._tracebacks import boundaries
from hansa.simulation._values import integer
from hansa.types.mismatch import describe

Tokens = npt.NDArray[np.int32]


class Encodes(Protocol):
    """What has `encode(text, add_special_tokens=…).ids`, as a `tokenizers.Tokenizer`."""

    def encode(self, sequence: str, *, add_special_tokens: bool) -> Any:
        """The tokens of a text."""


@boundaries
class TokenCoding:
    """Sequences of tokens to predict the next one in, as a tokenizer makes them of text.

    Each method gives arrays with a row for each sequence, and a column for each token:

    - `token_ids`, int32: the tokens, padded at the end;
    - `padding_mask`, int32: 1 where there is a token;
    - `y`, int32: the next token after each;
    - `sample_weight`, float32: 1 where `y` is to be learned, else 0.

    Args:
        tokenizer: a `tokenizers.Tokenizer`; a tokenizer of `transformers` or `keras_hub`; or any function from a text
            to the numbers of its tokens. It is called without special tokens, which are said here.
        length: tokens in a sequence.
        begin, end: the numbers of the tokens that are put before a text and after it; by default none.
        padding: the number that stands where there is no token.
        inputs, mask: other names of `token_ids` and `padding_mask`, as a model has them.
        weights: "tokens", for a mean over all tokens that are learned, or "sequences", for one in which each sequence
            counts the same: its weights are divided by their sum.

    Raises:
        TypeError, ValueError: if an argument is not what is said above.

    Examples:
        >>> words = ["<end>", "how", "are", "you", "well"]
        >>> coding = hansa.simulation.TokenCoding(lambda text: [words.index(w) for w in text.split()], length=5, end=0)
        >>> coding.encode("how are")
        array([1, 2], dtype=int32)
        >>> coding.texts(["how are you"])["token_ids"], coding.texts(["how are you"])["y"]
        (array([[1, 2, 3, 0, 0]], dtype=int32), array([[2, 3, 0, 0, 0]], dtype=int32))
        >>> answered = coding.answers(["how are you"], ["well"])
        >>> answered["token_ids"], answered["y"], answered["sample_weight"]
        (array([[1, 2, 3, 4, 0]], dtype=int32), array([[2, 3, 4, 0, 0]], dtype=int32), array([[0., 0., 1., 1., 0.]], ...
    """

    def __init__(
        self,
        tokenizer: Callable[..., Any] | Encodes,
        length: int,
        *,
        begin: int | None = None,
        end: int | None = None,
        padding: int = 0,
        inputs: str = "token_ids",
        mask: str = "padding_mask",
        weights: str = "tokens",
    ) -> None:
        if weights not in ("tokens", "sequences"):
            raise ValueError(f"weights must be 'tokens' or 'sequences'; found {weights!r}")
        self._encode = _encoder(tokenizer)
        self._length = integer("length", length, 1)
        self._begin, self._end = _special("begin", begin), _special("end", end)
        self._padding, self._inputs, self._mask = integer("padding", padding, 0), inputs, mask
        self._by_sequence = weights == "sequences"

    def encode(self, text: str) -> Tokens:
        """The numbers of a text's tokens, int32 [tokens], without begin and end."""
        if not isinstance(text, str):
            raise TypeError(f"a text must be a string; found {describe(text)}")
        found = np.asarray(self._encode(text))
        if found.ndim != 1 or (found.size and found.dtype.kind not in "iu"):
            raise TypeError(f"the tokenizer must give a number for each token of a text; found {describe(found)}")
        return found.astype(np.int32)

    def texts(self, texts: Iterable[str], *, packed: bool = False) -> dict[str, npt.NDArray[Any]]:
        """Texts of which every token is learned. Long ones are cut into several sequences.

        Args:
            texts: the texts.
            packed: put texts one after another, so that only the last sequence is padded. A model then sees what comes
                before a text, too.
        """
        found = [self._whole(self.encode(text)) for text in texts]
        found = [np.concatenate(found)] if packed and found else found
        pieces = [
            whole[start : start + self._length + 1]
            for whole in found
            for start in range(0, len(whole) - 1, self._length)
        ]
        return self._rows([(piece, 0) for piece in pieces])

    def answers(self, prompts: Iterable[str], answers: Iterable[str]) -> dict[str, npt.NDArray[Any]]:
        """A sequence for each prompt and its answer, of which the answer and its end are learned.

        Of what is too long, the beginning of the prompt is left out, and then the end of the answer.

        Raises:
            ValueError: if there are more prompts than answers, or fewer, or a prompt has no token to begin with.
        """
        rows = []
        for prompt, answer in zip(prompts, answers, strict=True):
            said = np.concatenate([self.encode(answer), self._end])[: self._length]
            asked = np.concatenate([self._begin, self.encode(prompt)])
            if not len(asked):
                raise ValueError(
                    f"the prompt {prompt!r:.60} has no token; give TokenCoding a token to begin with, begin=…"
                )
            asked = asked[-(self._length + 1 - len(said)) :]
            rows.append((np.concatenate([asked, said]), len(asked) - 1))
        return self._rows(rows)

    def _whole(self, tokens: Tokens) -> Tokens:
        return np.concatenate([self._begin, tokens, self._end]).astype(np.int32)

    def _rows(self, sequences: Sequence[tuple[Tokens, int]]) -> dict[str, npt.NDArray[Any]]:
        """The arrays of sequences, each with the place from which on it is learned."""
        shape = len(sequences), self._length
        x, y = (np.full(shape, self._padding, np.int32) for _ in range(2))
        mask, weight = np.zeros(shape, np.int32), np.zeros(shape, np.float32)
        for i, (tokens, first) in enumerate(sequences):
            used = len(tokens) - 1
            x[i, :used], y[i, :used], mask[i, :used] = tokens[:-1], tokens[1:], 1
            weight[i, first:used] = 1 / max(used - first, 1) if self._by_sequence else 1
        return {self._inputs: x, self._mask: mask, "y": y, "sample_weight": weight}


def _special(name: str, number: int | None) -> Tokens:
    """A token that is put beside texts, or none."""
    return np.array([] if number is None else [integer(name, number, 0)], np.int32)


def _encoder(tokenizer: Any) -> Callable[[str], Any]:
    """A function from a text to its tokens' numbers."""
    if hasattr(tokenizer, "encode") and not callable(tokenizer):  # of `tokenizers`
        return lambda text: tokenizer.encode(text, add_special_tokens=False).ids
    if hasattr(tokenizer, "apply_chat_template"):  # of `transformers`
        return lambda text: tokenizer(text, add_special_tokens=False)["input_ids"]
    if callable(tokenizer):
        return lambda text: tokenizer(text)
    raise TypeError(
        "the tokenizer must be a tokenizers.Tokenizer, or a function from a text to the numbers of its tokens; found "
        f"{describe(tokenizer)}"
    )
