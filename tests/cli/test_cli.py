"""The files of a run, and Ctrl-C as a request."""

import signal
from pathlib import Path

import pytest

from hansa._files import replacing
from hansa.cli._curves import draw_curves
from hansa.cli._history import Round, write_csv
from hansa.cli._run_folder import RunFolderError, claimed
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


def test_a_claimed_folder_goes_if_nothing_came_of_it(tmp_path: Path):
    with pytest.raises(ValueError, match="no data"), claimed(tmp_path / "runs" / "one"):
        raise ValueError("no data")
    assert not list(tmp_path.iterdir())
    with claimed(tmp_path / "runs" / "two"):
        (tmp_path / "runs" / "two" / "model").touch()
    with pytest.raises(RunFolderError, match="is not empty"), claimed(tmp_path / "runs" / "two"):
        pass
    (tmp_path / "file").touch()
    with pytest.raises(RunFolderError, match="cannot be used"), claimed(tmp_path / "file"):
        pass


def test_a_folder_of_the_user_stays_though_it_is_empty(tmp_path: Path):
    with claimed(tmp_path):
        pass
    assert tmp_path.is_dir()


def test_the_first_ctrl_c_asks_and_the_second_interrupts():
    before = signal.getsignal(signal.SIGINT)
    with StopRequest() as stop:
        assert not stop.requested
        signal.raise_signal(signal.SIGINT)
        assert stop.requested
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize("values", [(0.5, 0.9, 0.4, 0.8), (float("nan"), 0.1, float("inf"), 0.1)])
@pytest.mark.parametrize("count", [1, 2, 30])
def test_any_history_can_be_drawn_and_written(tmp_path: Path, values: tuple[float, ...], count: int):
    rounds = [Round(number, *values, 0.01) for number in range(1, count + 1)]
    draw_curves(rounds, "Title", "Subtitle", tmp_path / "curves.png")
    write_csv(rounds, tmp_path / "metrics.csv")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert len((tmp_path / "metrics.csv").read_text().splitlines()) == count + 1
