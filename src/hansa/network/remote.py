"""A coordinator elsewhere, as an operator uses it: by a folder with a key, and a certificate of that role."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote

from hansa.network.credentials import OPERATOR, Credentials
from hansa.network.durable import Disk
from hansa.network.link import Answer, UnreachableError
from hansa.network.membership import Invitation, enrolled
from hansa.network.operations import SIZE
from hansa.network.proxies import digest_header
from hansa.network.settings import NetworkError
from hansa.network.submissions import RunTerms, SubmissionError

_FILE = "operator.json"


def login(folder: Path, invitation: Invitation, disk: Disk | None = None) -> dict[str, Any]:
    """Makes a folder an operator's; asking again after a failure is of no harm.

    Returns:
        What it is: `url`, `authority`, `name` and `who`.

    Raises:
        InvitationError: if the coordinator does not take the invitation.
        UnreachableError: if it was not reached.
    """
    disk = disk or Disk()
    folder.mkdir(parents=True, exist_ok=True)
    told = enrolled(folder, invitation, OPERATOR, "/v1/operators/enrol", disk)
    made = {"url": invitation.url, "authority": invitation.authority, "name": told["name"], "who": told["who"]}
    if invitation.trust is not None:
        made |= {"trust": invitation.trust, "signer": invitation.signer}
    disk.write(folder / _FILE, [json.dumps(made).encode()])
    return made


class Remote:
    """A coordinator elsewhere.

    Args:
        folder: the operator's.

    Raises:
        NetworkError: if it is none, or the certificate has expired.
        UnreachableError: if the certificate is to be renewed, and the coordinator is not reached.
    """

    def __init__(self, folder: Path) -> None:
        try:
            found = json.loads((folder / _FILE).read_text())
            credentials = Credentials.from_json(folder, OPERATOR, found)
            self._link = credentials.link()
        except FileNotFoundError:
            raise NetworkError(
                f"{folder} is neither an operator's folder, which hansa network login makes, nor a coordinator's"
            ) from None
        except (ValueError, KeyError, TypeError) as error:
            raise NetworkError(f"{folder / _FILE} is damaged: {error!r}; log in anew in another folder") from None
        if (why := credentials.why_not()) is not None:
            raise NetworkError(why)
        credentials.renew(self._link, Disk(), "/v1/operators/renew")

    def close(self) -> None:
        """Ends the connection."""
        self._link.close()

    def __enter__(self) -> Remote:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def runs(self) -> list[dict[str, Any]]:
        """All runs that were submitted, the oldest first."""
        found: list[dict[str, Any]] = self._asked("GET", "/v1/runs").json
        return found

    def submit(self, terms: RunTerms, program: bytes) -> dict[str, Any]:
        """Submits a run.

        Raises:
            SubmissionError: if the coordinator does not take it.
        """
        head = json.dumps(terms.to_json()).encode()
        pieces = [SIZE.pack(len(head)), head, *_cut(program)]
        seen = hashlib.sha256()
        for piece in pieces:
            seen.update(bytes(piece))
        headers = {"Content-Length": str(sum(map(len, pieces))), "Content-Digest": digest_header(seen.digest())}
        found: dict[str, Any] = self._asked("PUT", _path(terms.name), iter(pieces), headers).json
        return found

    def stop(self, name: str) -> dict[str, Any]:
        """Stops a run.

        Raises:
            SubmissionError: if there is none, or it has ended.
        """
        found: dict[str, Any] = self._asked("POST", _path(name, "/stop"), {}).json
        return found

    def log(self, name: str, offset: int = 0) -> tuple[list[dict[str, Any]], int]:
        """Lines of a run's log from a byte on, and the byte to go on from.

        Raises:
            SubmissionError: if there is no such run.
        """
        answer = self._asked("GET", _path(name, f"/log?from={offset}"))
        return [json.loads(line) for line in answer.body.splitlines()], int(answer.headers["hansa-next"])

    def checkpoint(self, name: str, target: Path) -> str:
        """Writes the newest checkpoint of a run to a file, and gives its name there.

        Raises:
            SubmissionError: if there is none.
        """
        part = target.with_name(f".{target.name}.part")
        try:
            with part.open("wb") as file:
                answer = self._link.download(_path(name, "/checkpoint"), file)
            self._checked(answer)
            os.replace(part, target)
        finally:
            part.unlink(missing_ok=True)
        return answer.headers.get("hansa-checkpoint", "")

    def _asked(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Answer:
        return self._checked(self._link.send(method, path, body, headers, seconds=300.0))

    @staticmethod
    def _checked(answer: Answer) -> Answer:
        if answer.status == 200:
            return answer
        found = answer.json
        told = found.get("error") if isinstance(found, dict) else None
        if answer.status in (400, 409):
            raise SubmissionError(str(told))
        raise UnreachableError(f"the coordinator answers with status {answer.status}: {told}")


def _path(name: str, rest: str = "") -> str:
    return f"/v1/runs/{quote(name, safe='')}{rest}"


def _cut(program: bytes) -> Iterator[memoryview]:
    view = memoryview(program)
    return (view[at : at + 2**18] for at in range(0, len(view), 2**18))
