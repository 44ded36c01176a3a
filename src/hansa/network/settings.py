"""The settings of a coordinator's folder, `network.toml`, and where the coordinator that has it can be reached."""

from __future__ import annotations

import json
import os
import tomllib
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from hansa._errors import UserError
from hansa._lock import is_locked
from hansa.network.durable import Disk
from hansa.network.proxies import SYSTEM, Proxy

SETTINGS = "network.toml"
_SERVING = "serving.json"


class NetworkError(UserError):
    """A folder is no coordinator's, or something in it is not as it should be. The message says what."""


@dataclass(frozen=True)
class Settings:
    """How a coordinator serves.

    Attributes:
        host: the address to listen at.
        port: the port; 0 for any that is free.
        names: names and addresses at which devices reach it, beside `host`; the first one is in invitations.
        unprotected: whether contributions may come of which nobody but the client is to see any.
        keep_rounds: of how many rounds before the newest contributions are kept, to be folded again.
        proxy: the URL of a proxy before it that ends TLS, at which devices reach it; "" for none.
        proxy_authority: a file with the certificate of who has certified that proxy, PEM; "" where every system knows.
        proxy_port: the port on 127.0.0.1 at which such a proxy comes without TLS; 0 for none.
    """

    host: str = "127.0.0.1"
    port: int = 8443
    names: tuple[str, ...] = ()
    unprotected: bool = False
    keep_rounds: int = 0
    proxy: str = ""
    proxy_authority: str = ""
    proxy_port: int = 0

    def __post_init__(self) -> None:
        _check(self)

    @property
    def url(self) -> str:
        """At which devices reach it."""
        host = self.names[0] if self.names else "localhost" if self.host in ("0.0.0.0", "::") else self.host
        return f"https://{f'[{host}]' if ':' in host else host}:{self.port}"

    def before(self, folder: Path) -> Proxy | None:
        """The proxy that ends TLS before it; None if there is none.

        Raises:
            NetworkError: if the file of who has certified it cannot be read.
        """
        if not self.proxy:
            return None
        try:
            trust = (folder / self.proxy_authority).read_text("ascii") if self.proxy_authority else SYSTEM
        except (OSError, UnicodeDecodeError) as error:
            raise NetworkError(f"{folder / SETTINGS}: proxy_authority: {error}") from None
        return Proxy(self.proxy, trust, self.proxy_port)

    def write(self, folder: Path) -> None:
        """Writes them into a folder."""
        lines = [f"{name} = {json.dumps(value)}" for name, value in asdict(self).items()]
        Disk().write(folder / SETTINGS, ["".join(line + "\n" for line in lines).encode()])

    @classmethod
    def read(cls, folder: Path) -> Settings:
        """Those of a folder.

        Raises:
            NetworkError: if it is no coordinator's, or a value is wrong.
        """
        try:
            found = tomllib.loads((folder / SETTINGS).read_text("utf-8"))
        except FileNotFoundError:
            raise NetworkError(f"{folder} is no coordinator's folder: hansa network init {folder} makes one") from None
        except (ValueError, UnicodeDecodeError) as error:
            raise NetworkError(f"{folder / SETTINGS}: {error}") from None
        known = [field.name for field in fields(cls)]
        for name in found:
            if name not in known:
                raise NetworkError(f"{folder / SETTINGS}: there is no key {name!r}; the keys are {', '.join(known)}")
        if isinstance(found.get("names"), list):
            found["names"] = tuple(found["names"])
        try:
            return cls(**found)
        except (TypeError, ValueError) as error:
            raise NetworkError(f"{folder / SETTINGS}: {error}") from None


def _check(settings: Settings) -> None:
    if not isinstance(settings.host, str) or not settings.host:
        raise ValueError(f"host must be an address to listen at, such as 127.0.0.1; found {settings.host!r}")
    for name, most in (("port", 65535), ("keep_rounds", 10**9), ("proxy_port", 65535)):
        value = getattr(settings, name)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
            raise ValueError(f"{name} must be an integer from 0 to {most}; found {value!r}")
    for name in ("proxy", "proxy_authority"):
        if not isinstance(getattr(settings, name), str):
            raise ValueError(f"{name} must be a text; found {getattr(settings, name)!r}")
    if settings.proxy and not settings.proxy.startswith("https://"):
        raise ValueError(f"proxy must be a URL such as https://fl.example.org; found {settings.proxy!r}")
    if not settings.proxy and (settings.proxy_authority or settings.proxy_port):
        raise ValueError("proxy_authority and proxy_port are of a proxy: say its URL, proxy")
    if not isinstance(settings.unprotected, bool):
        raise ValueError(f"unprotected must be true or false; found {settings.unprotected!r}")
    if not isinstance(settings.names, tuple) or not all(isinstance(each, str) and each for each in settings.names):
        raise ValueError(f"names must be a list of names and addresses; found {settings.names!r}")


def tell_serving(folder: Path, url: str, page: str | None = None) -> None:
    """Notes in a folder where its coordinator is reached, for commands beside it."""
    facts = {"url": url, "page": page, "process": os.getpid()}
    Disk().write(folder / _SERVING, [json.dumps(facts).encode()])
    (folder / _SERVING).chmod(0o600)  # the page's address has a secret


def serving(folder: Path) -> dict[str, Any] | None:
    """What the coordinator of a folder has noted, which a process has now; None if none has."""
    if not is_locked(folder):
        return None
    try:
        found = json.loads((folder / _SERVING).read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
