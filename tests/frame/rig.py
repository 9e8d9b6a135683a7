"""A lane with everything around it: an owner, a loop, a clock, a way out, methods to call.

All of it writes down what the lane does, so that two lanes can be compared.
"""

import asyncio
from collections.abc import Callable, Coroutine, Generator
from types import SimpleNamespace
from typing import Any

import msgspec

from fastrpc import wire
from tests.frame.twins import open_twin, shown

PURE = open_twin("pure")
pack = msgspec.msgpack.encode


class Waiter:
    """A future, as far as a lane knows."""

    __slots__ = ("_asyncio_future_blocking", "told")

    def __init__(self) -> None:
        self.told: list[Any] = []
        self._asyncio_future_blocking = False

    def __await__(self) -> Generator["Waiter", None, Any]:
        if not self.told:
            yield self
        if self.told == [("cancelled",)]:
            raise asyncio.CancelledError
        return self.result()

    def done(self) -> bool:
        return bool(self.told)

    def set_result(self, value: Any) -> None:
        if self.told:
            raise RuntimeError("invalid state")
        self.told.append(("result", value))

    def cancel(self) -> None:
        if not self.told:
            self.told.append(("cancelled",))

    def result(self) -> Any:
        ((_, value),) = self.told
        return value


class Owner:
    """Takes what the lane hands up, writes it down, and does what the test says."""

    def __init__(self) -> None:
        self.log: list[tuple[Any, ...]] = []
        #: What to do when called: "frames" -> function of this owner and the arguments.
        self.does: dict[str, Callable[..., Any]] = {}
        self.lane: Any = None
        #: Outlets that wait for the peer to read.
        self.held: list[Any] = []

    def frames(self, frames: list[Any]) -> None:
        self._note("frames", frames, [shown(frame) for frame in frames])

    def broken(self, exc: Exception) -> None:
        self._note("broken", exc, shown(exc))

    def start(self, method: Any, frame: Any, args: Any) -> None:
        self._note("start", frame, method.name, shown(frame), repr(args))

    def expired(self, method: Any, frame: Any) -> None:
        self._note("expired", frame, method.name, shown(frame))

    def bind(self, method: Any, frame: Any, exc: Exception | None) -> None:
        self._note("bind", frame, method.name, shown(frame), shown(exc))

    def raised(self, method: Any, frame: Any, exc: BaseException) -> None:
        self._note("raised", frame, method.name, shown(frame), shown(exc))

    def unsendable(self, method: Any, frame: Any, exc: Exception | None) -> None:
        self._note("unsendable", frame, method.name, shown(frame), shown(exc))

    def answered(self, slot: Any, frame: Any) -> None:
        self._note("answered", slot, slot[1:], shown(frame))

    def undecodable(self, slot: Any, frame: Any, exc: Exception) -> None:
        self._note("undecodable", slot, slot[1:], shown(frame), shown(exc))

    def tick(self) -> None:
        self._note("tick", None)

    def room(self) -> None:
        self._note("room", None)

    def hold(self, outlet: Any) -> None:
        self.held.append(outlet)

    def _note(self, what: str, thing: Any, *told: Any) -> None:
        self.log.append((what, *told))
        does = self.does.get(what)
        if does is not None:
            does(self, thing)


class _Pause:
    """What a coroutine awaits that gives up its turn."""

    def __await__(self) -> Generator[None, None, None]:
        yield


class BadCodec:
    """Encodes to things that are no bytes."""

    KINDS = (bytearray(b"x"), memoryview(b"x"), None, "x", 5)

    def __call__(self, value: Any) -> Any:
        return self.KINDS[len(repr(value)) % len(self.KINDS)]


def _raw(value: Any) -> bytes:
    if not isinstance(value, bytes | bytearray | memoryview):
        raise TypeError(f"the raw codec takes bytes, not {type(value).__name__}")
    return bytes(value)


def places(**codecs: Any) -> list[Any]:
    """Return a list with each codec at its number: places(_1=...)."""
    found: list[Any] = [None] * wire.SERIALIZERS
    for number, codec in codecs.items():
        found[int(number[1:])] = codec
    return found


def encoders() -> list[Any]:
    return places(_0=_raw, _1=msgspec.msgpack.encode, _2=msgspec.json.encode, _17=BadCodec())


def decoders() -> list[Any]:
    return places(_0=bytes, _1=msgspec.msgpack.decode, _2=msgspec.json.decode)


def arguments() -> list[Any]:
    """Return what reads positional arguments, per serializer."""
    return places(
        _0=lambda data: (data,),
        _1=msgspec.msgpack.Decoder(list).decode,
        _2=msgspec.json.Decoder(list).decode,
        _17=lambda data: [data],
    )


#: A reply is read with one of these if the caller names it.
TYPED: dict[str, Any] = {
    "none": None,
    "int": msgspec.msgpack.Decoder(int).decode,
    "list": msgspec.msgpack.Decoder(list).decode,
}

METHODS = (
    "echo", "fail", "exit", "odd", "big", "later", "waits", "stuck", "one", "task", "thread",
    "feed", "call", "leave", "pause", "drain", "close", "number",
)  # fmt: skip


class Rig:
    """One lane of one twin, wired.

    Args:
        twin: From `open_twin`.
        first_id: Of the lane's own calls.
        max_body: What it takes in.
        opened: Whether HELLO is done already.
    """

    def __init__(
        self,
        twin: SimpleNamespace,
        *,
        first_id: int = 1,
        max_body: int = 2**20,
        opened: bool = True,
    ) -> None:
        self.twin = twin
        self.now = 100.0
        self.tick = 0.0  # how much later it is after each look at the clock
        self.running = True
        self.thread = 0
        self.soon: list[Callable[[], Any]] = []
        self.waiters: list[Waiter] = []
        self.written = bytearray()
        self.held = b""  # bytes that are on their way to the lane
        self.writes = 0
        self.owner = Owner()
        self.share = twin.LoopShare(
            self._waiter, self.soon.append, self._clock, lambda: self.running, 0, self
        )
        self.lane = twin.Lane(self.owner, self.share, max_body, first_id)
        self.owner.lane = self.lane
        self.methods = {
            name: twin.Method(
                name.encode(), self._mode(name), getattr(self, f"_{name}"), arguments()
            )
            for name in METHODS
        }
        self.lane.router = {name.encode(): method for name, method in self.methods.items()}
        self.lane.encoders, self.lane.decoders = encoders(), decoders()
        self.lane.attach(self._write, self._writelines)
        self.lane.opened = self.lane.ready = opened

    def __repr__(self) -> str:
        return f"<Rig {self.twin.name}>"

    # What is around the lane

    def _waiter(self) -> Waiter:
        self.waiters.append(Waiter())
        return self.waiters[-1]

    def _clock(self) -> float:
        now = self.now
        self.now += self.tick
        return now

    def _write(self, data: bytes) -> None:
        self.writes += 1
        self.written += data

    def _writelines(self, parts: list[bytes]) -> None:
        self.writes += 1
        self.written += b"".join(parts)

    def turn(self) -> None:
        """Run what was put off to the loop's next turn."""
        due, self.soon[:] = list(self.soon), []
        for deed in due:
            deed()

    def taken(self) -> bytes:
        """Return what was written since the last time."""
        data = bytes(self.written)
        self.written.clear()
        return data

    def sent(self) -> list[Any]:
        """Return what was written since the last time, as frames."""
        frames: list[Any] = PURE.FrameDecoder(wire.BODY_MAX).feed(self.taken())
        return frames

    # Doing

    def call(
        self,
        name: str,
        *args: Any,
        timeout: float = 0.0,
        metadata: bytes = b"",
        decode: Callable[[bytes], Any] | None = None,
        **kwargs: Any,
    ) -> Waiter:
        waiter: Waiter = self.lane.call(name, args, kwargs or None, timeout, metadata, decode)
        return waiter

    def ask(self, method: str, /, *args: Any, id: int | None = None, **fields: Any) -> None:
        """Let a call of the peer's arrive, its method by name."""
        self.lane.feed(self.asked(method, *args, id=id, **fields))

    def asked(self, method: str, /, *args: Any, id: int | None = None, **fields: Any) -> bytes:
        """Return a call of the peer's; the next number, msgpack, if nothing else is said."""
        given = {"serializer": 1, "payload": pack(args), "name": method.encode()} | fields
        data: bytes = PURE.encode_frame(0, self.lane.last_id + 1 if id is None else id, **given)
        return data

    def answer(self, id: int, value: Any = None, **fields: Any) -> None:
        """Let a reply to a call of ours arrive."""
        given = {"serializer": 1, "payload": pack(value)} | fields
        self.lane.feed(PURE.encode_frame(0, id, reply=True, **given))

    def receive(self, data: bytes, most: int = 2**30) -> None:
        """Put *data* where the lane wants it, at most so many bytes at a time."""
        at = 0
        while at < len(data):
            room = self.lane.get_buffer(-1)
            step = min(len(room), len(data) - at, most)
            room[:step] = data[at : at + step]
            del room
            at += step
            self.lane.buffer_updated(step)

    def state(self) -> dict[str, Any]:
        """Return everything that can be seen of the lane."""
        lane = self.lane
        return {
            "counts": (
                lane.calls_in, lane.calls_out, lane.replies_in, lane.bytes_in, lane.bytes_out,
                lane.late, lane.unknown, lane.given_up, lane.shed, lane.last_id,
            ),
            "table": (len(lane.table), lane.table.next_id, lane.table.soonest),
            "flags": (
                lane.opened, lane.ready, lane.draining, lane.paused, lane.stalled, lane.crowded,
                lane.ticking, lane.waiting, lane.unsent,
            ),
            "bound": [getattr(lane.bound_method(n), "name", None) for n in range(-1, 8)],
            "methods": [(method.calls, method.errors, method.shed) for method in self.methods.values()],
            "owner": len(self.owner.log),
            "soon": len(self.soon),
            "writes": self.writes,
            "written": len(self.written),
        }  # fmt: skip

    def record(self) -> dict[str, Any]:
        """Return all that has happened."""
        return {
            "log": self.owner.log,
            "written": bytes(self.written),
            "waiters": [repr(waiter.told) for waiter in self.waiters],
            "state": self.state(),
        }

    # The handlers

    @staticmethod
    def _mode(name: str) -> int:
        return {"later": 1, "waits": 1, "stuck": 1, "one": 1, "task": 2, "thread": 3}.get(name, 0)

    def _echo(self, *args: Any) -> Any:
        return args[0] if len(args) == 1 else list(args)

    def _number(self, *args: Any) -> int:
        return len(args)

    def _fail(self, *args: Any) -> Any:
        raise ValueError(f"failed with {args!r}")

    def _exit(self, *args: Any) -> Any:
        raise SystemExit(len(args))

    def _odd(self, *args: Any) -> Any:
        return object

    def _big(self, size: int = 0) -> bytes:
        return bytes(size)

    async def _later(self, *args: Any) -> Any:
        return args[0] if args else None

    async def _waits(self, *args: Any) -> Any:
        await _Pause()

    async def _stuck(self, *args: Any) -> Any:
        try:
            await _Pause()
        finally:
            await _Pause()  # refuses to be closed

    def _one(self, *args: Any) -> Coroutine[Any, Any, Any]:
        return args[0]  # type: ignore[no-any-return]  # says it is a coroutine, and is not

    def _task(self, *args: Any) -> Any:
        raise AssertionError("the lane must not run it")

    _thread = _task

    def _feed(self, *args: Any) -> int:
        """Feed the lane from inside one of its own calls: bytes, or a call with what is none."""
        for data in args:
            self.lane.feed(data if isinstance(data, bytes) else self.asked("echo", data))
        return len(args)

    def _call(self, *args: Any) -> str:
        self.call("echo", *args)
        return "called"

    def _leave(self, *args: Any) -> str:
        self.lane.detach()
        return "gone"

    def _pause(self, *args: Any) -> str:
        self.lane.paused = True
        return "paused"

    def _drain(self, *args: Any) -> str:
        self.lane.draining = True
        return "draining"

    def _close(self, *args: Any) -> str:
        self.lane.opened = False
        return "closed"
