"""Make the client that a target asks for: of one server, or of a cluster of them.

Clusters stand a storey above: their client is found by name, and loaded by the first
who asks for one.
"""

import importlib
from typing import Any, Final, Unpack

from fastrpc.client.blocking import DirectBlockingClient
from fastrpc.client.blocking_face import BlockingClient
from fastrpc.client.client import Client
from fastrpc.client.direct import DirectClient
from fastrpc.client.options import ConnectOptions, read_options
from fastrpc.transport import REGISTRY_SCHEMES

#: Behind a scheme: connections to the registry are encrypted.
TLS: Final = "+tls"

#: Module and function that makes the client of a cluster.
CLUSTER: Final = ("fastrpc.cluster.client", "connect_cluster")


#: The same for a blocking one.
CLUSTER_SYNC: Final = ("fastrpc.cluster.blocking", "connect_cluster_sync")


def connect(target: str, **options: Unpack[ConnectOptions]) -> Client:
    """Return a client of *target*; nothing is connected yet.

    Args:
        target: A server, such as "tcp://127.0.0.1:7000" or "unix:///run/service.sock", or a
            service in a registry, such as "etcd://10.0.0.5:2379/Arith".
        **options: Fields of `ClientOptions`, of `ClusterOptions` for a service in a
            registry, and of `wire.Limits`.

    Raises:
        ConfigError: The target or an option is wrong; the message names it.
    """
    scheme = _scheme(target)
    if scheme in REGISTRY_SCHEMES:
        client: Client = _by_name(CLUSTER)(target, options)
        return client
    if scheme == "jsonrpc":
        options.setdefault("codec", "json")  # what it is translated to anyway
    return DirectClient(target, read_options(options))


def connect_sync(target: str, **options: Unpack[ConnectOptions]) -> BlockingClient:
    """Return a blocking client of *target*; nothing is connected yet.

    Of one server it has a socket of its own, and neither event loop nor thread. Of a service
    in a registry it has both, for somebody has to watch the registry.

    Args:
        target: As `connect` has it.
        **options: As `connect` has them.

    Raises:
        ConfigError: The target or an option is wrong; the message names it.
    """
    if _scheme(target) in REGISTRY_SCHEMES:
        client: BlockingClient = _by_name(CLUSTER_SYNC)(target, options)
        return client
    return DirectBlockingClient(target, read_options(options))


def _scheme(target: str) -> str:
    """Return what stands before the colon, "" if that is a host and behind it a port."""
    scheme, _, rest = str(target).partition(":")
    if rest.isascii() and rest.isdigit():
        return ""
    return scheme.lower().removesuffix(TLS)


def _by_name(named: tuple[str, str]) -> Any:
    module, name = named
    return getattr(importlib.import_module(module), name)
