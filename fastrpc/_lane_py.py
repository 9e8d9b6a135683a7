"""Answer and match calls between the bytes and the loop: the pure twin's lane.

Plain calls and replies are handled here from the first byte to the last;
everything else is handed up as `Frame` objects, in order. `_lane.pyx` is the
same in Cython; this file is the plain one, the owner of the docstrings, and the
specification of both.

Rules of the room:
  * no socket, no clock, no logging: `write`, `create_future`, `clock` are given;
  * a number leaves the call table exactly once;
  * nothing here knows a policy: what is not plain goes to the owner;
  * a change here without the same change in `_lane.pyx` does not merge.

Size: may grow to 1200, as its twin may, for streams, compression and buffers pass here.
"""

import struct
from array import array
from collections.abc import Callable, Mapping, Sequence
from math import frexp, ldexp
from threading import get_ident
from typing import Any, Final, final

from fastrpc._frame_py import (
    HEAD,
    HEAD_FULL,
    CallTable,
    Frame,
    Slot,
    Splitter,
    check_metadata,
    check_msgpack,
    encode_frame,
    encode_pieces,
    make_frame,
)
from fastrpc.errors import CodecError, ConfigError, MethodNotFound, ProtocolError, TooLarge
from fastrpc.wire import (
    BASELINE_BODY,
    BASELINE_CALLS,
    BIG_BODY,
    BIT_END,
    BIT_MORE,
    BIT_ZIP,
    FLAG_HEARTBEAT,
    FLAG_ONEWAY,
    FLAG_REPLY,
    HEADER_ARG,
    HEADER_BASE,
    HEADER_FULL,
    HEADER_TIME,
    ID_MAX,
    MAGIC,
    MASK_KIND,
    MASK_SERIALIZER,
    SERIALIZERS,
    VERSION,
    StatusCode,
)

__all__ = ["Durations", "Lane", "LoopShare", "Method", "drive"]

_HEAD_ARG: Final = struct.Struct(">HHBBBBQLL")
_HEAD_TIME: Final = struct.Struct(">HHBBBBQLLL")

SCRATCH_SIZE: Final = 256 * 1024  # one read of one loop; larger ones outgrow the cache
NARROW_SIZE: Final = 2048  # of the read after a large body; its head is in there
OUT_HIGH: Final = 64 * 1024  # flush in mid-batch from here on, so that a slow peer is noticed
SEGMENT_COST: Final = 12  # of its place in the table, and of the padding before it
DEPTH_FREE: Final = 64  # a payload this short can't nest deeper, nor hold more items

NAME_MAX: Final = 255  # wire.LIMIT_CEILINGS["max_name"]
METADATA_MAX: Final = 65_535  # wire.LIMIT_CEILINGS["max_metadata"]
_U32_MAX: Final = 0xFFFFFFFF

# What a Method does with its handler; call.Mode has the same numbers.
MODE_SYNC: Final = 0
MODE_INLINE: Final = 1

# Of durations: 16 buckets to a doubling, from 2**-20 s, about 1 us, to 2**17 s, a day and a half.
PARTS: Final = 16
SHORTEST: Final = -20
BUCKETS: Final = 592
LEAST: Final = 2.0**-20
LONGEST: Final = 2.0**17

# One call in so many is timed, the first among them: reading the clock twice costs as
# much as a hundredth of a call.
SAMPLED: Final = 16

FRAMED: Final = 0x20  # beside the serializer of an item that waits as the bytes of its frame

OVERLOADED: Final = int(StatusCode.OVERLOADED)

_RAW: Final = 0
_MSGPACK: Final = 1
_KIND_OPEN: Final = 2
_KIND_DATA: Final = 3
_NUMBERED: Final = (0, _KIND_OPEN)  # kinds that take an id and a method number


@final
class LoopShare:
    """What all lanes of one event loop have in common.

    Args:
        create_future: Makes a waiter.
        call_soon: Runs a callable in the loop's next turn.
        clock: Returns seconds, monotonic.
        is_running: Says whether the loop runs.
        thread: Number of the thread that the lanes belong to, 0 for any.
        loop: The loop that the lanes belong to.
    """

    __slots__ = (
        "call_soon",
        "clock",
        "create_future",
        "is_running",
        "loop",
        "narrow",
        "thread",
        "view",
    )

    def __init__(
        self,
        create_future: Callable[[], Any],
        call_soon: Callable[..., Any],
        clock: Callable[[], float],
        is_running: Callable[[], bool],
        thread: int,
        loop: Any,
    ) -> None:
        self.create_future = create_future
        self.call_soon = call_soon
        self.clock = clock
        self.is_running = is_running
        self.thread = thread
        self.loop = loop
        # One read buffer for all connections, so that idle ones cost little.
        self.view = memoryview(bytearray(SCRATCH_SIZE))
        self.narrow = self.view[:NARROW_SIZE]


@final
class Durations:
    """How often which duration occurred, to within 3 %; 0 and less count as the shortest.

    Attributes:
        count: How many were counted.
        total: Their sum, in seconds.
        max: The longest.
    """

    __slots__ = ("_counts", "count", "max", "total")

    def __init__(self) -> None:
        self._counts = array("Q", bytes(8 * BUCKETS))
        self.count = 0
        self.total = 0.0
        self.max = 0.0

    def add(self, seconds: float) -> None:
        """Count a duration."""
        if LEAST < seconds < LONGEST:
            fraction, exponent = frexp(seconds)  # 0.5 to below 1
            place = (exponent - SHORTEST - 2) * PARTS + int(fraction * 2 * PARTS)
        elif seconds > LEAST:
            place = BUCKETS - 1
        else:
            place = 0
            if not seconds > 0.0:  # less than nothing, or no number
                seconds = 0.0
        self._counts[place] += 1
        self.count += 1
        self.total += seconds
        if seconds > self.max:
            self.max = seconds

    def buckets(self) -> list[tuple[float, float, int]]:
        """Return lower and upper bound and count of each bucket that is not empty."""
        return [
            (
                ldexp(1 + place % PARTS / PARTS, place // PARTS + SHORTEST),
                ldexp(1 + (place % PARTS + 1) / PARTS, place // PARTS + SHORTEST),
                count,
            )
            for place, count in enumerate(self._counts)
            if count
        ]


@final
class Method:
    """What a lane needs to know to answer calls of one method.

    Args:
        name: Full name, as bytes.
        mode: How the handler runs, a `call.Mode` number; 0 and 1 run in the lane.
        handler: The callable.
        decoders: Per serializer number, bytes to positional arguments, or None.
        info: Whatever the owner wants to find again.

    Attributes:
        through: Runs a call that the lane may not run as far as it goes without waiting,
            see `Through`; None if only the owner can.
        calls: How many calls were taken.
        errors: Those of them whose handler raised, or whose result can't be sent.
        is_sheddable: Whether its calls are refused while there are `Lane.refusals`.
        shed: Calls that were refused so.
        times: How long calls took, None as long as none was timed.
    """

    __slots__ = (
        "calls", "decoders", "errors", "handler", "info", "is_sheddable", "mode", "name", "shed",
        "through", "times",
    )  # fmt: skip

    def __init__(
        self,
        name: bytes,
        mode: int,
        handler: Callable[..., Any],
        decoders: Sequence[Callable[[bytes], Any] | None],
        info: Any = None,
    ) -> None:
        if len(decoders) != SERIALIZERS:
            raise ConfigError(f"decoders must have {SERIALIZERS} places, got {len(decoders)}")
        self.name = name
        self.mode = mode
        self.handler = handler
        self.decoders = list(decoders)
        self.info = info
        self.through: Callable[..., tuple[bool, Any]] | None = None
        self.calls = 0
        self.errors = 0
        self.is_sheddable = False
        self.shed = 0
        self.times: Durations | None = None

    def note(self, seconds: float) -> None:
        """Count how long a call took."""
        if self.times is None:
            self.times = Durations()
        self.times.add(seconds)


@final
class Lane(Splitter):
    """Bytes in, calls answered and matched, bytes out: one connection's lane.

    The owner wires it (`attach`, and the attributes), hands it what arrives
    (`get_buffer` and `buffer_updated`, or `feed`), and gets called for what is
    not plain. It must have these methods:

    * `frames(list)`: frames for the slow lane, in order;
    * `broken(exc)`: the stream can't go on; the lane takes nothing more;
    * `start(method, frame, args)`: run a handler that the lane may not run;
    * `waits(method, frame, args, rest)`: go on with what `Method.through` began;
    * `replied(method, frame, reply)`: send what it gave, metadata and all;
    * `expired(method, frame)`: the deadline passed before the handler started;
    * `bind(method, frame, exc)`: arguments are no plain array, or don't fit;
    * `raised(method, frame, exc)`: the handler raised;
    * `unsendable(method, frame, exc)`: the result can't be encoded or is too
      large (*exc* is None then);
    * `answered(slot, frame)`: a reply that is not a plain value;
    * `undecodable(slot, frame, exc)`: a plain reply that can't be decoded;
    * `inline(serializer, value)`: return it encoded with nothing beside it;
    * `tick()`: calls are open; call `sweep` now and then;
    * `room()`: replies came while `crowded` was set;
    * `hold(outlet)`: a stream wants to send while the lane is paused; wake it later.

    Args:
        owner: See above.
        share: What the loop's lanes share.
        max_body: Longest body taken in; raise it once the peer has said HELLO.
        first_id: The first id of our own calls.
    """

    __slots__ = (
        "_arrived",
        "_beside",
        "_bound",
        "_extras",
        "_narrow",
        "_numbers",
        "_out",
        "_out_size",
        "_own_sinks",
        "_peer_sinks",
        "_scattered",
        "_scheduled",
        "_splitting",
        "_write",
        "_writelines",
        "bytes_in",
        "bytes_out",
        "calls_in",
        "calls_out",
        "corked",
        "crowded",
        "decoders",
        "draining",
        "encoders",
        "given_up",
        "has_segments",
        "last_id",
        "late",
        "lift",
        "max_depth",
        "max_items",
        "max_metadata",
        "max_metadata_pairs",
        "max_methods",
        "opened",
        "owner",
        "pack",
        "paused",
        "peer_body",
        "peer_calls",
        "peer_methods",
        "raw",
        "ready",
        "refusals",
        "replies_in",
        "router",
        "serializer",
        "share",
        "shed",
        "stalled",
        "table",
        "taken",
        "ticking",
        "unknown",
        "zip_from",
    )  # fmt: skip

    def __init__(self, owner: Any, share: LoopShare, max_body: int, first_id: int = 1) -> None:
        super().__init__(max_body, MAGIC)
        self.owner = owner
        self.share = share
        self.table = CallTable(first_id)
        self._bound: dict[int, Method] = {}  # the peer's method numbers
        self.router: Mapping[bytes, Method] | None = None
        self.encoders: list[Callable[[Any], bytes] | None] = [None] * SERIALIZERS
        self.decoders: list[Callable[[bytes], Any] | None] = [None] * SERIALIZERS
        self.serializer = _MSGPACK
        self.max_depth = DEPTH_FREE
        self.max_items = 100_000
        self.max_methods = 4096
        self.max_metadata = 16 * 2**10
        self.max_metadata_pairs = 64
        self.peer_body = BASELINE_BODY
        self.peer_calls = BASELINE_CALLS
        self.peer_methods = 4096
        self.raw = False  # the peer takes raw payloads, so large bytes need no encoding
        self.opened = False  # HELLO is done: calls are taken
        self.ready = False  # calls may be sent right now
        self.draining = False  # calls are handed up before they are decoded
        # While set, calls of sheddable methods are refused, with one of these errors in msgpack.
        self.refusals: tuple[bytes, ...] | None = None
        self.paused = False  # the peer reads too slowly
        self.stalled = False  # input is kept back until the peer reads
        self.crowded = False  # calls wait for room; new ones must queue behind them
        self.has_segments = False  # the peer takes buffers beside a payload
        self.taken: list[Any] = []  # where codecs put them, one list for all lanes of a side
        self.lift: Callable[[Sequence[Any]], Sequence[Any]] = list  # puts large bytes there
        self._beside: tuple[bytes, list[Any]] | None = None  # a body, and what goes with it
        self.zip_from = 0  # payloads of so many bytes are compressed, 0 for none
        self.pack: Callable[[bytes], bytes | None] | None = None
        self.corked = False  # many calls follow and shall leave together
        self.ticking = False
        self.last_id = 0
        self.calls_in = self.calls_out = self.replies_in = 0
        self.bytes_in = self.bytes_out = 0
        self.late = self.unknown = self.given_up = self.shed = 0
        self._numbers: dict[str, int] = {}  # our method numbers; negative: to be named again
        self._extras: list[Frame] = []
        self._own_sinks: dict[int, Any] = {}  # what takes the items of our own streams
        self._peer_sinks: dict[int, Any] = {}  # and of the peer's
        self._out: list[bytes] = []
        self._out_size = 0
        self._scattered = False  # _out holds a large body that is better not copied
        self._scheduled = False
        self._narrow = False
        self._splitting = False
        self._arrived = 0.0  # when the first call with a deadline of this read was seen
        self._write: Callable[[bytes], Any] | None = None
        self._writelines: Callable[[list[bytes]], Any] | None = None

    # Wiring

    def attach(
        self, write: Callable[[bytes], Any], writelines: Callable[[list[bytes]], Any]
    ) -> None:
        """Give the lane its way out; what was queued before stays queued."""
        self._write = write
        self._writelines = writelines

    def detach(self) -> list[tuple[int, Slot]]:
        """Cut the lane off for good and return the calls that were open."""
        self._halted = True
        self.ready = self.opened = self.stalled = False
        self._write = self._writelines = None
        self._out.clear()
        self._out_size = 0
        self._rest.clear()
        self._extras.clear()
        self._own_sinks.clear()
        self._peer_sinks.clear()
        return self.table.drain()

    def bound_method(self, number: int) -> Method | None:
        """Return the method that the peer calls by *number*, if any."""
        return self._bound.get(number)

    @property
    def waiting(self) -> bool:
        """Whether part of a frame has come and the rest has not."""
        return bool(self._rest or self._big is not None or self._skip)

    @property
    def unsent(self) -> int:
        """Bytes that wait for the next flush."""
        return self._out_size

    def add_sink(self, id: int, own: bool, sink: Any) -> None:
        """Give the items of the stream *id* to *sink*, see `Inlet.push`.

        Args:
            id: Message id of the stream.
            own: Whether it is a stream of ours.
            sink: What takes them.
        """
        (self._own_sinks if own else self._peer_sinks)[id] = sink

    def drop_sink(self, id: int, own: bool) -> None:
        """Drop the items of the stream *id* from now on; twice is fine."""
        (self._own_sinks if own else self._peer_sinks).pop(id, None)

    # In

    def get_buffer(self, hint: int) -> memoryview:
        """Return the memory that the next bytes should go to."""
        if self._big is not None:
            return self._room()
        if self._narrow:
            return self.share.narrow
        return self.share.view

    def buffer_updated(self, nbytes: int) -> None:
        """Take the *nbytes* bytes that were put into the last buffer."""
        if self._big is not None:
            self.bytes_in += nbytes
            self._guarded(self._fill, nbytes)
            # The next may be as large: read its head only, so that the rest of it goes
            # straight to its place.
            self._narrow = self._big is None
        else:
            self._narrow = False
            self.feed(bytes(self.share.view[:nbytes]))

    def feed(self, data: bytes) -> None:
        """Take the next bytes; errors go to the owner, nothing is raised."""
        self.bytes_in += len(data)
        if self._splitting:  # a handler runs the loop: keep order, answer later
            self._rest += data
            return
        self._guarded(self._split, data)

    def resume(self) -> None:
        """Go on after the peer has read; the owner has cleared `paused`."""
        if self.stalled:
            self.stalled = self._halted = False
            self._guarded(self._split, b"")

    def _guarded(self, step: Callable[[Any], None], arg: Any) -> None:
        self._splitting = True
        self._arrived = 0.0
        try:
            step(arg)
            while self._extras:
                self._hand_up()
                self._split(b"")  # what the owner has fed us meanwhile
            if self.crowded:
                self.owner.room()
        except Exception as exc:
            self._halted = True
            self.stalled = False
            self.owner.broken(exc)
        finally:
            self._splitting = False
            if self._out_size:
                self.flush()

    def _fill(self, nbytes: int) -> None:
        self._filled(nbytes)
        self._split(b"")  # what a handler has fed us meanwhile

    def _hand_up(self) -> None:
        frames, self._extras = self._extras, []
        self.owner.frames(frames)

    def _on_frame(
        self, flags: int, status: int, bits: int, id: int, arg: int, time: int,
        name: int, meta: int, data: bytes, start: int, stop: int, oversize: int, hsize: int,
    ) -> None:  # fmt: skip
        if bits or flags & FLAG_HEARTBEAT or oversize or not self.opened:
            if bits & (MASK_KIND | BIT_MORE) == _KIND_DATA and self.opened:
                self._item(
                    flags, status, bits, id, arg, time, name, meta, data, start, stop, oversize,
                    hsize,
                )  # fmt: skip
                return
            asked = bits & MASK_KIND in _NUMBERED and not flags & (FLAG_REPLY | FLAG_HEARTBEAT)
            if asked and self.opened:
                self._rise(id)
                if name and not oversize:
                    self._bind(arg, data[start : start + name])
            self._extras.append(
                make_frame(
                    flags, status, bits, id, arg, time, name, meta, data, start, stop, oversize
                )
            )
            if not self.opened:  # HELLO decides what the frames behind it may do
                self._hand_up()
            return
        if self._extras:
            self._hand_up()
            if self._halted:
                return
        if flags & FLAG_REPLY:
            self._match(flags, status, id, arg, time, name, meta, data, start, stop)
        else:
            self._answer(flags, id, arg, time, name, meta, data, start, stop)
            if self._out_size >= OUT_HIGH:
                self.flush()
            if self.paused:  # the answers would pile up: wait until the peer reads
                self.stalled = self._halted = True

    def _item(
        self, flags: int, status: int, bits: int, id: int, arg: int, time: int, name: int,
        meta: int, data: bytes, start: int, stop: int, oversize: int, hsize: int,
    ) -> None:  # fmt: skip
        if self._extras:  # one of them may open the stream, or end it
            self._hand_up()
            if self._halted:
                return
        sink = (self._own_sinks if flags & FLAG_REPLY else self._peer_sinks).get(id)
        if sink is None:
            return  # it was given up here while the item was on its way
        item: Any
        serializer = flags & MASK_SERIALIZER
        if oversize or bits & ~(MASK_KIND | BIT_END):
            item = make_frame(
                flags, status, bits, id, arg, time, name, meta, data, start, stop, oversize
            )
            if not oversize and stop - start < BIG_BODY:
                # It may have to wait, and a window of small ones is no window of objects.
                item = data[start:stop]
                item = (
                    HEAD_FULL.pack(
                        MAGIC, HEADER_FULL, VERSION, flags, status, bits, id, len(item), arg, time,
                        name, meta,
                    )
                    + item
                )  # fmt: skip
                serializer |= FRAMED
        else:
            item = data[start + name + meta : stop]
        cost = hsize + (oversize or stop - start)
        last = bool(bits & BIT_END) and not flags & FLAG_REPLY  # the callee ends with its reply
        sink.push(serializer, item, cost, last)

    def _match(
        self, flags: int, status: int, id: int, arg: int, time: int,
        name: int, meta: int, data: bytes, start: int, stop: int,
    ) -> None:  # fmt: skip
        slot = self.table.take(id)
        if slot is None:
            if id >= self.table.next_id or not id:
                self.unknown += 1
            else:
                self.late += 1
            return
        self.replies_in += 1
        serializer = flags & MASK_SERIALIZER
        decode = slot[1]
        if decode is None or serializer != self.serializer:
            decode = self.decoders[serializer]
        if status or meta or decode is None:
            self.owner.answered(
                slot, make_frame(flags, status, 0, id, arg, time, name, meta, data, start, stop, 0)
            )
            return
        payload = data[start + name : stop]
        try:
            if serializer == _MSGPACK:
                self.measure(payload)
            value = decode(payload)
        except Exception as exc:
            frame = make_frame(flags, status, 0, id, arg, time, name, meta, data, start, stop, 0)
            self.owner.undecodable(slot, frame, exc)
        else:
            self._settle(slot[0], value)

    def _settle(self, waiter: Any, value: Any) -> None:
        try:
            waiter.set_result(value)
        except Exception:  # asking first would cost every call for the sake of few
            if not waiter.done():
                raise
            self.given_up += 1
            self.late += 1

    def measure(self, payload: bytes) -> None:
        """Look at a msgpack payload before it is decoded.

        Raises:
            TooLarge: It is nested too deep, or has too many items.
        """
        if len(payload) > min(DEPTH_FREE, self.max_depth, self.max_items):
            broken = check_msgpack(payload, self.max_depth, self.max_items)
            if broken:
                raise TooLarge(broken)

    def _is_sound(self, metadata: bytes) -> bool:
        return check_metadata(metadata, self.max_metadata, self.max_metadata_pairs)

    def _rise(self, id: int) -> None:
        if id <= self.last_id:
            raise ProtocolError(f"call id {id} came after {self.last_id}: ids must rise")
        if id > ID_MAX:
            raise ProtocolError(f"call id {id} is over {ID_MAX}")
        self.last_id = id
        self.calls_in += 1

    def _bind(self, number: int, name: bytes) -> Method | None:
        """Note that the peer calls *name* by *number* from now on."""
        known = self._bound.get(number)
        if known is not None:
            if known.name != name:
                raise ProtocolError(f"method number {number} is bound to {known.name!r} already")
            return known
        method = self.router.get(name) if self.router is not None else None
        if method is not None and 0 < number <= self.max_methods:
            self._bound[number] = method
        return method

    def _answer(
        self, flags: int, id: int, arg: int, time: int,
        name: int, meta: int, data: bytes, start: int, stop: int,
    ) -> None:  # fmt: skip
        self._rise(id)
        method = self._bind(arg, data[start : start + name]) if name else self._bound.get(arg)
        if self.refusals is not None and method is not None and method.is_sheddable:
            self._shed(flags, id, method)
            return
        if (
            method is None
            or self.draining
            or (meta and not self._is_sound(data[start + name : start + name + meta]))
        ):
            frame = make_frame(flags, 0, 0, id, arg, time, name, meta, data, start, stop, 0)
            self._extras.append(frame)
            return
        if time:
            now = self.share.clock()
            if not self._arrived:
                self._arrived = now
            elif now - self._arrived > time / 1000.0:
                frame = make_frame(flags, 0, 0, id, arg, time, name, meta, data, start, stop, 0)
                self.owner.expired(method, frame)
                return
        serializer = flags & MASK_SERIALIZER
        decode = method.decoders[serializer]
        payload = data[start + name + meta : stop]
        failure: Exception | None = None
        args: Sequence[Any] = ()
        if decode is not None:
            try:
                if serializer == _MSGPACK:
                    self.measure(payload)
                args = decode(payload)
            except Exception as exc:
                failure = exc
        if decode is None or failure is not None:
            frame = make_frame(flags, 0, 0, id, arg, time, name, meta, data, start, stop, 0)
            self.owner.bind(method, frame, failure)
            return
        reply: Any = None
        if method.mode > MODE_INLINE and method.through is None:
            frame = make_frame(flags, 0, 0, id, arg, time, name, meta, data, start, stop, 0)
            self.owner.start(method, frame, args)
            return
        begun = None if method.calls % SAMPLED else self.share.clock()
        method.calls += 1
        try:
            if method.through is not None:
                packed = data[start + name : start + name + meta]
                is_over, reply = method.through(self.owner, flags, id, time, packed, args)
                if not is_over:
                    frame = make_frame(flags, 0, 0, id, arg, time, name, meta, data, start, stop, 0)
                    self.owner.waits(method, frame, args, reply)
                    return
                result = reply.value
            else:
                result = method.handler(*args)
                if method.mode == MODE_INLINE:
                    result = drive(result)
        except BaseException as exc:
            if begun is not None:
                method.note(self.share.clock() - begun)
            method.errors += 1
            frame = make_frame(flags, 0, 0, id, arg, time, name, meta, data, start, stop, 0)
            self.owner.raised(method, frame, exc)
            return
        if begun is not None:
            method.note(self.share.clock() - begun)
        if flags & FLAG_ONEWAY:
            return
        if reply is not None and (reply.packed_metadata or reply.items is not None):
            frame = make_frame(flags, 0, 0, id, arg, time, name, meta, data, start, stop, 0)
            self.owner.replied(method, frame, reply)
            return
        body = b""
        try:
            serializer, body = self.encode_result(serializer, result)
        except Exception as exc:
            failure = exc
        size = len(body) if self._beside is None else self.size_of(body)
        if failure is not None or size > self.peer_body:
            method.errors += 1
            frame = make_frame(flags, 0, 0, id, arg, time, name, meta, data, start, stop, 0)
            self.owner.unsendable(method, frame, failure)
            return
        self.reply(id, serializer, body)

    def shed_call(self, id: int, oneway: bool, method: Method) -> None:
        """Refuse the peer's call *id* with one of `refusals`, and count it."""
        self._shed(FLAG_ONEWAY if oneway else 0, id, method)

    def _shed(self, flags: int, id: int, method: Method) -> None:
        self.shed += 1
        method.shed += 1
        if not flags & FLAG_ONEWAY:
            assert self.refusals
            body = self.refusals[self.shed % len(self.refusals)]
            if len(body) > self.peer_body:
                body = b""
            self.reply(id, _MSGPACK, body, OVERLOADED)

    # Out

    def encode_result(self, serializer: int, value: Any) -> tuple[int, bytes]:
        """Return serializer and bytes of a handler's result.

        Large plain bytes go raw if the peer takes that: no copy is made of them.
        Arguments may have gone so, too, and say nothing about the result: what
        is no bytes is msgpack then.
        """
        if type(value) is bytes and len(value) >= BIG_BODY and self.raw and serializer == _MSGPACK:
            return _RAW, value
        if self.has_segments and serializer == _MSGPACK and _is_large(value):
            return serializer, self._encode(serializer, self.lift((value,))[0])
        if serializer == _RAW and not isinstance(value, (bytes, bytearray, memoryview)):
            serializer = _MSGPACK
        return serializer, self._encode(serializer, value)

    def _encode(self, serializer: int, value: Any) -> bytes:
        encode = self.encoders[serializer]
        if encode is None:
            raise CodecError(f"no codec for serializer {serializer}")
        taken = self.taken
        try:
            body = encode(value)
        except BaseException:
            taken.clear()  # what goes with half a value goes with none
            raise
        if type(body) is not bytes:
            raise CodecError(f"serializer {serializer} gave {type(body).__name__}, not bytes")
        if taken:
            if not self.has_segments:
                taken.clear()
                return self.owner.inline(serializer, value)  # type: ignore[no-any-return]
            self._beside = body, taken.copy()
            taken.clear()
        return body

    def _buffers_of(self, body: bytes) -> list[Any]:
        """Return what the codec put beside *body*, once; it holds for what it encoded last."""
        beside, self._beside = self._beside, None
        return beside[1] if beside is not None and beside[0] is body else []

    def size_of(self, body: bytes) -> int:
        """Return how many bytes of a frame *body* takes, with what is beside it; at most."""
        beside = self._beside
        if beside is None or beside[0] is not body:
            return len(body)
        return len(body) + sum(map(len, beside[1])) + SEGMENT_COST * (len(beside[1]) + 2)

    def _squeezed(self, body: bytes) -> bytes | None:
        """Return *body* compressed, if that is agreed on and worth it."""
        if len(body) < self.zip_from or self.pack is None:
            return None
        return self.pack(body)

    def reply(
        self, id: int, serializer: int, body: bytes, status: int = 0, arg: int = 0, time: int = 0,
        metadata: bytes = b"",
    ) -> None:  # fmt: skip
        """Queue the terminal reply of the peer's call *id*.

        Args:
            id: The peer's number of the call.
            serializer: How *body* is encoded.
            body: Encoded value or error.
            status: How the call ended.
            arg: Application code.
            time: Microseconds spent in the handler, 0 if nobody measured.
            metadata: Packed metadata.
        """
        flags, bits = FLAG_REPLY | serializer, 0
        time = min(time, 0xFFFFFFFF)
        buffers = self._buffers_of(body) if self._beside is not None else []
        if self.zip_from and not status and (packed := self._squeezed(body)) is not None:
            body, bits = packed, BIT_ZIP
        size = len(body) + len(metadata)
        if buffers or metadata:
            self._put_pieces(
                encode_pieces(
                    0, id, serializer=serializer, reply=True, status=status, bits=bits, arg=arg,
                    time=time, metadata=metadata, payload=body, buffers=buffers,
                )
            )  # fmt: skip
        elif time:
            head = _HEAD_TIME.pack(
                MAGIC, HEADER_TIME, VERSION, flags, status, bits, id, size, arg, time
            )
            self._put(head, body)
        elif arg:
            head = _HEAD_ARG.pack(MAGIC, HEADER_ARG, VERSION, flags, status, bits, id, size, arg)
            self._put(head, body)
        else:
            self._put(HEAD.pack(MAGIC, HEADER_BASE, VERSION, flags, status, bits, id, size), body)
        if not self._splitting:
            self._schedule()

    def send(self, data: bytes) -> None:
        """Queue a whole frame that `encode_frame` made."""
        self._put(data, b"")
        if not self._splitting:
            self._schedule()

    def call(
        self,
        name: str,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any] | None,
        timeout: float,
        metadata: bytes,
        decode: Callable[[bytes], Any] | None,
    ) -> Any:
        """Send a call and return its waiter.

        Args:
            name: Full method name.
            args: Positional arguments.
            kwargs: Keyword arguments, or None.
            timeout: Seconds until the deadline, 0 for none.
            metadata: Packed metadata.
            decode: Decoder of the result, None for the connection's own.

        Raises:
            CodecError: The arguments can't be encoded; nothing was sent.
            TooLarge: They are larger than the peer accepts; nothing was sent.
            ConfigError: Another thread or event loop than the lane's calls.
        """
        return self._start(name, args, kwargs, timeout, metadata, decode, None, 0)[1]

    def start(
        self,
        name: str,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any] | None,
        timeout: float,
        metadata: bytes,
        decode: Callable[[bytes], Any] | None,
        waiter: Any,
        bits: int,
    ) -> int:
        """Send a call, or open a stream, and return its id; the rest is as `call` has it.

        Args:
            name: Full method name.
            args: Positional arguments.
            kwargs: Keyword arguments, or None.
            timeout: Seconds until the deadline, 0 for none.
            metadata: Packed metadata.
            decode: Decoder of the value.
            waiter: Told of the end, in a future's place.
            bits: Kind CALL, or kind OPEN and whether END.
        """
        return self._start(name, args, kwargs, timeout, metadata, decode, waiter, bits)[0]

    def _start(
        self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any] | None, timeout: float,
        metadata: bytes, decode: Callable[[bytes], Any] | None, waiter: Any, bits: int,
    ) -> tuple[int, Any]:  # fmt: skip
        self._check_loop()
        serializer, body = self._encode_arguments(name, args, kwargs, metadata)
        if waiter is None:
            waiter = self.share.create_future()
        started = deadline = 0.0
        millis = 0
        if timeout > 0.0:
            started = self.share.clock()
            deadline = started + timeout
            millis = int(min(timeout * 1000.0, _U32_MAX - 1.0)) + 1
        quiet = not self.table and not self._out_size
        id = self.table.open(waiter, decode, name, started, deadline)
        try:
            self._request(name, id, serializer, bits, millis, metadata, body)
        except BaseException:
            self.table.take(id)
            raise
        if not self.ticking:
            self.ticking = True
            self.owner.tick()
        # A lone call shall not wait for the loop's next turn; one among many
        # shall leave together with the others.
        if quiet and not (self._splitting or self.corked):
            self.flush()
        else:
            self._schedule()
        return id, waiter

    def notify(
        self,
        name: str,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any] | None,
        metadata: bytes,
    ) -> None:
        """Send a oneway call; errors as `call` has them."""
        self._check_loop()
        serializer, body = self._encode_arguments(name, args, kwargs, metadata)
        id = self.table.next_id
        if id >= ID_MAX:
            raise ProtocolError("the ids of this connection are used up")
        self.table.next_id = id + 1
        self._request(name, id, FLAG_ONEWAY | serializer, 0, 0, metadata, body)
        self._schedule()

    def _check_loop(self) -> None:
        share = self.share
        if share.thread and share.thread != get_ident():
            raise ConfigError("this client belongs to the event loop of another thread")
        if not share.is_running():
            raise ConfigError("this client is connected on another event loop; make one per loop")

    def _encode_arguments(
        self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any] | None, metadata: bytes
    ) -> tuple[int, bytes]:
        serializer = self.serializer
        value: Any = args
        if kwargs:
            value = {**kwargs, "*": args} if args else kwargs
        if serializer == _RAW:
            if kwargs or len(args) > 1:
                raise CodecError(f"{name}: the raw codec carries one bytes argument, no names")
            value = args[0] if args else b""
        body: bytes
        if (
            len(args) == 1
            and not kwargs
            and type(args[0]) is bytes
            and len(args[0]) >= BIG_BODY
            and self.raw
            and serializer == _MSGPACK
        ):
            serializer, body = _RAW, args[0]
        else:
            if self.has_segments and serializer == _MSGPACK:
                value = self._lifted(value, args, kwargs)
            try:
                body = self._encode(serializer, value)
            except Exception as exc:
                raise CodecError(f"{name}: arguments can't be encoded: {exc}") from exc
        size = len(metadata) + (len(body) if self._beside is None else self.size_of(body))
        if size > self.peer_body - NAME_MAX and self._numbers.get(name, 0) <= 0:
            size += len(_encode_name(name))  # the first call carries it
        if size > self.peer_body:
            raise TooLarge(
                f"{name}: arguments of {size} bytes are over the server's max_body of"
                f" {self.peer_body}",
                method=name,
            )
        return serializer, body

    def _lifted(self, value: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any] | None) -> Any:
        """Return the arguments with large bytes put beside the payload."""
        if any(map(_is_large, args)):
            args = tuple(self.lift(args))
            value = {**kwargs, "*": args} if kwargs else args
        if kwargs and any(map(_is_large, kwargs.values())):
            named = dict(zip(kwargs, self.lift(tuple(kwargs.values())), strict=True))
            value = {**named, "*": args} if args else named
        return value

    def _request(
        self, name: str, id: int, flags: int, bits: int, millis: int, metadata: bytes, body: bytes
    ) -> None:
        number = self._numbers.get(name, 0)
        buffers = self._buffers_of(body) if self._beside is not None else []
        if self.zip_from and (packed := self._squeezed(body)) is not None:
            body, bits = packed, bits | BIT_ZIP
        if number <= 0 or metadata or buffers:
            if len(metadata) > METADATA_MAX:
                text = f"{name}: metadata of {len(metadata)} bytes is over {METADATA_MAX}"
                raise TooLarge(text, method=name)
            named = b""
            if number <= 0:
                named = _encode_name(name)
                number = -number or len(self._numbers) + 1
                if number <= self.peer_methods:
                    self._numbers[name] = number
                else:
                    number = 0
            if buffers:
                self.calls_out += 1
                self._put_pieces(
                    encode_pieces(
                        bits & MASK_KIND, id, serializer=flags & MASK_SERIALIZER,
                        oneway=bool(flags & FLAG_ONEWAY), bits=bits & ~MASK_KIND, arg=number,
                        time=millis, name=named, metadata=metadata, payload=body, buffers=buffers,
                    )
                )  # fmt: skip
                return
            head = HEAD_FULL.pack(
                MAGIC, HEADER_FULL, VERSION, flags, 0, bits, id,
                len(named) + len(metadata) + len(body), number, millis, len(named), len(metadata),
            )  # fmt: skip
            head += named + metadata
        elif millis:
            head = _HEAD_TIME.pack(
                MAGIC, HEADER_TIME, VERSION, flags, 0, bits, id, len(body), number, millis
            )
        else:
            head = _HEAD_ARG.pack(MAGIC, HEADER_ARG, VERSION, flags, 0, bits, id, len(body), number)
        self.calls_out += 1
        self._put(head, body)

    def forget(self, name: str) -> None:
        """Send *name* in full again with its next call: the peer does not know it."""
        number = self._numbers.get(name, 0)
        if number > 0:
            self._numbers[name] = -number  # the same again: the peer may have bound it after all

    def cancel(self, id: int) -> bool:
        """Give up a call of ours and tell the peer; False if it has ended before."""
        if self.table.take(id) is None:
            return False
        self._cancel(id, 42)
        return True

    def put_item(self, id: int, own: bool, serializer: int, body: bytes) -> int:
        """Queue an item of a stream and return what it costs of the credit.

        Args:
            id: Message id of the stream.
            own: Whether it is a stream of ours.
            serializer: How *body* is encoded.
            body: Encoded item.
        """
        flags, bits = serializer if own else FLAG_REPLY | serializer, _KIND_DATA
        buffers = self._buffers_of(body) if self._beside is not None else []
        if self.zip_from and (packed := self._squeezed(body)) is not None:
            body, bits = packed, bits | BIT_ZIP
        size = len(body)
        if buffers:
            pieces = encode_pieces(
                _KIND_DATA, id, serializer=serializer, reply=not own, bits=bits & ~MASK_KIND,
                payload=body, buffers=buffers,
            )  # fmt: skip
            self._put_pieces(pieces)
            size = sum(map(len, pieces)) - HEADER_BASE
        else:
            self._put(HEAD.pack(MAGIC, HEADER_BASE, VERSION, flags, 0, bits, id, size), body)
        if self._out_size >= OUT_HIGH:
            self.flush()
        elif not self._splitting:
            self._schedule()
        return HEADER_BASE + size

    def sweep(self, now: float) -> list[Slot]:
        """Give up cancelled and late calls, tell the peer, return the late ones."""
        late = self.table.expire(now)
        for id in self.table.abandoned():
            self._cancel(id, 42)
        for id, _ in late:
            self._cancel(id, 41)
        self.ticking = bool(self.table)
        return [slot for _, slot in late]

    def _cancel(self, id: int, status: int) -> None:
        self.given_up += 1
        self.send(encode_frame(6, id, status=status))

    def _put(self, head: bytes, body: bytes) -> None:
        size = len(body)
        if size >= BIG_BODY:
            self._scattered = True
            self._out.append(head)
            self._out.append(body)
        else:
            self._out.append(head + body)
        self._out_size += len(head) + size

    def _put_pieces(self, pieces: list[Any]) -> None:
        self._scattered = True
        self._out += pieces
        self._out_size += sum(map(len, pieces))

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self.share.call_soon(self.flush)

    def flush(self) -> None:
        """Write what is queued, in one go."""
        fresh: list[bytes] = []  # first: making it may run the collector, and that a call
        self._scheduled = False
        if not self._out_size or self._write is None or self._writelines is None:
            return
        out, self._out = self._out, fresh
        self.bytes_out += self._out_size
        self._out_size = 0
        if self._scattered:
            self._scattered = False
            self._writelines(out)
        else:
            self._write(b"".join(out))


def _is_large(value: Any) -> bool:
    """Say whether *value* is bytes that are better not copied."""
    kind = type(value)
    if kind is bytes or kind is bytearray:
        return len(value) >= BIG_BODY
    return kind is memoryview and value.nbytes >= BIG_BODY


def _encode_name(name: str) -> bytes:
    """Return a method's name as bytes; raise if no server can have it."""
    if not isinstance(name, str):
        raise TypeError(f"Expected str, got {type(name).__name__}")
    try:
        named = name.encode()
    except UnicodeEncodeError:
        named = b""
    if not 0 < len(named) <= NAME_MAX:
        text = f"{name[:64]!a} can't be a method: its name has 1 to {NAME_MAX} bytes of UTF-8"
        raise MethodNotFound(text, method=name)
    return named


def drive(coroutine: Any) -> Any:
    """Run a coroutine that never suspends to its end."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    coroutine.close()
    raise RuntimeError("the handler waits although its code has no await")
