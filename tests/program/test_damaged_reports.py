"""A page about a damaged folder is an error that names the file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hansa.program import RunError, write_report
from tests.program.damaging import copied

pytestmark = pytest.mark.usefixtures("no_fsync")


def test_a_damaged_folder_has_no_page_but_an_error_that_names_the_file(whole: Path, tmp_path: Path) -> None:
    folder = copied(whole, tmp_path)
    files = {
        "run.json": ['{"asked": {}, "rounds": "x"}', '{"asked": {"evaluate_every": 0}, "rounds": 1}'],
        "population.json": [
            "[]", '{"clients": -1}', '{"clients": 2, "client_ids": ["a"]}', '{"clients": 1, "examples": ["x"]}',
            '{"clients": 1, "sizes": {"total": 1, "quantiles": [1]}}', '{"clients": 1, "label_counts": [[1]]}',
            '{"clients": 1, "labels": [1], "label_counts": [[1, 2]]}', '{"clients": 1, "sizes": null}',
        ],
        "rounds.jsonl": [
            '{"round": 1}\n', '{"round": 1, "seconds": "x", "evaluation_seconds": 1}\n',
            '{"round": 1, "seconds": 1e999, "evaluation_seconds": 1}\n',
            '{"round": 1, "seconds": 1, "evaluation_seconds": 1, "clients": -1}\n',
            '{"round": 1, "seconds": 1, "evaluation_seconds": 1, "clients": 1, "positions": "a"}\n',
        ],
        "metrics.jsonl": ['{"round": 1, "loss": [1]}\n', '{"round": 1, "loss": {"a": 1}}\n', "x\n"],
        "client_metrics.csv": ["", "client_id,x\na\n", "client_id,x\na,b\n", 'client_id,x\n"a,1\n'],
    }  # fmt: skip
    for name, texts in files.items():
        before = (folder / name).read_bytes() if (folder / name).exists() else None
        for text in texts:
            (folder / name).write_text(text)
            with pytest.raises(RunError, match=str(folder / name)):
                write_report(folder, tmp_path / "page.html")
        (folder / name).unlink()
        os.mkfifo(folder / name)
        with pytest.raises(RunError, match=str(folder / name)):
            write_report(folder, tmp_path / "page.html")
        (folder / name).unlink()
        if before is not None:
            (folder / name).write_bytes(before)
    assert not (tmp_path / "page.html").exists()
    write_report(folder, tmp_path / "page.html")
