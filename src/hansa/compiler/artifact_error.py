"""`ArtifactError`: a file holds no computation that can be used."""

from __future__ import annotations


class ArtifactError(ValueError):
    """A file that is no artifact, is damaged, or is newer than this Hansa; or a computation that no file can hold.

    Examples:
        >>> from pathlib import Path
        >>> _ = Path("averaging.hansa").write_text("no artifact")
        >>> hansa.load("averaging.hansa")
        Traceback (most recent call last):
            ...
        hansa.compiler.artifact_error.ArtifactError: averaging.hansa is no artifact of Hansa, or is damaged: ...
    """
