"""Files of JSON lines and of text."""

import json

import numpy as np
import pytest

from hansa.simulation import DatasetError, TokenCoding, from_json_lines, from_text_files

CODING = TokenCoding(lambda text: [ord(letter) for letter in text], length=6, end=0)


@pytest.fixture
def file(tmp_path):
    """Lines of four clients, and nobody, with what a line's place in bytes must not be taken for its characters'."""
    path = tmp_path / "questions.jsonl"
    whose = ["bo", "ann", "bo", None, "ünal", "ann", "bo"]
    lines = [json.dumps({"who": who, "q": f"é{i}", "a": "ö" * i}, ensure_ascii=False) for i, who in enumerate(whose)]
    path.write_bytes(("\n\n".join(lines[:3]) + "\r\n" + "\n".join(lines[3:])).encode())
    return path


def answers(records):
    return CODING.answers([record["q"] for record in records], [record["a"] for record in records])


@pytest.mark.filterwarnings("ignore:.*left out")
def test_lines_are_read_when_they_are_wanted(file):
    asked = []

    def convert(records):
        asked.append([record["q"] for record in records])
        return answers(records)

    data = from_json_lines(file, "who", convert=convert)
    assert data.client_ids == ["ann", "bo", "ünal"] and asked == [] and data.num_left_out == 1
    found = data.client("ann")
    assert asked == [["é1", "é5"]]
    expected = CODING.answers(["é1", "é5"], ["ö", "ööööö"])
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value)
    by_function = from_json_lines(file, lambda record: record["q"][-1:], convert=answers)
    assert by_function.client_ids == list("0123456")


def test_lines_without_clients_are_dealt_out(file):
    def convert(records):
        return {"number": [int(record["q"][1:]) for record in records]}

    data = from_json_lines(file, convert=convert, partition={"method": "iid", "clients": 3, "seed": 1})
    numbers = np.concatenate([data.client(i)["number"] for i in data.client_ids])
    assert len(data) == 3 and sorted(numbers.tolist()) == list(range(7))


@pytest.mark.filterwarnings("ignore:.*left out")
def test_a_file_that_has_changed_is_refused(file):
    data = from_json_lines(file, "who", convert=answers)
    file.write_bytes(b"\n" + file.read_bytes())
    with pytest.raises(DatasetError, match="is not the file that it was"):
        data.client("bo")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"who": "a"}\n{"who": ', "line 2 of .* is no JSON"),
        ('{"who": "a"}\n\n[1]', "line 3 of .* must be a JSON object"),
        ('{"who": "a"}\n{"whose": "b"}', "line 2 of .* has no field 'who'; its fields are whose"),
        ("\n\n", "has no lines"),
        (b'{"who": "\xff"}', "line 1 of .* is no JSON in UTF-8"),
    ],
)
def test_damaged_lines_are_named(tmp_path, content, message):
    path = tmp_path / "lines.jsonl"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DatasetError, match=message):
        from_json_lines(path, "who", convert=answers)


def test_what_cannot_be_is_refused(tmp_path, file):
    with pytest.raises(FileNotFoundError):
        from_json_lines(tmp_path / "none.jsonl", "who", convert=answers)
    with pytest.raises(ValueError, match="nothing says whose"):
        from_json_lines(file, convert=answers)
    with pytest.raises(TypeError, match="convert must be a function"):
        from_json_lines(file, "q", convert=None)
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        from_text_files(tmp_path / "none", convert=answers)
    with pytest.raises(ValueError, match="there are no files"):
        from_text_files(tmp_path, convert=answers)


def test_each_text_file_is_a_client(tmp_path):
    for name, text in (("bo", "Dear Ann,\n\nwell."), ("ann", "Dear Bo")):
        (tmp_path / f"{name}.txt").write_text(text, "utf-8")
    (tmp_path / "notes.md").write_text("nobody's")
    (tmp_path / "cy.txt").write_bytes(b"\xff")
    data = from_text_files(tmp_path, convert=lambda text: CODING.texts(text.split("\n\n")))
    assert data.client_ids == ["ann", "bo", "cy"]
    expected = CODING.texts(["Dear Ann,", "well."])
    for name, value in data.client("bo").items():
        np.testing.assert_array_equal(value, expected[name])
    with pytest.raises(DatasetError, match=r"cy\.txt"):
        data.client("cy")
