"""What is kept of each round, and the table of it as CSV."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from hansa._files import replacing


class Round(NamedTuple):
    """One round's numbers.

    Attributes:
        round: its number, from 1.
        loss: the clients' loss while they trained, averaged over their images.
        accuracy: the clients' accuracy while they trained; each on the one digit it holds.
        held_out_loss: the averaged model's loss on the images that no client trains on.
        held_out_accuracy: the averaged model's accuracy on them.
        seconds: how long the round took, compilation included where there was one, evaluation not included.
    """

    round: int
    loss: float
    accuracy: float
    held_out_loss: float
    held_out_accuracy: float
    seconds: float


def write_csv(rounds: Sequence[Round], target: Path) -> None:
    """Write one line per round below a line of names; an earlier file is replaced at once."""
    with replacing(target) as part, part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(Round._fields)
        for record in rounds:
            writer.writerow([record.round, *(f"{value:.6g}" for value in record[1:])])
