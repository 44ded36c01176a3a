"""Text as tokens: sequences, questions with answers, and which tokens are learned."""

import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from hansa.simulation import TokenCoding

WORDS = ["<pad>", "<begin>", "<end>", *"abcdefghij"]


def letters(text):
    """A tokenizer of the tests: a number for each letter."""
    return [WORDS.index(letter) for letter in text.replace(" ", "")]


def told(arrays, row):
    """What a row predicts, as pairs of the tokens so far and the next one, of those that are learned."""
    x, y, weight = (arrays[name][row] for name in ("token_ids", "y", "sample_weight"))
    return [("".join(WORDS[n] for n in x[: i + 1]), WORDS[y[i]]) for i in np.flatnonzero(weight)]


def test_every_token_of_a_text_is_learned_once_from_what_is_before_it():
    coding = TokenCoding(letters, length=4, begin=1, end=2)
    arrays = coding.texts(["abc", "abcdefg", ""])
    # Each sequence begins with the token that the last one ended with.
    assert [told(arrays, row) for row in range(4)] == [
        [("<begin>", "a"), ("<begin>a", "b"), ("<begin>ab", "c"), ("<begin>abc", "<end>")],
        [("<begin>", "a"), ("<begin>a", "b"), ("<begin>ab", "c"), ("<begin>abc", "d")],
        [("d", "e"), ("de", "f"), ("def", "g"), ("defg", "<end>")],
        [("<begin>", "<end>")],
    ]
    np.testing.assert_array_equal(arrays["padding_mask"].sum(1), [4, 4, 4, 1])
    assert {name: array.dtype.name for name, array in arrays.items()} == {
        "token_ids": "int32",
        "padding_mask": "int32",
        "y": "int32",
        "sample_weight": "float32",
    }


def test_packed_texts_leave_padding_at_the_very_end_only():
    coding = TokenCoding(letters, length=4, end=2)
    arrays = coding.texts(["ab", "c", "defgh"], packed=True)
    stream = [*letters("ab"), 2, *letters("c"), 2, *letters("defgh"), 2]
    flat = arrays["y"].ravel()[arrays["padding_mask"].ravel() > 0]
    np.testing.assert_array_equal(flat, stream[1:])
    np.testing.assert_array_equal(arrays["padding_mask"], [[1, 1, 1, 1], [1, 1, 1, 1], [1, 1, 0, 0]])
    assert coding.texts([], packed=True)["token_ids"].shape == (0, 4)


def test_of_questions_the_answers_are_learned():
    coding = TokenCoding(letters, length=6, begin=1, end=2)
    arrays = coding.answers(["ab", "abcdefgh", "a"], ["cd", "ij", "bcdefghij"])
    assert told(arrays, 0) == [("<begin>ab", "c"), ("<begin>abc", "d"), ("<begin>abcd", "<end>")]
    # Too long: the beginning of the prompt goes first, and then the end of the answer.
    assert told(arrays, 1) == [("efgh", "i"), ("efghi", "j"), ("efghij", "<end>")]
    assert told(arrays, 2)[0] == ("a", "b") and len(told(arrays, 2)) == 6 and told(arrays, 2)[-1] == ("abcdef", "g")
    weights = TokenCoding(letters, length=6, end=2, weights="sequences").answers(["ab", "a"], ["cd", "b"])
    np.testing.assert_allclose(weights["sample_weight"].sum(1), 1, rtol=1e-6)
    np.testing.assert_array_equal(weights["sample_weight"] > 0, [[0, 1, 1, 1, 0, 0], [1, 1, 0, 0, 0, 0]])


def test_names_are_those_of_the_model():
    coding = TokenCoding(letters, length=3, inputs="input_ids", mask="attention_mask", padding=9)
    arrays = coding.texts(["ab"])
    assert list(arrays) == ["input_ids", "attention_mask", "y", "sample_weight"]
    np.testing.assert_array_equal(arrays["input_ids"], [[3, 9, 9]])


class LikeTokenizers:
    """What `tokenizers.Tokenizer` looks like: it is not called, and adds special tokens unless it is told not to."""

    def encode(self, text, add_special_tokens=True):
        return SimpleNamespace(ids=[1] * add_special_tokens + letters(text))


class LikeTransformers:
    """What a tokenizer of `transformers` looks like."""

    def encode(self, text):
        raise AssertionError

    def apply_chat_template(self, chat):
        raise AssertionError

    def __call__(self, text, add_special_tokens=True):
        return {"input_ids": [1] * add_special_tokens + letters(text), "attention_mask": None}


@pytest.mark.parametrize("tokenizer", [letters, LikeTokenizers(), LikeTransformers(), lambda t: np.array(letters(t))])
def test_tokenizers_of_several_libraries(tokenizer):
    np.testing.assert_array_equal(TokenCoding(tokenizer, 4).encode("abc"), [3, 4, 5])


def test_a_tokenizer_that_is_on_disk(tmp_path):
    tokenizers = pytest.importorskip("tokenizers")
    vocabulary = {word: number for number, word in enumerate(WORDS)}
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="<pad>"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    made.save(str(tmp_path / "tokenizer.json"))
    assert json.loads((tmp_path / "tokenizer.json").read_text())["model"]["type"] == "WordLevel"
    read = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    np.testing.assert_array_equal(TokenCoding(read, 4).encode("a b c"), [3, 4, 5])
    assert "hansa.simulation.tokens" in sys.modules


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: TokenCoding(3, 4), TypeError, "the tokenizer must be"),
        (lambda: TokenCoding(letters, 0), ValueError, "length must be an integer of 1 or more"),
        (lambda: TokenCoding(letters, 4, end=-1), ValueError, "end must be"),
        (lambda: TokenCoding(letters, 4, weights="all"), ValueError, "'tokens' or 'sequences'"),
        (lambda: TokenCoding(letters, 4).encode(b"a"), TypeError, "must be a string"),
        (lambda: TokenCoding(lambda text: text.split(), 4).encode("a b"), TypeError, "a number for each token"),
        (lambda: TokenCoding(letters, 4).answers([""], ["a"]), ValueError, "has no token"),
        (lambda: TokenCoding(letters, 4).answers(["a"], []), ValueError, "zip"),
    ],
)
def test_what_cannot_be_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()
