"""The curves of a demo as a picture: loss on the left, accuracy on the right."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hansa._files import replacing
from hansa.cli._history import Round
from hansa.program.curves import Line, Panel, draw


def draw_curves(rounds: Sequence[Round], title: str, subtitle: str, target: Path) -> None:
    """Draw a run's curves into a PNG.

    Args:
        rounds: at least one round.
        title: what was run, in a few words.
        subtitle: the setting and the result, in a line.
        target: the picture's path, ending in `.png`.
    """
    numbers = [record.round for record in rounds]

    def lines(clients: list[float], held_out: list[float]) -> list[Line]:
        return [Line("in training", numbers, clients, main=False), Line("held out", numbers, held_out, main=True)]

    losses = lines([record.loss for record in rounds], [record.held_out_loss for record in rounds])
    accuracies = lines([record.accuracy for record in rounds], [record.held_out_accuracy for record in rounds])
    figure = draw([Panel("Loss", losses), Panel("Accuracy", accuracies, top=1.03)], title, subtitle)
    with replacing(target) as part:
        figure.savefig(part)
