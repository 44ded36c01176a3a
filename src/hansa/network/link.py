"""A device's link to its coordinator: one connection, requests that may be repeated, transfers that go on.

It stands on the standard library. A device dials out, and is never dialled.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import random
import ssl
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit

from hansa.network.blobs import Blobs
from hansa.network.proxies import digest_header
from hansa.network.signed_link import RequestSigner

_PIECE = 2**18
_MOST_ANSWER = 2**24
"""Bytes of an answer that is no blob."""
_LONGEST_WAIT = 300.0


class UnreachableError(Exception):
    """The coordinator was not reached, or has no time; the same may be tried again.

    Attributes:
        seconds: when, if it says so.
    """

    def __init__(self, message: str, seconds: float | None = None) -> None:
        super().__init__(message)
        self.seconds = seconds


class TurnedAwayError(Exception):
    """The coordinator does not want this device, or is another than it should be; trying again is of no use."""


@dataclass(frozen=True)
class Answer:
    """What the coordinator has answered.

    Attributes:
        status: of HTTP.
        headers: by their names in lower case.
        body: the bytes.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            raise UnreachableError(f"something else than the coordinator answers: {self.body[:80]!r}") from None


class Link:
    """The link of a device.

    Args:
        url: of the coordinator, `https://host:port`.
        context: TLS.
        signer: signs requests, where a proxy ends TLS.
        why_not: says why the caller's certificate is of no use now; None if it is.

    Raises:
        ValueError: if the URL is none of HTTPS.
    """

    def __init__(
        self,
        url: str,
        context: ssl.SSLContext,
        signer: RequestSigner | None = None,
        why_not: Callable[[], str | None] = lambda: None,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme != "https" or not parts.hostname or parts.path not in ("", "/"):
            raise ValueError(f"the coordinator has a URL such as https://host:8443; found {url!r}")
        self._host, self._port = parts.hostname, parts.port or 443
        self._context, self._signer, self._why_not = context, signer, why_not
        self._signature = ""
        self._connection: http.client.HTTPSConnection | None = None

    def close(self) -> None:
        """Ends the connection; the next request begins another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def trust(self, context: ssl.SSLContext, signer: RequestSigner | None) -> None:
        """From the next request on with another context and signer, as after a new certificate."""
        self.close()
        self._context, self._signer = context, signer

    def send(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None, seconds: float = 60.0
    ) -> Answer:
        """One request, and the whole answer.

        Args:
            method: of HTTP.
            path: what is asked for.
            body: bytes, an iterable of bytes, or what is sent as JSON.
            headers: more of them; with an iterable `Content-Digest`, where a proxy ends TLS.
            seconds: in which a byte must come or go.

        Raises:
            UnreachableError: if there is no answer, or it is that it may be tried again.
            TurnedAwayError: if the device is not wanted.
        """
        if isinstance(body, dict):
            body, headers = json.dumps(body).encode(), {"Content-Type": "application/json", **(headers or {})}
        with self._response(method, path, body, headers, seconds) as response:
            data = response.read(_MOST_ANSWER + 1)
            if len(data) > _MOST_ANSWER:
                raise UnreachableError("the answer is longer than any of the coordinator's")
            answer = Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, data)
            self._check(answer, answer.body)
        if answer.status == 401:
            raise TurnedAwayError(_error(answer))
        if answer.status in (429, 502, 503, 504):
            raise UnreachableError(_error(answer), _retry_after(answer))
        return answer

    def _check(self, answer: Answer, body: bytes | None) -> None:
        """Looks whether an answer through a proxy is the coordinator's."""
        if self._signer is None or self._signer.is_answered(self._signature, answer.status, answer.headers, body):
            return
        if answer.status == 401:  # perhaps as the coordinator has begun again; and nobody is turned away by a proxy
            self._signer.tag = None
        seconds = _retry_after(answer) if answer.status in (429, 502, 503, 504) else None
        raise UnreachableError(f"a proxy answers, and not the coordinator: {_error(answer)}", seconds)

    def _signed(self, method: str, path: str, body: Any, headers: dict[str, str]) -> dict[str, str]:
        """The headers of a request, signed where a proxy ends TLS."""
        if self._signer is None:
            return headers
        if self._signer.tag is None:
            with self._exchange("GET", "/v1/tag", None, {}, 30.0) as response:
                found = Answer(response.status, {}, response.read(_MOST_ANSWER)).json
            if not isinstance(found, dict) or not isinstance(found.get("tag"), str):
                raise UnreachableError(f"the coordinator behind the proxy takes no signed requests: {found!r:.200}")
            self._signer.tag = found["tag"]
        digest = headers.get("Content-Digest")
        if digest is None:
            digest = digest_header(hashlib.sha256(body or b"").digest())
        signed = {**headers, **self._signer.headers(method, path, digest, headers)}
        self._signature = signed["Signature"]
        return signed

    def fetch(self, digest: str, size: int, blobs: Blobs) -> None:
        """Gets a blob, unless it is here; half of it is gone on with.

        Raises:
            UnreachableError: if it did not come whole.
        """
        if blobs.has(digest):
            return
        offset = blobs.begun(digest)
        headers = {"Range": f"bytes={offset}-"} if 0 < offset < size else {}
        with self._response("GET", f"/v1/blobs/{digest}", None, headers, 60.0) as response:
            if response.status not in (200, 206):
                response.read(_MOST_ANSWER)
                raise UnreachableError(f"the blob {digest[:12]}… is not given: status {response.status}")
            whole = blobs.fetch(digest, _pieces(response, size), offset if response.status == 206 else 0)
        if not whole:
            raise UnreachableError(f"the blob {digest[:12]}… was changed on its way")

    def download(self, path: str, file: BinaryIO, seconds: float = 300.0) -> Answer:
        """Writes the body of an answer to a file, and gives the rest of it; of one that is no success, the body.

        Raises:
            UnreachableError: if it does not come whole.
            TurnedAwayError: if the caller is not wanted.
        """
        with self._response("GET", path, None, None, seconds) as response:
            headers = {k.lower(): v for k, v in response.getheaders()}
            body = b"" if response.status == 200 else response.read(_MOST_ANSWER)
            seen = hashlib.sha256()
            for piece in _pieces(response, int(headers.get("content-length", 0)) if response.status == 200 else 0):
                file.write(piece)
                seen.update(piece)
        answer = Answer(response.status, headers, body)
        if answer.status == 200 and self._signer is not None:
            if headers.get("content-digest") != digest_header(seen.digest()):
                raise UnreachableError("what was downloaded was changed on its way")
            self._check(answer, None)
        else:
            self._check(answer, body)
        if answer.status == 401:
            raise TurnedAwayError(_error(answer))
        return answer

    def upload(self, task: str, digest: str, path: Path) -> dict[str, Any]:
        """Sends a contribution, from where the coordinator has it; gives how the task has ended.

        Raises:
            UnreachableError: if it is not all there yet.
            TurnedAwayError: if the device is not wanted.
        """
        target, total = f"/v1/tasks/{task}/{digest}", path.stat().st_size
        head = self.send("HEAD", target)
        if head.status == 403:
            return {"outcome": "refused", "reason": "the task is none of this device"}
        offset = total if "hansa-outcome" in head.headers else int(head.headers.get("upload-offset", 0))
        if offset > total:
            offset = 0
        headers = {
            "Upload-Offset": str(offset),
            "Upload-Length": str(total),
            "Content-Length": str(total - offset),
            "Content-Type": "application/octet-stream",
        }
        with path.open("rb") as file:
            file.seek(offset)
            if self._signer is not None:
                headers["Content-Digest"] = digest_header(hashlib.file_digest(file, "sha256").digest())
                file.seek(offset)
            answer = self.send("PUT", target, iter(lambda: file.read(_PIECE), b""), headers)
        told = answer.json
        if answer.status != 200 or not isinstance(told, dict) or not isinstance(told.get("outcome"), str):
            raise UnreachableError(f"the contribution is not there yet: {answer.body[:200]!r}")
        return told

    @contextlib.contextmanager
    def _response(
        self, method: str, path: str, body: Any, headers: Mapping[str, str] | None, seconds: float
    ) -> Iterator[http.client.HTTPResponse]:
        signed = self._signed(method, path, body, dict(headers or {}))
        with self._exchange(method, path, body, signed, seconds) as response:
            yield response

    @contextlib.contextmanager
    def _exchange(
        self, method: str, path: str, body: Any, headers: dict[str, str], seconds: float
    ) -> Iterator[http.client.HTTPResponse]:
        connection = self._connection
        if connection is None:
            connection = http.client.HTTPSConnection(self._host, self._port, context=self._context)
            self._connection = connection
        connection.timeout = seconds
        try:
            if connection.sock is not None:
                connection.sock.settimeout(seconds)
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            yield response
            if response.will_close or not response.isclosed():
                self.close()
        except ssl.SSLCertVerificationError as error:
            self.close()
            raise TurnedAwayError(f"this is not the coordinator of this network: {error}") from None
        except (OSError, http.client.HTTPException) as error:
            self.close()
            if (why := self._why_not()) is not None:
                raise TurnedAwayError(why) from None
            raise UnreachableError(f"{type(error).__name__}: {error}") from None
        except BaseException:
            self.close()
            raise


def waiting(attempt: int, asked: float | None = None) -> float:
    """Seconds until the next attempt: any number up to twice as many each time, so that not all come at once.

    Args:
        attempt: how many have failed, from 0.
        asked: what the coordinator has asked for; somewhat more than that.
    """
    if asked is not None:
        return asked * random.uniform(1.0, 1.5)
    return random.uniform(0.0, min(_LONGEST_WAIT, 0.25 * 2.0 ** min(attempt, 12)))


def _pieces(response: http.client.HTTPResponse, most: int) -> Iterator[bytes]:
    left = most
    while left > 0 and (piece := response.read(min(_PIECE, left))):
        left -= len(piece)
        yield piece


def _error(answer: Answer) -> str:
    with contextlib.suppress(UnreachableError):
        if isinstance(answer.json, dict) and "error" in answer.json:
            return str(answer.json["error"])
    return f"status {answer.status}"


def _retry_after(answer: Answer) -> float | None:
    try:
        return min(_LONGEST_WAIT, max(0.0, float(answer.headers["retry-after"])))
    except (KeyError, ValueError):
        return None
