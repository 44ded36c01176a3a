"""What an id may be, what is nobody, and which number a client has."""

import datetime
import enum
import zlib
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hansa.types import identities

NAN = float("nan")


class Colour(enum.StrEnum):
    RED = "red"


IDS: dict[str, tuple[Any, list[Any]]] = {
    "strings as they are": (["01", "1", " a", "a ", "é", "e\u0301"], ["01", "1", " a", "a ", "é", "e\u0301"]),
    "strings that differ in a NUL": (["a\0", "a"], ["a\0", "a"]),
    "an array of strings": (np.array(["a", "bo"]), ["a", "bo"]),
    "empty strings": (["a", "", "  ", "\t"], ["a", None, None, None]),
    "an enumeration": ([Colour.RED], ["red"]),
    "missing": (
        ["a", None, NAN, np.float32("nan"), np.datetime64("NaT"), Decimal("nan"), Decimal("sNaN")],
        ["a"] + [None] * 6,
    ),
    "integers": ([3, np.int8(-7), np.uint64(2**63), 2**70], [3, -7, 2**63, 2**70]),
    "integers that NumPy would make floats of": ([2**63, -2], [2**63, -2]),
    "an array of integers": (np.array([3, -7], np.int16), [3, -7]),
    "unsigned integers": (np.array([2**64 - 1, 0], np.uint64), [2**64 - 1, 0]),
    "whole floats": (np.array([2.0, NAN, -5.0, 2.0**53 - 1]), [2, None, -5, 2**53 - 1]),
    "whole floats in a list": ([1.0, NAN, 2], [1, None, 2]),
    "whole decimals": ([Decimal("12345678901234567890"), Decimal("7.00")], [12345678901234567890, 7]),
    "masked": (np.ma.array([4, 5, 6], mask=[False, True, False]), [4, None, 6]),
    "scalars": ([np.array(4), np.str_("5")][:1], [4]),
    "nothing": ([], []),
}


@pytest.mark.parametrize("case", IDS)
def test_ids_are_what_they_were(case: str) -> None:
    given_ids, expected = IDS[case]
    found = identities.column(given_ids, "ids").tolist()
    assert found == expected
    assert all(type(one) in (int, str, type(None)) for one in found)


REFUSED: dict[str, tuple[Any, Any, str]] = {
    "a string among integers": ([1, "1"], TypeError, "row 1 holds the str '1', row 0 the int 1"),
    "an integer among strings": (["a", None, 3], TypeError, "row 0 holds the str 'a', row 2 the int 3"),
    "a bool": ([1, True], TypeError, "row 1 holds the bool True; write a string or an integer"),
    "bools": (np.array([True]), TypeError, "found bool; write a string or an integer"),
    "bytes": (["a", b"a"], TypeError, "row 1 holds the bytes b'a'; decode the bytes"),
    "an array of bytes": (np.array([b"a"]), TypeError, "decode the bytes"),
    "a fraction": ([1, 2.5], TypeError, "row 1 holds 2.5, no whole number"),
    "fractions": (np.array([1.0, 2.5]), TypeError, "row 1 holds .*2.5.*, no whole number"),
    "infinity": ([1.0, float("inf")], TypeError, "row 1 holds inf"),
    "a float for several integers": ([1, 2.0**53], ValueError, "from 9007199254740992 on one float stands for several"),
    "floats for several integers": (np.array([-1.3e19]), ValueError, "read the ids as integers or as text"),
    "short floats for several integers": (np.array([1, 2**24], np.float32), ValueError, "from 16777216 on"),
    "a huge decimal": ([Decimal("1e1000000")], TypeError, "row 0 holds Decimal"),
    "dates": (np.array(["2020-01-01"], "M8[D]"), TypeError, "write dates as strings"),
    "a date": ([datetime.date(2020, 1, 1)], TypeError, "row 0 holds .*; make strings of them"),
    "lists": ([["a"], ["b"]], TypeError, "row 0 holds a list of length 1"),
    "complex": (np.array([1j]), TypeError, "found complex128"),
    "rows of several": (np.zeros((2, 1), int), TypeError, r"one for each row; found int64\[2,1\]"),
    "a string": ("abc", TypeError, "one for each row; found the str 'abc'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_id_is_refused(case: str) -> None:
    value, kind, message = REFUSED[case]
    with pytest.raises(kind, match=message):
        identities.column(value, "ids")


def test_rows_are_counted_from_the_first_of_the_table() -> None:
    with pytest.raises(TypeError, match=r"^column 'a' must hold integers or strings, the clients' ids; row 1001 holds"):
        identities.column([1, None, b""][1:], "column 'a'", 1000)


def test_minus_one_is_nobody_unless_it_may_be_a_client() -> None:
    assert identities.clients_among([3, -1, 0], "ids") == [0, 3]
    assert identities.clients_among([3, -2, 0], "ids") == [-2, 0, 3]
    assert identities.clients_among(["b", "-1"], "ids") == ["-1", "b"]
    with pytest.raises(ValueError, match="-1, which stands for nobody, and other negative ids, such as -7; write None"):
        identities.clients_among([3, -1, -7], "ids")
    with pytest.raises(TypeError, match="mixes strings and integers, such as 'a' and 3"):
        identities.clients_among([3, "a"], "ids")


TEXTS: dict[str, tuple[list[str], list[Any]]] = {
    "integers": (["0", "-7", "12345678901234567890"], [0, -7, 12345678901234567890]),
    "integers and none": (["5", "", "NA", "nan", "null"], [5, None, None, None, None]),
    "whole floats, of integers and none": (["5.0", "-4.0", ""], [5, -4, None]),
    "zeros before": (["01", "1"], ["01", "1"]),
    "a zero before, once": (["007", "12"], ["007", "12"]),
    "white space": ([" 1", "1"], [" 1", "1"]),
    "words": (["a", "NA"], ["a", "NA"]),
    "digits of another script": (["\u0663", "3"], ["\u0663", "3"]),
    "a minus before zero": (["-0", "0"], ["-0", "0"]),
    "underscores": (["1_0", "10"], ["1_0", "10"]),
}


@pytest.mark.parametrize("case", TEXTS)
def test_text_is_integers_only_where_nothing_is_lost(case: str) -> None:
    texts, expected = TEXTS[case]
    assert identities.ids_of_text(texts, "ids") == expected


@pytest.mark.parametrize("texts", [["1", "1.0"], ["1.5", "2"], ["1.2345678901234567e+19", "7"], ["01.0"]])
def test_numbers_that_are_no_integers_are_refused_in_text(texts: list[str]) -> None:
    with pytest.raises(TypeError, match=r"say column_types=\{'the column': 'str'\}"):
        identities.ids_of_text(texts, "ids")


def test_a_float_in_text_that_stands_for_several_integers_is_refused() -> None:
    with pytest.raises(ValueError, match="stands for several integers"):
        identities.ids_of_text(["9007199254740992.0"], "ids")


@pytest.mark.parametrize(
    ("client_ids", "kind", "message"),
    [
        (["a", "a"], ValueError, "client_ids names 'a' twice"),
        ([1, 1.0], ValueError, "client_ids names 1 twice"),
        (["a", None], ValueError, r"entry 1 of client_ids is None, which stands for nobody"),
        (["a", " "], ValueError, r"entry 1 of client_ids is ' ', which stands for nobody"),
        ([0, -1], ValueError, r"entry 1 of client_ids is -1, which stands for nobody"),
        (range(-3, 3), ValueError, "has -1, which stands for nobody"),
        ([("a", 1), ("a", 2)], TypeError, "row 0 holds a tuple"),
        ([0, "0"], TypeError, "and not both"),
        ([], ValueError, "is empty"),
        ({"a": 1}, TypeError, "must be a sequence of ids"),
    ],
)
def test_clients_have_an_id_each(client_ids: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        identities.distinct(client_ids)


class TestNumbers:
    def test_an_integer_of_32_bits_is_its_own(self) -> None:
        ids = [5, -7, 2**31 - 1, -(2**31), 0]
        assert identities.numbers(ids).tolist() == ids
        assert identities.numbers(range(3, 9, 2)).tolist() == [3, 5, 7]
        assert identities.numbers(np.array(ids).tolist()).tolist() == ids

    def test_others_have_a_checksum_of_31_bits(self) -> None:
        ids = ["ann", "é", 2**40]
        expected = [zlib.crc32(str(one).encode()) % 2**31 for one in ids]
        assert identities.numbers(ids[:2]).tolist() == expected[:2]
        assert identities.numbers(ids[2:]).tolist() == expected[2:]

    @given(st.lists(st.text(min_size=1), unique=True, min_size=1, max_size=30), st.randoms())
    def test_they_do_not_depend_on_order_or_company(self, ids: list[str], random: Any) -> None:
        alone = dict(zip(ids, identities.numbers(ids).tolist(), strict=True))
        some = random.sample(ids, random.randint(1, len(ids)))
        assert identities.numbers(some).tolist() == [alone[one] for one in some]

    def test_ids_of_one_checksum_have_different_numbers_in_any_order(self) -> None:
        twins: dict[int, str] = {}
        pairs = []
        for i in range(200_000):
            name = f"client {i * 7919}"
            other = twins.setdefault(zlib.crc32(name.encode()) % 2**31, name)
            if other != name:
                pairs.append((other, name))
        assert pairs
        for pair in pairs:
            first, second = sorted(pair)
            found = dict(zip(pair, identities.numbers(pair).tolist(), strict=True))
            assert found == dict(zip(pair[::-1], identities.numbers(pair[::-1]).tolist(), strict=True))
            assert found[first] == zlib.crc32(first.encode()) % 2**31 != found[second]
        everybody = identities.numbers(list(twins.values()) + [second for _, second in pairs])
        assert len(np.unique(everybody)) == len(everybody)

    def test_an_integers_own_number_comes_before_a_checksum(self) -> None:
        large = 2**40 + 3
        own = zlib.crc32(str(large).encode()) % 2**31
        assert identities.numbers([large, own]).tolist()[1] == own
        assert len(set(identities.numbers([large, own]).tolist())) == 2


@given(st.lists(st.integers(-3, 3), max_size=20))
def test_copies_have_numbers_of_their_own(chosen: list[int]) -> None:
    entries = np.array(chosen, np.int32)
    assert identities.copies(entries).tolist() == [chosen[:i].count(one) for i, one in enumerate(chosen)]
    numbers = identities.of_copies(entries).tolist()
    assert len(set(numbers)) == len(numbers)
    assert [n for i, n in enumerate(numbers) if chosen[i] not in chosen[:i]] == list(dict.fromkeys(chosen))
