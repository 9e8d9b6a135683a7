"""Hold the options of a server, and what follows from them for its peers."""

import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Final

from fastrpc.codec import CodecRegistry
from fastrpc.compress import COMPRESS_FROM, Compressor, CompressorRegistry, check_threshold
from fastrpc.errors import ConfigError
from fastrpc.protocol import Option
from fastrpc.server.doors import check_doors
from fastrpc.server.http import HttpOptions
from fastrpc.session import SEGMENTS
from fastrpc.transport import Plain, TlsOptions, check_plain
from fastrpc.version import __version__
from fastrpc.wire import LimitKeywords, Limits

AGENT: Final = f"fastrpc/{__version__}"
LIMIT_NAMES: Final = frozenset(each.name for each in fields(Limits))
_TIMEOUT_MAX: Final = 2**31
_SECONDS: Final = (
    "handler_timeout", "max_connection_age", "max_connection_idle", "connection_grace",
)  # fmt: skip


class ServerKeywords(LimitKeywords, total=False):
    """The keyword arguments of `Server`, for type checkers.

    What they mean stands at `ServerOptions`, and for limits at `wire.Limits`.
    """

    compression: Sequence[str]
    compress_from: int
    compressors: Sequence[Compressor]
    handler_timeout: float | None
    max_running: int
    adaptive_limit: bool
    priority: Collection[str]
    max_connections: int | None
    max_per_host: int
    max_pending: int
    max_connection_age: float | None
    max_connection_idle: float | None
    connection_grace: float
    threads: int
    backlog: int
    max_unsent_total: int
    pickle: bool
    tracebacks: bool
    doors: Sequence[str] | None
    tls: TlsOptions | None
    plain: Plain
    http: HttpOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerOptions:
    """How a server behaves; all keyword arguments of `Server` but the limits.

    Attributes:
        compression: Names of compressors that clients may choose from, such as
            ("zstd", "zlib"); the client's order counts.
        compress_from: Payloads of fewer bytes are sent as they are.
        compressors: Compressors of your own, to be named in *compression*.
        handler_timeout: Seconds a handler may take, None for no limit.
        max_running: Most handlers in flight, all connections together.
        adaptive_limit: Find out how much is too much, and refuse that at once.
        priority: Names of services, and full names of methods, that are never refused for it,
            and have some places over *max_running*; those of the server's own always do.
        max_connections: Most connections; None for 80 % of the file
            descriptors, at most 10,000.
        max_per_host: Most connections from one remote host. Loopback, Unix
            sockets and memory pipes are not counted.
        max_pending: Most connections that have not said HELLO.
        max_connection_age: Seconds after which a client is asked to connect anew, a tenth more
            or less by chance; None for never.
        max_connection_idle: Seconds without a call after which it is; None for never.
        connection_grace: Seconds that what is in flight then has, before it is cancelled.
        threads: Most blocking handlers at once.
        backlog: Connections the kernel holds until they are accepted.
        max_unsent_total: Most bytes waiting for all slow peers together to read; past
            it those connections are closed that most waits for.
        pickle: Let clients that ask for it send pickled values. Whoever can
            connect can then run any code here.
        tracebacks: Send remote tracebacks to callers.
        doors: What is spoken at the listeners, names out of `doors.DOORS`. None: everything
            that is usual at a target, and "metrics" and "debug" only where nobody from
            another machine comes.
        tls: Certificate of the listeners, and which clients are trusted.
        plain: With *tls*: "allow" lets unencrypted connections in, too, but never at
            targets such as "tls://".
        http: What is different for those who speak HTTP, such as which sites' pages may call.
    """

    compression: Sequence[str] = ()
    compress_from: int = COMPRESS_FROM
    compressors: Sequence[Compressor] = ()
    handler_timeout: float | None = None
    max_running: int = 4096
    adaptive_limit: bool = False
    priority: Collection[str] = ()
    max_connections: int | None = None
    max_per_host: int = 256
    max_pending: int = 256
    max_connection_age: float | None = None
    max_connection_idle: float | None = None
    connection_grace: float = 30.0
    threads: int = 32
    backlog: int = 1024
    max_unsent_total: int = 256 * 2**20
    pickle: bool = False
    tracebacks: bool = False
    doors: Sequence[str] | None = None
    tls: TlsOptions | None = None
    plain: Plain = "refuse"
    http: HttpOptions = field(default_factory=HttpOptions)

    def __post_init__(self) -> None:
        """Refuse values that make no sense."""
        check_threshold(self.compress_from, "compress_from")
        check_doors(self.doors)
        check_plain(self.plain, self.tls)
        counted = {
            "max_running", "max_per_host", "max_pending", "threads", "backlog", "max_unsent_total",
        }  # fmt: skip
        if self.max_connections is not None:
            counted.add("max_connections")
        for name in sorted(counted):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise ConfigError(f"{name} must be a whole number above 0, got {value!r}")
        if not isinstance(self.http, HttpOptions):
            raise ConfigError(f"http must be HttpOptions, got {self.http!r}")
        for name in ("pickle", "tracebacks", "adaptive_limit"):
            if type(getattr(self, name)) is not bool:
                raise ConfigError(f"{name} must be True or False, got {getattr(self, name)!r}")
        if isinstance(self.priority, str) or not all(type(each) is str for each in self.priority):
            raise ConfigError(f"priority must be names in a list, got {self.priority!r}")
        for name in _SECONDS:
            _check_seconds(name, getattr(self, name), is_needed=name == "connection_grace")


def _check_seconds(name: str, value: Any, *, is_needed: bool) -> None:
    if value is None and not is_needed:
        return
    if type(value) not in (int, float) or not 0 < value < _TIMEOUT_MAX:
        raise ConfigError(f"{name} must be seconds above 0, got {value!r}")


def read_options(options: Mapping[str, Any]) -> tuple[Limits, ServerOptions]:
    """Return the limits and the options among the keyword arguments of `Server`.

    Raises:
        ConfigError: One is unknown or wrong; the message names it.
    """
    known = {each.name for each in fields(ServerOptions)}
    unknown = sorted(set(options) - known - LIMIT_NAMES)
    if unknown:
        raise ConfigError(f"unknown server option: {', '.join(unknown)}")
    limits = Limits(**{name: options[name] for name in options if name in LIMIT_NAMES})
    return limits, ServerOptions(**{name: options[name] for name in options if name in known})


def offer(
    limits: Limits,
    codecs: CodecRegistry,
    compressors: CompressorRegistry,
    handler_timeout: float | None,
) -> Option:
    """Return what HELLO tells the peer."""
    return Option(
        codecs=codecs.names,
        zips=compressors.names,
        features=(SEGMENTS,),
        max_body=limits.max_body,
        max_calls=limits.max_calls,
        methods=limits.max_methods,
        window=limits.window,
        ping_ms=int(limits.ping_interval * 1000),
        handle_ms=int((handler_timeout or 0.0) * 1000),
        agent=AGENT,
        instance=uuid.uuid4().hex,
    )
