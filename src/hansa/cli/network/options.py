"""What `hansa join` takes: written once, for Click and for where there is no Click (`hansa.cli.light`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["text", "texts", "path", "file", "folder", "flag"]


@dataclass(frozen=True)
class Option:
    """An option of a command.

    Attributes:
        flag: how it is written, such as `--data`.
        help: what it is, in a few words.
        kind: a text, several of them, a path, one of a file or of a folder, or a flag, which has no value.
        metavar: what help calls its value.
        default: its value where it is not given.
        parameter: what the command calls it; by default, as it is written.
    """

    flag: str
    help: str
    kind: Kind = "text"
    metavar: str = ""
    default: str | None = None
    parameter: str = ""

    @property
    def name(self) -> str:
        """What the command calls it."""
        return self.parameter or self.flag.removeprefix("--").replace("-", "_")


JOIN = (
    Option("--data", ".npz, .csv, .parquet, a folder of images, or a database.", "path", "PATH"),
    Option("--query", "Of a SQLite database: a row for each example.", metavar="SQL"),
    Option("--feature", "An array, and its columns.", "texts", "NAME=COLUMN,…", parameter="features"),
    Option("--type", "What an array is cast to.", "texts", "NAME=DTYPE", parameter="types"),
    Option("--image-size", "Of images: to what they are scaled.", metavar="HxW"),
    Option("--grey", "Of images: make them grey.", "flag"),
    Option("--labels", "Of images: all labels, in the order of their numbers.", metavar="A,B,…"),
    Option("--folder", "The device's own folder.", "folder", "FOLDER", "hansa-device"),
    Option("--client", "Whose data it is, where the invitation does not say it.", metavar="ID"),
    Option("--policy", "What is allowed: a policy.toml.", "file", "FILE"),
    Option("--unprotected", "Give what nobody else is to see: the coordinator sees it.", "flag"),
    Option("--dry-run", "Show what is asked for, and whether it would be done; do nothing.", "flag"),
    Option("--log", "Show what this device has done, and what has left it; do nothing.", "flag"),
    Option("--json", "Print one JSON object a line.", "flag"),
)

JOIN_SHORT = "Be a device: join, and do what is asked for."

JOIN_ABOUT = """Join a network as a device, and do what is asked for until Ctrl-C. The data stays here.

INVITATION is what the operator has given, or a file with it. A device that has joined needs none.
"""

AFTER_JOIN = """
*Examples*
  hansa join ann.txt --data ann.npz --folder ann
  hansa join ann.txt --data visits.csv --feature x=height,weight --feature y=ill
  hansa join ann.txt --data clinic.db --query "SELECT height, ill FROM visits"
  hansa join --data ann.npz --folder ann          a device that has joined
  hansa join --data ann.npz --folder ann --dry-run    what it is asked for
  hansa join --folder ann --log                   what has left it

It dials out, and listens nowhere. policy.toml says what its owner allows:

  [accept]
  operations = ["federated_mean", "federated_sum"]
  min_cohort = 20
  [limits]
  bytes_up_per_day = "200MB"
  [when]
  hours = "22:00-06:00"
"""
