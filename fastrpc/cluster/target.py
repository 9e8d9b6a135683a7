"""Read where a registry is, and which service of it is meant: `etcd://host:2379/Arith`.

Rules of the room:
  * nothing is resolved or opened here;
  * an error repeats the text it is about, without a password;
  * the path is the name of a service behind the names of what it belongs to: in
    `etcd://host/prod/Arith` the service is Arith, and everything is kept under /prod;
    `etcd://host/prod/`, with a slash at its end, names no service.
"""

import ipaddress
import re
from dataclasses import dataclass, field
from typing import Final, final
from urllib.parse import quote, unquote

from fastrpc.cluster.instance import check_service
from fastrpc.errors import ConfigError
from fastrpc.transport import join_host, parse_target

#: What everything is kept under if nobody says.
PREFIX: Final = "fastrpc"

#: What is asked for where a target names no service: all there are, or the only one.
ANY_SERVICE: Final = "any"

#: Most hosts of a target, and most targets of a static one.
HOSTS_MAX: Final = 64
TARGETS_MAX: Final = 10_000

#: Engines that are reached over the network, and their usual ports.
PORTS: Final = {"etcd": 2379, "zookeeper": 2181, "redis": 6379, "registry": 7070}

_PART: Final = re.compile(r"[A-Za-z0-9._~-]{1,128}")
_HOST: Final = re.compile(r"[A-Za-z0-9._-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\]")
_LOGIN: Final = re.compile(r"//.*@", re.DOTALL)
_UNPRINTABLE: Final = re.compile(r"[\x00-\x1f\x7f]")
_TLS: Final = "+tls"

#: Longest text of a target that is repeated in an error.
_SHOWN: Final = 200

#: Most names in a path.
_PARTS_MAX: Final = 8


@final
@dataclass(frozen=True, slots=True)
class ClusterTarget:
    """A registry, and perhaps a service of it.

    Attributes:
        scheme: Name of the engine.
        service: What to call; "" if the text names none, as for a server that publishes.
        hosts: Host and port of each server of the registry.
        prefix: What its entries are kept under.
        is_secure: Whether connections to the registry are encrypted.
        user: Who asks, "" for nobody.
        password: What proves it.
        path: File of a file target.
        targets: Of a static target.
    """

    scheme: str
    service: str = ""
    hosts: tuple[tuple[str, int], ...] = ()
    prefix: str = PREFIX
    is_secure: bool = False
    user: str = ""
    password: str = field(default="", repr=False)
    path: str = ""
    targets: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Return the text that `parse_cluster` reads as this target, but for the password."""
        if self.scheme == "static":
            return "static:" + ",".join(self.targets)
        if self.scheme == "file":
            return f"file://{self.path}" + (f"#{self.service}" if self.service else "")
        hosts = ",".join(join_host(*host) if host[1] else host[0] for host in self.hosts)
        if self.scheme == "dns":
            return f"dns://{hosts}"
        user = f"{quote(self.user, safe='')}@" if self.user else ""
        prefix = f"/{self.prefix}" if self.prefix != PREFIX else ""
        path = f"{prefix}/{self.service}" if prefix or self.service else ""
        tls = _TLS if self.is_secure else ""
        return f"{self.scheme}{tls}://{user}{hosts}{path}"


def is_cluster(text: object) -> bool:
    """Say whether *text* names a cluster, and not one server."""
    if not isinstance(text, str):
        return False
    scheme, mark, rest = text.partition(":")
    scheme = scheme.lower().removesuffix(_TLS)
    if scheme == "static":  # `static:7000` is a host of that name
        return bool(mark) and not (rest.isascii() and rest.isdigit())
    return scheme in _PARSERS and rest.startswith("//")


def parse_cluster(text: str) -> ClusterTarget:
    """Return the cluster that *text* names.

    Forms: `etcd://host:2379,host:2379/Arith`, `zookeeper://host/Arith`,
    `redis://user:password@host/Arith`, `registry://host:7070/Arith`, each with `+tls`
    behind the scheme if the registry's connections are encrypted; `static:tcp://a:1,tcp://b:2`;
    `file:///path/instances.toml#Arith`; `dns://name:7000`, and `dns://_arith._tcp.name`,
    whose records say the ports.

    Raises:
        ConfigError: *text* is no such target; the message says which part is wrong.
    """
    if not is_cluster(text):
        known = ", ".join(sorted(_PARSERS))
        raise ConfigError(f"target {_shown(text)} names no registry ({known})")
    if found := _UNPRINTABLE.search(text):
        raise ConfigError(f"target {_shown(text)}: character {found.group()!r} is not allowed")
    scheme, _, rest = text.partition(":")
    plain = scheme.lower().removesuffix(_TLS)
    secure = plain != scheme.lower()
    if secure and plain not in PORTS:
        raise ConfigError(f"target {_shown(text)}: {plain} has no connections to encrypt")
    return _PARSERS[plain](text, plain, rest.removeprefix("//"), secure)


def _network(text: str, scheme: str, rest: str, secure: bool) -> ClusterTarget:
    authority, _, path = rest.partition("/")
    login, _, places = authority.rpartition("@")
    user, _, password = login.partition(":")
    if "@" in path:  # of a login: no word of it may get into an error
        raise ConfigError(f"target {_shown(text)}: in a login / is written %2F")
    hosts = tuple(_host(text, place, PORTS[scheme]) for place in places.split(","))
    if len(hosts) > HOSTS_MAX:
        raise ConfigError(f"target {_shown(text)}: more than {HOSTS_MAX} hosts")
    if len(set(hosts)) < len(hosts):
        raise ConfigError(f"target {_shown(text)}: a host stands there twice")
    *parts, service = path.split("/")
    for part in parts:
        if not _PART.fullmatch(part) or part.strip(".") == "":
            raise ConfigError(f"target {_shown(text)}: {part!r} is no name")
    if len(parts) > _PARTS_MAX:
        raise ConfigError(f"target {_shown(text)}: more than {_PARTS_MAX} names before the service")
    return ClusterTarget(
        scheme,
        service=check_service(service) if service else "",
        hosts=hosts,
        prefix="/".join(parts) or PREFIX,
        is_secure=secure,
        user=unquote(user),
        password=unquote(password),
    )


def _host(text: str, place: str, usual: int) -> tuple[str, int]:
    host, colon, port = place.rpartition(":")
    if not colon or port.endswith("]"):
        host, port = place, str(usual)
    if not _HOST.fullmatch(host) or (host.startswith("[") and not _is_v6(host[1:-1])):
        raise ConfigError(f"target {_shown(text)}: {host!r} is no host")
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and int(port) <= 65535):
        raise ConfigError(f"target {_shown(text)}: port must be 1 to 65535, got {port!r}")
    if not int(port) and usual:
        raise ConfigError(f"target {_shown(text)}: port must be 1 to 65535, got {port!r}")
    return host.strip("[]"), int(port)


def _is_v6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


def _shown(text: object) -> str:
    """Return *text* for an error: without a login, and not endless."""
    shown = repr(_LOGIN.sub("//...@", str(text)))
    return shown if len(shown) <= _SHOWN else shown[:_SHOWN] + "..."


def _static(text: str, scheme: str, rest: str, secure: bool) -> ClusterTarget:
    if rest.count(",") >= TARGETS_MAX:
        raise ConfigError(f"static: more than {TARGETS_MAX} targets")
    targets: dict[str, None] = {}
    for each in rest.split(","):
        target = parse_target(each)
        if target.has_host and not target.port:
            raise ConfigError(f"static: {each!r} needs a port")
        if str(target) in targets:
            raise ConfigError(f"static: {each!r} stands there twice")
        targets[str(target)] = None
    return ClusterTarget(scheme, targets=tuple(targets))


def _file(text: str, scheme: str, rest: str, secure: bool) -> ClusterTarget:
    path, _, service = rest.partition("#")
    if not path.startswith("/") or not path.endswith((".toml", ".json")):
        raise ConfigError(
            f"target {_shown(text)}: an absolute path to a .toml or .json must follow"
        )
    return ClusterTarget(scheme, service=check_service(service) if service else "", path=path)


def _dns(text: str, scheme: str, rest: str, secure: bool) -> ClusterTarget:
    if "@" in rest:
        raise ConfigError(f"target {_shown(text)}: nobody logs in to DNS")
    host, port = _host(text, rest.rstrip("/"), 0)
    if host.startswith("_") is bool(port):
        what = "_service._tcp.name has its ports in its records" if port else "a port must follow"
        raise ConfigError(f"target {_shown(text)}: {what}")
    return ClusterTarget(scheme, hosts=((host, port),))


_PARSERS: Final = {
    **dict.fromkeys(PORTS, _network),
    "static": _static,
    "file": _file,
    "dns": _dns,
}
