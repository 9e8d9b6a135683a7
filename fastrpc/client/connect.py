"""Make the client that a target asks for: of one server, or of a cluster of them.

Clusters stand a storey above: their client is found by name, and loaded by the first
who asks for one.
"""

import importlib
from typing import Final, Unpack

from fastrpc.client.client import Client
from fastrpc.client.direct import DirectClient
from fastrpc.client.options import ConnectOptions, read_options

#: Schemes whose targets are registries.
CLUSTER_SCHEMES: Final = frozenset(
    {"etcd", "zookeeper", "redis", "registry", "static", "file", "dns"}
)

#: Behind a scheme: connections to the registry are encrypted.
TLS: Final = "+tls"

#: Module and function that makes the client of a cluster.
CLUSTER: Final = ("fastrpc.cluster.client", "connect_cluster")


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
    scheme = str(target).partition(":")[0].lower()
    if scheme.removesuffix(TLS) in CLUSTER_SCHEMES:
        module, name = CLUSTER
        client: Client = getattr(importlib.import_module(module), name)(target, options)
        return client
    if scheme == "jsonrpc":
        options.setdefault("codec", "json")  # what it is translated to anyway
    return DirectClient(target, read_options(options))
