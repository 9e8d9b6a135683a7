"""Hold the options that both clients have, and what follows from them.

It is apart from the clients so that both read and refuse the same words.
"""

import logging
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Final, Literal, TypedDict

from fastrpc.call import ErrorClasses, ErrorRegistry, Interceptor, Pairs, encode_metadata
from fastrpc.codec import Codec, CodecRegistry, default_codecs
from fastrpc.compress import (
    COMPRESS_FROM,
    Compressor,
    CompressorRegistry,
    check_threshold,
    choose_compressors,
)
from fastrpc.errors import ConfigError
from fastrpc.policy import EjectionOptions
from fastrpc.protocol import Option
from fastrpc.session.view import check_timeout
from fastrpc.transport import ClientTls, Target, TlsOptions, choose_proxy, client_tls
from fastrpc.version import __version__
from fastrpc.wire import LimitKeywords, Limits

CONNECTIONS_MAX: Final = 1024

#: What becomes of a call of a service in a registry that fails, see `ClusterOptions`.
FailureMode = Literal["fail_fast", "fail_over", "retry", "hedge"]


class ClusterKeywords(TypedDict, total=False):
    """The keyword arguments of `connect` for services in a registry, for type checkers.

    What they mean stands at `fastrpc.cluster.ClusterOptions`.
    """

    balance: Any
    key: str | Callable[..., object] | None
    failure_mode: FailureMode
    attempts: int
    retry_share: float
    retry_rate: float
    hedge_after: float | str
    ejection: EjectionOptions | None
    slow_start: float
    zone: str
    version: str
    group: str
    subset: int
    cache: str | None
    ttl: float


class ConnectOptions(ClusterKeywords, LimitKeywords, total=False):
    """The keyword arguments of `connect` and `connect_sync`, for type checkers.

    What they mean stands at `ClientOptions`, for services in a registry at
    `fastrpc.cluster.ClusterOptions`, and for limits at `wire.Limits`.
    """

    timeout: float | None
    connect_timeout: float
    codec: str
    codecs: Sequence[Codec | str]
    compression: Sequence[str]
    compress_from: int
    compressors: Sequence[Compressor]
    connections: int
    interceptors: Sequence[Interceptor]
    metadata: Pairs | None
    pickle: bool
    errors: ErrorClasses
    tls: TlsOptions | None
    proxy: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientOptions:
    """How a client behaves; keyword arguments of `connect` beside the limits.

    Attributes:
        timeout: Seconds each call may take, None for no deadline.
        connect_timeout: Seconds to make a connection, HELLO included.
        codec: Name of the codec that calls are sent with.
        codecs: Codecs of your own beside raw, msgpack and JSON, and names of extras.
        compression: Names of compressors, best first, such as ("zstd", "zlib"); both
            sides must name one.
        compress_from: Payloads of fewer bytes are sent as they are.
        compressors: Compressors of your own, to be named in *compression*.
        connections: How many connections share the calls.
        interceptors: What stands before every call, outermost first.
        metadata: Sent with every call.
        pickle: Allow the codec "pickle"; the server must allow it too. A server
            can then run any code here.
        errors: Exception classes that arrive as themselves, or a map of names to
            classes; the server must have registered them under the same names.
        tls: Whom to trust, and the own certificate. Given for a target that is not of the
            kind that encrypts, such as "tcp://", it is encrypted all the same.
        proxy: Forward proxy, "http://user:password@host:port". None takes that of the
            environment for http, https, ws and wss targets, "env" for all of them,
            "none" for none.
        limits: What the server may do to this client.
    """

    timeout: float | None = None
    connect_timeout: float = 3.0
    codec: str = "msgpack"
    codecs: Sequence[Codec | str] = ()
    compression: Sequence[str] = ()
    compress_from: int = COMPRESS_FROM
    compressors: Sequence[Compressor] = ()
    connections: int = 1
    interceptors: Sequence[Interceptor] = ()
    metadata: Pairs | None = None
    pickle: bool = False
    errors: ErrorClasses = ()
    tls: TlsOptions | None = None
    proxy: str | None = field(default=None, repr=False)  # it may hold a password
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        """Refuse values that make no sense."""
        check_timeout(self.timeout)
        check_threshold(self.compress_from, "compress_from")
        check_timeout(self.connect_timeout, "connect_timeout", optional=False)
        if type(self.connections) is not int or not 1 <= self.connections <= CONNECTIONS_MAX:
            raise ConfigError(
                f"connections must be 1 to {CONNECTIONS_MAX}, got {self.connections!r}"
            )
        if type(self.pickle) is not bool:
            raise ConfigError(f"pickle must be True or False, got {self.pickle!r}")
        if not isinstance(self.tls, TlsOptions | None):
            raise ConfigError(f"tls must be TlsOptions, got {type(self.tls).__name__}")

    def encryption(self, target: Target) -> ClientTls | None:
        """Return what connections to *target* encrypt with, if they do.

        Raises:
            ConfigError: The options of `tls` or `proxy` can't be used for it.
        """
        choose_proxy(target, self.proxy)
        encrypt = client_tls(target, self.tls)
        if encrypt is not None:
            encrypt.on_failure = _stale
        return encrypt

    def registry(self) -> CodecRegistry:
        """Return the codecs, the one for calls among them."""
        registry = default_codecs(self.limits)
        for codec in self.codecs:
            registry.register(codec)
        if self.pickle:
            registry = registry.with_pickle()
        registry.choose(self.codec)
        return registry

    def error_registry(self, codecs: CodecRegistry) -> ErrorRegistry:
        """Return the exceptions that are made again, checked as msgpack values are."""
        return ErrorRegistry(self.errors, codecs.get("msgpack").convert)

    def packed_metadata(self) -> bytes:
        """Return the metadata as it is sent."""
        return self.pack(self.metadata)

    def pack(self, metadata: Pairs | None) -> bytes:
        """Return *metadata* as it is sent.

        Raises:
            InvalidArgument: A key or value is of the wrong kind.
            TooLarge: It is over the limits.
        """
        return encode_metadata(metadata, self.limits) if metadata else b""

    def compressor_registry(self) -> CompressorRegistry:
        """Return the compressors that may be used."""
        return choose_compressors(self.compression, self.compressors)

    def option(self, registry: CodecRegistry, *features: str) -> Option:
        """Return what HELLO tells the server."""
        limits = self.limits
        return Option(
            codecs=registry.names,
            zips=tuple(self.compression),
            features=features,
            max_body=limits.max_body,
            max_calls=limits.max_calls,
            methods=limits.max_methods,
            window=limits.window,
            ping_ms=int(limits.ping_interval * 1000),
            agent=f"fastrpc/{__version__}",
            instance=uuid.uuid4().hex,
        )


def _stale(error: ConfigError) -> None:
    """Tell that a certificate that changed can't be used: the old one stays."""
    logging.getLogger("fastrpc.client").error("the certificate that is in force stays: %s", error)


#: Options that only services in a registry know.
CLUSTER_OPTIONS: Final = frozenset(ClusterKeywords.__annotations__)

_LIMITS: Final = frozenset(item.name for item in fields(Limits))
_OPTIONS: Final = frozenset(item.name for item in fields(ClientOptions)) - {"limits"}


def read_options(options: ConnectOptions) -> ClientOptions:
    """Return the options that the keyword arguments of `connect` give.

    Raises:
        ConfigError: One is unknown or wrong; the message names it.
    """
    given: dict[str, Any] = {**options}
    if misplaced := sorted(given.keys() & CLUSTER_OPTIONS):
        raise ConfigError(f"{', '.join(misplaced)}: only for a service in a registry")
    unknown = sorted(given.keys() - _OPTIONS - _LIMITS)
    if unknown:
        raise ConfigError(f"unknown client option: {', '.join(unknown)}")
    for name in given.keys() & _LIMITS:
        if isinstance(given[name], bool) or not isinstance(given[name], int | float):
            raise ConfigError(f"{name} must be a number, got {given[name]!r}")
    limits = Limits(**{name: given[name] for name in given if name in _LIMITS})
    rest = {name: given[name] for name in given if name in _OPTIONS}
    return ClientOptions(limits=limits, **rest)
