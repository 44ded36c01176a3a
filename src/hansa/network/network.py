"""`serve`: a coordinator in this process, as a runtime and as what an operator does with it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy.typing as npt

from hansa._tracebacks import boundaries
from hansa.network import tls
from hansa.network.authority import Authority
from hansa.network.coordinator import Coordinator
from hansa.network.devices import Devices
from hansa.network.durable import Disk
from hansa.network.membership import Invitation
from hansa.network.monitoring import Monitor
from hansa.network.page import Page
from hansa.network.proxies import Proxy
from hansa.network.registry import Device
from hansa.network.runtime import NetworkRuntime
from hansa.network.server import Server
from hansa.network.settings import tell_serving
from hansa.network.signed_requests import SignedRequests
from hansa.network.submissions import Submissions
from hansa.simulation.data_plan import DataPlan
from hansa.types.identities import ClientId

AUTHORITY = "authority"


@boundaries
class Network(NetworkRuntime):
    """A coordinator that serves devices, and a runtime whose clients they are. `serve` makes one.

    Args:
        coordinator: who knows the devices.
        server: its port.
        authority: who makes their certificates.
        url: at which devices reach it.
        unprotected: see `serve`.
        proxy: likewise.

    Attributes:
        url: see above.

    Examples:
        >>> with hansa.network.serve("coordinator", port=0) as network:
        ...     invitation = network.invite("ann")
        ...     member = hansa.network.join("ann", invitation)
        ...     print([device.client_id for device in network.enrolled()], network.there())
        ...     print(network.devices(least=1), network.outcomes(round_number=1))
        ...     network.revoke(member.name)
        ...     print(network.folder)
        ['ann'] []
        Devices(1 client) []
        coordinator
        >>> square = hansa.jax_computation(lambda x: x * x, "float32")
        >>> with hansa.network.serve("coordinator", port=0) as network:
        ...     print(network.invoke(square, 3.0))  # what has no devices runs in this process
        9.0
        >>> network.close()  # twice is no matter
    """

    def __init__(
        self,
        coordinator: Coordinator,
        server: Server,
        authority: Authority,
        url: str,
        unprotected: bool = False,
        proxy: Proxy | None = None,
    ) -> None:
        super().__init__(coordinator, server, unprotected, authority.signer)
        self._authority, self.url, self._is_closed = authority, url, False
        self._proxy = proxy
        self._page: tuple[Page, str] | None = None
        self._monitor: Monitor | None = None

    @property
    def submissions(self) -> Submissions:
        """The runs that operators have submitted; `hansa serve` trains them.

        Examples:
            >>> with hansa.network.serve("coordinator", port=0) as network:
            ...     print(network.submissions.all())
            []
        """
        return self._server.submissions

    @property
    def folder(self) -> Path:
        """The coordinator's."""
        return self._coordinator.folder

    def devices(
        self,
        clients: Sequence[ClientId] | npt.NDArray[Any] | int | None = None,
        *,
        data: DataPlan | None = None,
        over_select: float = 1.0,
        least: int = 1,
        deadline: float = 600.0,
        lease: float = 60.0,
        patience: float = 60.0,
    ) -> Devices:
        """Devices, as a value for `{T}@CLIENTS` in a call, or as `data` of `hansa.program.train`.

        Args:
            clients: their clients' ids; or how many, of those that are there; by default all that are enrolled.
            data, over_select, least, deadline, lease, patience: see `hansa.network.Devices`.

        Raises:
            ValueError: if none is enrolled.
        """
        if clients is None:
            clients = sum(device.may_be_asked for device in self._coordinator.devices())
            if not clients:
                raise ValueError("no device is enrolled yet: invite some, and let them join")
        return Devices(
            clients,
            data=data,
            over_select=over_select,
            least=least,
            deadline=deadline,
            lease=lease,
            patience=patience,
        )

    def invite(
        self, client_id: ClientId | None = None, *, uses: int = 1, days: float = 7.0, note: str = ""
    ) -> Invitation:
        """An invitation, with which a device joins. Pass `to_text()` on in a way that nobody else reads.

        Args:
            client_id: whose device alone it is for; by default the device says whose data it has.
            uses: for how many devices.
            days: for how long.
            note: for people.

        Raises:
            ValueError: if these do not go together.
        """
        secret = self._coordinator.registry.invite(client_id, uses, days * 86400.0, note)
        return invitation_of(self.url, self._authority, secret, self._proxy)

    def enrolled(self) -> list[Device]:
        """All devices that have joined, in order."""
        return self._coordinator.devices()

    def there(self) -> list[Device]:
        """Those that may be asked and were heard of in the last minute."""
        return self._coordinator.there()

    def show_page(self, port: int = 0) -> str:
        """Serves the live page on this machine alone, with figures for Prometheus; gives its address.

        Args:
            port: the port; 0 for any that is free.

        Raises:
            OSError: if it is in use.

        Examples:
            >>> with hansa.network.serve("coordinator", port=0) as network:
            ...     network.show_page()
            'http://127.0.0.1:.../?token=...'
        """
        if self._page is None:
            page = Page(self.monitor)
            self._page = page, self._server.run(page.start(port)).result()
            tell_serving(self._coordinator.folder, self.url, self._page[1])
        return self._page[1]

    @property
    def monitor(self) -> Monitor:
        """What the page shows; as one of the `sinks` of `hansa.program.train` it shows what is measured, too.

        Examples:
            >>> with hansa.network.serve("coordinator", port=0) as network:
            ...     network.monitor.write(1, {"loss": 0.5})
            ...     print(network.monitor.snapshot()["metrics"])
            [{'round': 1, 'loss': 0.5}]
        """
        if self._monitor is None:
            self._monitor = Monitor(self._coordinator, self._coordinator.folder, self.url)
        return self._monitor

    def revoke(self, name: str) -> None:
        """A device may not come any more.

        Args:
            name: as `enrolled` says it.

        Raises:
            EnrolmentError: if there is no such device.
        """
        self._coordinator.registry.revoke(name)
        self._coordinator.refresh()

    def outcomes(self, run: str | None = None, round_number: int | None = None) -> list[dict[str, Any]]:
        """How tasks have ended, the oldest first: a dict for each device and phase.

        Args:
            run: of this run alone; see `hansa.Occasion`.
            round_number: of this round alone.
        """
        return self._coordinator.ledger.outcomes(run, round_number)

    def close(self) -> None:
        """Serves no more. What was acknowledged is in the folder, and `serve` goes on with it."""
        if not self._is_closed:
            self._is_closed = True
            if self._page is not None:
                self._server.run(self._page[0].stop()).result()
            self._server.close()
            if self._monitor is not None:
                self._monitor.give_up()
            self._coordinator.close()

    def __enter__(self) -> Network:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Network({self.url}, {len(self.enrolled())} devices enrolled, {len(self.there())} there)"


def invitation_of(url: str, authority: Authority, secret: str, proxy: Proxy | None) -> Invitation:
    """An invitation to a coordinator, or to the proxy before it."""
    if proxy is None:
        return Invitation(url, authority.pem, secret)
    return Invitation(proxy.url, authority.pem, secret, proxy.authority, authority.signer.name)


def serve(
    folder: str | os.PathLike[str],
    *,
    host: str = "127.0.0.1",
    port: int = 8443,
    names: Sequence[str] = (),
    unprotected: bool = False,
    keep_rounds: int = 0,
    proxy: Proxy | None = None,
    disk: Disk | None = None,
) -> Network:
    """Serves devices, over TLS 1.3 on one port.

    Args:
        folder: where the ledger, contributions and the authority's key lie, on a disk of this machine. One process has
            it at a time; whenever it ends, the next one goes on.
        host: the address to listen at; "0.0.0.0" for all.
        port: the port; 0 for any that is free.
        names: names and addresses at which devices reach it, beside `host`; the first one is in invitations.
        unprotected: whether contributions may come of which nobody but the client is to see any, such as those to
            `hansa.federated_secure_sum`. There is no secure aggregation over the network yet: the coordinator sees
            them. Devices must allow it, too.
        keep_rounds: of how many rounds before a run's newest contributions are kept, so that they can be folded again.
            Those of the newest always are.
        proxy: a proxy that ends TLS before it, to which devices are invited. Requests and answers are signed then.
        disk: for tests.

    Raises:
        ModuleNotFoundError: if what `hansa[network]` installs is not there.
        hansa._lock.InUseError: if another process has the folder.
        OSError: if the port is in use, or the folder cannot be used.

    Examples:
        >>> network = hansa.network.serve("coordinator", port=0)
        >>> network
        Network(https://127.0.0.1:..., 0 devices enrolled, 0 there)
        >>> network.close()
    """
    disk, where = disk or Disk(), Path(folder)
    coordinator = Coordinator(where, disk, keep_rounds=keep_rounds)
    try:
        authority = Authority(where / AUTHORITY, disk)
        hosts = list(dict.fromkeys([*names, *([] if host in ("0.0.0.0", "::") else [host]), "localhost", "127.0.0.1"]))
        certificate, key = authority.coordinator(hosts)
        context = tls.server_context(certificate, key, authority.path)
        signed = None if proxy is None else SignedRequests(authority.path.read_bytes(), authority.signer)
        plain_port = 0 if proxy is None else proxy.port
        server = Server(coordinator, authority, context, host, port, signed=signed, plain_port=plain_port)
    except BaseException:
        coordinator.close()
        raise
    url = f"https://{hosts[0]}:{server.port}"
    tell_serving(where, url)
    return Network(coordinator, server, authority, url, unprotected, proxy)
