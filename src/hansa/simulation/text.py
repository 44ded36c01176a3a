"""Text as integers, one for each character, and as sequences of one length to predict the next character in."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from hansa._tracebacks import boundaries

PADDING, BEGIN, END, UNKNOWN = range(4)


@boundaries
class CharacterCoding:
    """Numbers for characters: 0 for padding, 1 for the begin of a text, 2 for its end, 3 for unknown characters, and
    from 4 on the characters themselves, in a given order.

    Args:
        characters: the characters, each once; by default the newline and the 95 printable ones of ASCII.

    Raises:
        ValueError: a character is there twice.

    Examples:
        >>> coding = hansa.simulation.CharacterCoding("abc")
        >>> coding.size, coding.encode("cab"), coding.decode([6, 4, 5])
        (7, array([6, 4, 5], dtype=int32), 'cab')
    """

    def __init__(self, characters: str = "\n" + "".join(map(chr, range(32, 127)))) -> None:
        if len(set(characters)) < len(characters):
            raise ValueError(f"characters must hold each character once; found {characters!r}")
        self.characters = characters
        self._numbers = {character: number for number, character in enumerate(characters, start=UNKNOWN + 1)}

    @property
    def size(self) -> int:
        """How many numbers there are, 100 by default: the vocabulary of a model of these sequences."""
        return UNKNOWN + 1 + len(self.characters)

    def encode(self, text: str) -> npt.NDArray[np.int32]:
        """The numbers of a text's characters, int32 [characters]."""
        return np.fromiter((self._numbers.get(character, UNKNOWN) for character in text), np.int32, len(text))

    def decode(self, numbers: npt.ArrayLike) -> str:
        """The text of numbers `[characters]`; what stands for no character is left out, `?` stands for unknown ones."""
        known = {UNKNOWN: "?", **{number: character for character, number in self._numbers.items()}}
        return "".join(known.get(int(number), "") for number in np.asarray(numbers))

    def sequences(self, texts: Iterable[str], length: int) -> dict[str, npt.NDArray[np.int32]]:
        """Texts, each with its begin and end, cut into sequences; the last of a text is padded.

        Args:
            texts: the texts.
            length: characters per sequence.

        Returns:
            `x`, int32 `[sequences, length]`, and `y`, of the same shape: after each character of `x`, the next one.
            Where `y` is 0, there is nothing to predict.

        Examples:
            >>> hansa.simulation.CharacterCoding("abc").sequences(["cab"], length=4)
            {'x': array([[1, 6, 4, 5]], dtype=int32), 'y': array([[6, 4, 5, 2]], dtype=int32)}
        """
        x: list[npt.NDArray[np.int32]] = []
        y: list[npt.NDArray[np.int32]] = []
        for text in texts:
            whole = np.concatenate([[BEGIN], self.encode(text), [END]]).astype(np.int32)
            count = -(-(len(whole) - 1) // length)
            for found, part in ((x, whole[:-1]), (y, whole[1:])):
                found.append(np.pad(part, (0, count * length - len(part))).reshape(count, length))
        nothing = np.zeros((0, length), np.int32)
        return {"x": np.concatenate([nothing, *x]), "y": np.concatenate([nothing, *y])}
