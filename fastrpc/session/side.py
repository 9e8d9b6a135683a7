"""Hold what all connections of one server or one client have in common.

It is apart from the session so that ten thousand idle connections share one
copy, and so that a session needs to know neither server nor client.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, cast

from fastrpc.call import ErrorRegistry
from fastrpc.codec import Codec, CodecRegistry
from fastrpc.compress import COMPRESS_FROM, Compression, CompressorRegistry
from fastrpc.frame import Lane, LoopShare, Method
from fastrpc.protocol import LogLimiter, Nonces, Option
from fastrpc.session import failure
from fastrpc.session.flow import Unread
from fastrpc.session.payloads import Payloads
from fastrpc.session.ticker import Ticker
from fastrpc.wire import SERIALIZERS, Limits, Serializer

if TYPE_CHECKING:
    from fastrpc.session.answer import Answerer
    from fastrpc.session.session import Session

#: The feature of HELLO that lets buffers come beside a payload.
SEGMENTS: Final = "seg"

_NO_TICKER = cast("Ticker", None)

#: What a lane does with what was read, such as its `buffer_updated`.
Step = Callable[..., None]


@dataclass(slots=True, kw_only=True)
class Side:
    """One server's or client's share of every session.

    Attributes:
        share: Scratch buffer, clock and what else the lanes have in common.
        ticker: Timers; a blocking client, which has no loop, has none and asks for none.
        limits: What peers may do.
        option: What HELLO says; per connection a client adds the nonce.
        codecs: By name and number.
        log: Where to say what went wrong.
        router: Methods by name; None if calls are not answered.
        answers: Runs the handlers; None if calls are not answered.
        errors: Exceptions that arrive as themselves.
        compressors: Those that HELLO offers, best first.
        compress_from: Payloads of fewer bytes are sent as they are.
        max_unsent_total: Most bytes waiting for all slow peers together, 0 for any.
        around: Returns what to do in place of a step in which a connection's lane takes what
            was read.
        on_accept: Told of a connection that has just been made.
        on_open: Told when HELLO is done.
        on_end: Told when a connection is used no more, with the reason; its socket may
            still be there for last words.
        on_lost: Told when a connection has ended, with the reason.
        on_drain: Told when the peer takes no more calls.
        on_room: Told when calls that wait may try again.
    """

    share: LoopShare
    ticker: Ticker = _NO_TICKER
    limits: Limits
    option: Option
    codecs: CodecRegistry
    log: logging.Logger
    router: Mapping[bytes, Method] | None = None
    answers: "Answerer | None" = None
    errors: ErrorRegistry = field(default_factory=ErrorRegistry)
    compressors: CompressorRegistry = field(default_factory=CompressorRegistry)
    compress_from: int = COMPRESS_FROM
    max_unsent_total: int = 0
    around: "Callable[[Session, Step], Step]" = lambda session, step: step
    on_accept: "Callable[[Session], None]" = lambda session: None
    on_open: "Callable[[Session], None]" = lambda session: None
    on_end: "Callable[[Session, Exception], None]" = lambda session, exc: None
    on_lost: "Callable[[Session, Exception], None]" = lambda session, exc: None
    on_drain: "Callable[[Session], None]" = lambda session: None
    on_room: "Callable[[Session], None]" = lambda session: None
    encoders: list[Callable[[Any], bytes] | None] = field(init=False)
    decoders: list[Callable[[bytes], Any] | None] = field(init=False)
    by_number: dict[int, Codec] = field(init=False)
    unread: Unread | None = field(init=False)
    nonces: Nonces = field(init=False, default_factory=Nonces)
    plain: Payloads = field(init=False)
    _limiters: dict[tuple[str, str], LogLimiter] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        """Lay the codecs out by their wire numbers."""
        self.unread = Unread(self.max_unsent_total) if self.max_unsent_total else None
        self.by_number = {codec.serializer: codec for codec in self.codecs}
        self.plain = Payloads(self.limits)
        self.encoders = [None] * SERIALIZERS
        self.decoders = [None] * SERIALIZERS
        for number, codec in self.by_number.items():
            self.encoders[number] = codec.encode
            self.decoders[number] = codec.decode
            buffers = getattr(codec, "buffers", None)
            if buffers is not None and SEGMENTS in self.option.features:
                buffers.taken = self.codecs.beside

    def agree(self, lane: Lane, agreed: Option, peer: Option) -> Payloads:
        """Put in force on *lane* what both sides accept; return what payloads may be."""
        limits = self.limits
        lane.max_body = limits.max_body
        lane.max_depth, lane.max_items = limits.max_depth, limits.max_items
        lane.max_methods = limits.max_methods
        lane.max_metadata, lane.max_metadata_pairs = limits.max_metadata, limits.max_metadata_pairs
        lane.peer_body, lane.peer_calls = peer.max_body, peer.max_calls
        lane.peer_methods = peer.methods
        lane.raw = int(Serializer.RAW) in agreed.codecs.values()
        lane.router = self.router
        lane.encoders, lane.decoders = self.encoders, self.decoders
        lane.has_segments = SEGMENTS in agreed.features
        lane.taken = self.codecs.beside  # also where the peer takes none: the codecs do not know
        if lane.has_segments:
            lane.lift = self.by_number[Serializer.MSGPACK].lift  # type: ignore[attr-defined]
        lane.opened = True
        compressor = self.compressors.find(agreed.zip) if agreed.zip else None
        if compressor is None:
            if not lane.has_segments:
                return self.plain
            return Payloads(self.limits, has_segments=True)
        compression = Compression(compressor=compressor, threshold=self.compress_from)
        lane.zip_from, lane.pack = max(self.compress_from, 1), compression.pack
        return Payloads(self.limits, compression, has_segments=lane.has_segments)

    def inline(self, serializer: int, value: Any) -> bytes:
        """Return *value* encoded with nothing beside it."""
        codec = self.by_number[serializer]
        buffers: Any = getattr(codec, "buffers", None)
        return codec.encode(value) if buffers is None else buffers.inline(codec.encode, value)

    def complain(
        self,
        level: int,
        peer: str,
        text: str,
        exc: BaseException | None = None,
        about: str = "",
    ) -> None:
        """Log about *peer*, at most a line per second for each; tell how many were left out.

        A peer is known by its host, so that a flood of connections is one peer. What
        *about* tells apart is counted apart: one mistake of ours shall not hide another.
        Peers must not be able to choose it. Of what *about* names, the lines left out
        are there for who reads DEBUG: somebody may look for the id of a call.

        Nothing is raised, whatever *exc* and the handlers of the logger do.
        """
        host = peer.rpartition(":")[0] if peer.startswith("tcp") else peer
        if len(self._limiters) > 1024:  # a limit of its own: forget who was quiet
            self._limiters.clear()
        limiter = self._limiters.get((host, about))
        if limiter is None:
            limiter = self._limiters[host, about] = LogLimiter()
        held = limiter.take(self.share.clock())
        if held is None and not about:
            return
        more = f" (and {held} lines more about it)" if held else ""
        try:
            if held is None:
                self.log.debug("%s: %s", peer, text)
                return
            info = failure.log_info(exc) if exc is not None else None
            if exc is not None and info is None:
                more += f" (it can't be printed as it is)\n{failure.log_text(exc)}"
            self.log.log(level, "%s: %s%s", peer, text, more, exc_info=info)
        except Exception:  # a handler of the logger: not worth a connection, nor a reply
            return
