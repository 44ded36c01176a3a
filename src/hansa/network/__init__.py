"""Computations on real devices: a coordinator, devices that dial out to it, and rounds that survive both."""

from typing import TYPE_CHECKING as _TYPE_CHECKING

from hansa import _lazy

if _TYPE_CHECKING:
    from hansa.network.device import Device as Device
    from hansa.network.devices import Devices as Devices
    from hansa.network.membership import Invitation as Invitation
    from hansa.network.membership import Membership as Membership
    from hansa.network.membership import join as join
    from hansa.network.network import Network as Network
    from hansa.network.network import serve as serve
    from hansa.network.on_one_machine import LocalNetwork as LocalNetwork
    from hansa.network.on_one_machine import local as local
    from hansa.network.proxies import Proxy as Proxy

_HOMES = {
    "hansa.network.device": ("Device",),
    "hansa.network.devices": ("Devices",),
    "hansa.network.membership": (
        "Invitation",
        "Membership",
        "join",
    ),
    "hansa.network.network": (
        "Network",
        "serve",
    ),
    "hansa.network.on_one_machine": (
        "LocalNetwork",
        "local",
    ),
    "hansa.network.proxies": ("Proxy",),
}

if not _TYPE_CHECKING:
    __getattr__, __dir__, __all__ = _lazy.names_of(__name__, _HOMES)
