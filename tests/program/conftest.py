"""What several tests of damaged folders need."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.program.counting import run


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of four rounds, to be copied."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    run(folder, 4)
    return folder


@pytest.fixture
def no_fsync(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are not brought to the disk, which is most of what a run takes that computes nothing."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
