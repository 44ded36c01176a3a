"""A file is replaced whole, and Ctrl-C is a request."""

import signal
from pathlib import Path

import pytest

from hansa._files import replacing
from hansa.program.interrupt import StopRequest


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path):
    target = tmp_path / "metrics.csv"
    target.write_text("before")
    with pytest.raises(OSError, match="disk"), replacing(target) as part:
        part.write_text("half")
        raise OSError("disk full")
    assert target.read_text() == "before"
    with replacing(target) as part:
        part.write_text("after")
    assert target.read_text() == "after"
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.csv"]
    with pytest.raises(FileNotFoundError) as raised, replacing(tmp_path / "none" / "metrics.csv"):
        pass
    assert raised.value.filename == str(tmp_path / "none" / "metrics.csv"), "and not of what is beside it"


def test_the_first_ctrl_c_asks_and_the_second_interrupts():
    before = signal.getsignal(signal.SIGINT)
    with StopRequest() as stop:
        assert not stop.requested
        signal.raise_signal(signal.SIGINT)
        assert stop.requested
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before
