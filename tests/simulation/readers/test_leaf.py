"""The JSON files of LEAF."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hansa.simulation import DatasetError, from_leaf


def written(path: Path, **user_data: Any) -> Path:
    counts = [len(data["y"]) for data in user_data.values()]
    path.write_text(json.dumps({"users": list(user_data), "num_samples": counts, "user_data": user_data}))
    return path


def test_the_users_of_all_files_are_clients(tmp_path: Path):
    written(tmp_path / "b.json", f3={"x": [[0.5, 1.5]], "y": [4]})
    written(tmp_path / "a.json", f2={"x": [[1, 2], [3, 4]], "y": [0, 1]}, f1={"x": [[5.5, 6]], "y": [2]})
    data = from_leaf(tmp_path, convert={"x": "float32", "y": "int32"})
    assert list(data.client_ids) == ["f2", "f1", "f3"]
    assert data.sizes.tolist() == [2, 1, 1]
    assert str(data.example_type) == "<x=float32[?,2],y=int32[?]>"
    assert data.client("f2")["x"].tolist() == [[1, 2], [3, 4]]
    assert data.client("f3")["y"].tolist() == [4]
    assert list(from_leaf([tmp_path / "b.json"]).client_ids) == ["f3"]


def test_text_is_read_by_a_function(tmp_path: Path):
    path = written(tmp_path / "s.json", LEAR={"x": ["Howl, how", "never, ne"], "y": ["l", "v"]})
    codes = lambda texts: np.array([[ord(character) for character in text] for text in texts])  # noqa: E731
    data = from_leaf(path, convert={"x": codes, "y": codes})
    assert data.client("LEAR")["y"].tolist() == [[108], [118]]
    with pytest.raises(TypeError, match=r"column 'x' of client 'LEAR' in .*s\.json holds text; leave it out"):
        from_leaf(path)


def test_a_client_in_two_files_is_refused(tmp_path: Path):
    first = written(tmp_path / "train.json", f1={"x": [1.0], "y": [0]})
    second = written(tmp_path / "test.json", f1={"x": [2.0], "y": [0]})
    with pytest.raises(ValueError, match=r"client 'f1' is in .*train\.json and in .*test\.json; read what is for"):
        from_leaf([first, second])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"users": [', "is damaged, or no JSON file"),
        ("[1]", "is not of LEAF's format: it must have 'users', a list"),
        ('{"users": [], "num_samples": []}', "it must have 'user_data', a JSON object"),
        ('{"users": ["a"], "num_samples": [], "user_data": {}}', "it has 1 users, but 0 numbers in num_samples"),
        ('{"users": ["a"], "num_samples": [1], "user_data": {}}', "it has no data of the user 'a'"),
        (
            '{"users": ["a"], "num_samples": [2], "user_data": {"a": {"x": [1], "y": [1]}}}',
            "num_samples says 2 for the user 'a', whose 'x' has 1",
        ),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, content: str, message: str):
    path = tmp_path / "damaged.json"
    path.write_text(content)
    with pytest.raises(DatasetError, match=message) as caught:
        from_leaf(path)
    assert str(path) in str(caught.value)


def test_what_is_not_there_is_said(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"there are no files \*\.json in"):
        from_leaf(tmp_path)
    with pytest.raises(FileNotFoundError, match="there is no file"):
        from_leaf(tmp_path / "none.json")
    path = written(tmp_path / "one.json", f1={"x": [[1.0]], "y": [0]})
    with pytest.raises(ValueError, match=r"client 'f1' in .* has no column 'z'; the columns are: x, y"):
        from_leaf(path, ["z"])
    empty = written(tmp_path / "empty.json")
    with pytest.raises(ValueError, match="has no users, so there are no clients"):
        from_leaf(empty)


def test_what_is_no_list_of_values_is_not_left_out_silently(tmp_path: Path):
    content = {"users": ["a"], "num_samples": [1], "user_data": {"a": {"x": [1], "y": [0], "name": "ann"}}}
    (tmp_path / "d.json").write_text(json.dumps(content))
    with pytest.raises(DatasetError, match=r"client 'a' in .*d.json has 'name', which is no list of a value for each"):
        from_leaf(tmp_path / "d.json")
    assert from_leaf(tmp_path / "d.json", features=["x", "y"]).client("a")["x"].tolist() == [1]
