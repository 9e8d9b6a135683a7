"""Hold the options that both clients have, and what follows from them.

It is apart from the clients so that both read and refuse the same words.
"""

import logging
import time
import uuid
from dataclasses import dataclass, field, fields
from typing import Any, Final

from fastrpc.call import encode_metadata
from fastrpc.call.metadata import Pairs
from fastrpc.codec import Codec, CodecRegistry, default_codecs
from fastrpc.errors import ConfigError
from fastrpc.frame import LoopShare
from fastrpc.protocol import Option
from fastrpc.session import Side, Waiter
from fastrpc.version import __version__
from fastrpc.wire import Limits

_LIMIT_NAMES: Final = frozenset(field.name for field in fields(Limits))
TIMEOUT_MAX: Final = 2**32 / 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientOptions:
    """How a client behaves; keyword arguments of `connect` beside the limits.

    Attributes:
        timeout: Seconds each call may take, None for no deadline.
        connect_timeout: Seconds to make a connection, HELLO included.
        codec: Name of the codec that calls are sent with.
        codecs: Codecs of your own beside raw, msgpack and JSON.
        connections: How many connections share the calls.
        metadata: Sent with every call.
        pickle: Allow the codec "pickle"; the server must allow it too. A server
            can then run any code here.
    """

    timeout: float | None = None
    connect_timeout: float = 3.0
    codec: str = "msgpack"
    codecs: tuple[Codec, ...] = ()
    connections: int = 1
    metadata: Pairs | None = None
    pickle: bool = False
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        """Refuse values that make no sense."""
        check_timeout(self.timeout)
        if not 0 < self.connect_timeout < TIMEOUT_MAX:
            raise ConfigError(f"connect_timeout must be above 0, got {self.connect_timeout!r}")
        if not isinstance(self.connections, int) or not 1 <= self.connections <= 1024:
            raise ConfigError(f"connections must be 1 to 1024, got {self.connections!r}")

    def registry(self) -> CodecRegistry:
        """Return the codecs, the one for calls among them."""
        registry = default_codecs(self.limits)
        for codec in self.codecs:
            registry.register(codec)
        if self.pickle:
            registry = registry.with_pickle()
        registry.get(self.codec)
        return registry

    def packed_metadata(self) -> bytes:
        """Return the metadata as it is sent."""
        return encode_metadata(self.metadata, self.limits) if self.metadata else b""

    def option(self, registry: CodecRegistry) -> Option:
        """Return what HELLO tells the server."""
        limits = self.limits
        return Option(
            codecs=registry.names,
            max_body=limits.max_body,
            max_calls=limits.max_calls,
            methods=limits.max_methods,
            window=limits.window,
            ping_ms=int(limits.ping_interval * 1000),
            agent=f"fastrpc/{__version__}",
            instance=uuid.uuid4().hex,
        )


def read_options(options: dict[str, Any]) -> ClientOptions:
    """Return the options that the keyword arguments of `connect` give.

    Raises:
        ConfigError: One is unknown or wrong; the message names it.
    """
    known = {item.name for item in fields(ClientOptions)} - {"limits"}
    unknown = sorted(set(options) - known - _LIMIT_NAMES)
    if unknown:
        raise ConfigError(f"unknown client option: {', '.join(unknown)}")
    limits = Limits(**{name: options[name] for name in options if name in _LIMIT_NAMES})
    rest = {name: value for name, value in options.items() if name in known}
    if "codecs" in rest:
        rest["codecs"] = tuple(rest["codecs"])
    return ClientOptions(limits=limits, **rest)


def check_timeout(timeout: float | None) -> float:
    """Return a call's timeout as the lane wants it: 0 for none.

    Raises:
        ConfigError: It is not above 0.
    """
    if timeout is None:
        return 0.0
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)):
        raise ConfigError(f"timeout must be seconds or None, got {timeout!r}")
    if not 0 < timeout < TIMEOUT_MAX:
        raise ConfigError(f"timeout must be above 0 and below {TIMEOUT_MAX:.0f}, got {timeout!r}")
    return float(timeout)


def blocking_side(options: ClientOptions, registry: CodecRegistry) -> Side:
    """Return what a blocking client's connections share: no loop, waiters of our own."""
    share = LoopShare(Waiter, _never, time.monotonic, _no_loop, None)
    return Side(
        share=share,
        limits=options.limits,
        option=options.option(registry),
        codecs=registry,
        log=logging.getLogger("fastrpc.client"),
    )


def _never(callback: Any) -> None:
    """Schedule nothing: who calls flushes."""


def _no_loop() -> None:
    """Return the loop that runs: none does, and none has to."""
