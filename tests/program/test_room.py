"""A run whose folder cannot be written ends with an error that says so, and leaves nothing that is half done."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from hansa.program import RunError, load_checkpoint
from tests.program.counting import run
from tests.program.damaging import rounds_in_records


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EIO])
@pytest.mark.parametrize("operation", ["fsync", "replace", "write"])
def test_a_folder_that_cannot_be_written_any_more_ends_the_run_and_nothing_is_half_done(
    operation: str, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, patches = tmp_path / "run", [monkeypatch]

    def failing(*arguments: Any) -> Any:
        raise OSError(code, os.strerror(code))

    def after_round(number: int, state: Any, metrics: Any) -> None:
        if number == 3 and patches:
            where = "hansa.program.sinks._append" if operation == "write" else f"os.{operation}"
            patches.pop().setattr(where, failing)

    with pytest.raises(RunError, match=rf"{folder} cannot be written: .*{os.strerror(code)}.*Round 2 is the last"):
        run(folder, 6, callbacks=[after_round])
    monkeypatch.undo()
    assert sorted(path.name for path in (folder / "checkpoints").iterdir()) == ["round-00000002.hansa"]
    assert not list(folder.rglob(".part-*"))
    assert run(folder, 6, callbacks=[after_round]).state.sum == 21


def test_a_disk_without_room_ends_the_run_and_it_goes_on_when_there_is_some(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    run(tmp_path / "run", 4)  # which compiles all that is needed

    def note(state: Any) -> dict[str, str]:
        return {"note": "x" * 20_000}

    # No file may become larger, which is what the system says then, too.
    other = tmp_path / "other"
    resource.setrlimit(resource.RLIMIT_FSIZE, (70_000, before[1]))
    try:
        with pytest.raises(
            RunError, match=r"other cannot be written: .*metrics.*Round 2 is the last one that is saved"
        ):
            run(other, 6, evaluate=note)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert load_checkpoint(other).round == 2
    assert run(other, 6, evaluate=note).state.sum == 21
    assert rounds_in_records(other / "metrics.jsonl") == [1, 2, 3, 4, 5, 6]
    assert not list(other.glob("*.damaged"))
