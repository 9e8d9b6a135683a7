"""A peer that says anything, and the list of what it has tried.

`RawPeer` speaks frames over any target without believing in the protocol. `CASES` is what a
server gets to hear, with the answers it owes: use `check(target, case)` against any server that
serves `Victim` with `LIMITS`. Nothing here knows how the server is made.
"""

import asyncio
import contextlib
import json
import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import msgspec

from fastrpc.errors import FrameError
from fastrpc.frame import Frame, FrameDecoder, encode_frame
from fastrpc.protocol import Option, encode_option
from fastrpc.transport import dial
from fastrpc.wire import ID_MAX, SKIP_MAX, Kind, Serializer

SEEN_MAX = 64 * 1024
PATIENCE = 10.0  # for one expected step, on a machine with better things to do
GOLDEN = json.loads((Path(__file__).parent.parent / "vectors" / "golden.json").read_text())
MSGPACK, JSON = int(Serializer.MSGPACK), int(Serializer.JSON)
pack = msgspec.msgpack.encode
unpack = msgspec.msgpack.decode
_DECODE: dict[int, Callable[[bytes], Any]] = {0: bytes, MSGPACK: unpack, JSON: json.loads}

#: What the server under attack is started with.
LIMITS: dict[str, Any] = {"max_body": 64 * 1024, "max_methods": 8, "max_items": 1000}


class Victim:
    """Small sums for large troubles."""

    def add(self, a: int, b: int) -> int:
        return a + b

    def echo(self, value: Any = None) -> Any:
        return value

    def octets(self, data: bytes) -> bytes:
        return b"%d" % len(data)

    def _hidden(self) -> str:
        return "you should not see this"


def call(id: int, name: bytes = b"Victim.add", payload: bytes | None = None, **more: Any) -> bytes:
    """Return the frame of a call, of `add` with good arguments unless told otherwise."""
    payload = pack([2, 3]) if payload is None else payload
    more.setdefault("serializer", MSGPACK)
    return encode_frame(Kind.CALL, id, name=name, payload=payload, **more)


def hello(answer: bool = False, omit: Sequence[str] = (), **extra: Any) -> bytes:
    """Return a HELLO body; *extra* replaces or adds keys as they are."""
    body = json.loads(encode_option(Option(agent="raw peer"), False))
    for key in omit:
        del body[key]
    return json.dumps({**body, **extra}).encode()


def hello_frame(payload: bytes | None = None, **more: Any) -> bytes:
    """Return a HELLO frame."""
    more.setdefault("serializer", JSON)
    payload = hello() if payload is None else payload
    return encode_frame(Kind.HELLO, more.pop("id", 0), payload=payload, **more)


def pairs(*items: tuple[bytes, bytes]) -> bytes:
    """Return packed metadata, however wrong."""
    return b"".join(
        bytes((len(key),)) + key + struct.pack(">H", len(value)) + value for key, value in items
    )


def header(size: int, *, kind: int = 0, id: int = 1, flags: int = MSGPACK) -> bytes:
    """Return a bare header that declares a body of *size*."""
    return struct.pack(">HHBBBBQL", 0xFA57, 20, 1, flags, 0, kind, id, size)


class RawPeer:
    """One end of a connection that sends whatever it is told to."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.decoder = FrameDecoder()
        self.seen = b""
        self._frames: list[Frame] = []

    @classmethod
    async def connect(cls, target: str) -> Self:
        """Connect and say nothing."""
        reader = asyncio.StreamReader(limit=2**26)
        protocol = asyncio.StreamReaderProtocol(reader)
        transport, _ = await dial(target, lambda: protocol, timeout=PATIENCE)
        loop = asyncio.get_running_loop()
        return cls(reader, asyncio.StreamWriter(transport, protocol, reader, loop))

    @classmethod
    async def greeted(cls, target: str, **option: Any) -> Self:
        """Connect and exchange HELLO."""
        peer = await cls.connect(target)
        peer.send(hello_frame(hello(**option)))
        answer = await peer.frame()
        assert answer is not None, "the server closed instead of answering HELLO"
        assert (answer.kind, answer.status, answer.reply) == (Kind.HELLO, 0, True)
        return peer

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()

    def send(self, *data: bytes) -> None:
        """Send, all at once."""
        self.writer.write(b"".join(data))

    async def drip(self, data: bytes, size: int = 1) -> None:
        """Send in small pieces, each in a step of its own."""
        for at in range(0, len(data), size):
            self.writer.write(data[at : at + size])
            await asyncio.sleep(0)

    async def frame(self) -> Frame | None:
        """Return the next frame, None at the end."""
        async with asyncio.timeout(PATIENCE):
            while not self._frames:
                try:
                    data = await self.reader.read(2**16)
                except ConnectionError:
                    return None
                if not data:
                    return None
                self.seen += data[: SEEN_MAX - len(self.seen)]
                try:
                    self._frames += self.decoder.feed(data)
                except FrameError:  # not our tongue; whoever wants it finds it in `seen`
                    continue
        return self._frames.pop(0)

    async def rest(self) -> list[Frame]:
        """Return every frame until the end."""
        frames = []
        while (frame := await self.frame()) is not None:
            frames.append(frame)
        return frames

    async def reply(self, id: int) -> Frame:
        """Return the reply to call *id*; what comes before it stays to be read."""
        skipped: list[Frame] = []
        while (frame := await self.frame()) is not None:
            if frame.kind == Kind.CALL and frame.reply and not frame.heartbeat and frame.id == id:
                self._frames[:0] = skipped
                return frame
            skipped.append(frame)
        raise AssertionError(f"closed before call {id} was answered")

    async def until_pong(self, token: int) -> list[Frame]:
        """Ping, and return what came before the pong."""
        self.send(encode_frame(Kind.CALL, token, heartbeat=True))
        frames: list[Frame] = []
        while (frame := await self.frame()) is not None:
            if frame.heartbeat and frame.reply and frame.id == token:
                return frames
            frames.append(frame)
        raise AssertionError(f"closed before the pong came, after {frames}")

    async def aclose(self) -> None:
        """Close."""
        self.writer.close()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()


def message(frame: Frame) -> str:
    """Return the text of an error reply or GOAWAY."""
    if not frame.payload:
        return ""
    body = json.loads(frame.payload) if frame.serializer == JSON else unpack(frame.payload)
    return str(body.get("message", ""))


@dataclass(frozen=True, slots=True)
class Case:
    """What a hostile peer sends, and what it gets.

    Attributes:
        name: Id of the test.
        send: The bytes.
        answers: What comes back, in order; see `goaway`, `reply` and their like.
        greeted: Whether a proper HELLO goes first.
        ends: Whether the server ends the connection.
        eof: Whether the peer ends its own side after sending.
        options: Keys of the proper HELLO.
    """

    name: str
    send: bytes
    answers: tuple["Answer", ...] = ()
    greeted: bool = True
    ends: bool = False
    eof: bool = False
    options: dict[str, Any] | None = None


Answer = Callable[[Frame], str]  # returns what is wrong, "" if nothing


def goaway(status: int, text: str) -> Answer:
    """Expect the server's last words."""

    def check(frame: Frame) -> str:
        fine = frame.kind == Kind.GOAWAY and frame.status == status and text in message(frame)
        return "" if fine else f"expected GOAWAY {status} with {text!r}, got {frame}"

    return check


def refused(status: int, text: str) -> Answer:
    """Expect a HELLO that says no."""

    def check(frame: Frame) -> str:
        fine = frame.kind == Kind.HELLO and frame.reply and frame.status == status
        fine = fine and text in message(frame)
        return "" if fine else f"expected HELLO {status} with {text!r}, got {frame}"

    return check


def reply(id: int, status: int = 0, text: str = "", value: Any = ...) -> Answer:
    """Expect the answer to a call."""

    def check(frame: Frame) -> str:
        fine = (frame.kind, frame.reply, frame.id, frame.status) == (Kind.CALL, True, id, status)
        if fine and status:
            fine = text in message(frame)
        elif fine and value is not ...:
            fine = _DECODE[frame.serializer](frame.payload) == value
        return "" if fine else f"expected reply {id} with {status} {text!r}, got {frame}"

    return check


def pong(id: int, body: bytes = b"") -> Answer:
    """Expect the answer to a ping."""

    def check(frame: Frame) -> str:
        fine = frame.heartbeat and frame.reply and frame.id == id and frame.payload == body
        return "" if fine else f"expected pong {id}, got {frame}"

    return check


async def check(target: str, case: Case, size: int = 0) -> None:
    """Play *case* against *target*, in pieces of *size* bytes (0: at once).

    Raises:
        AssertionError: The server did not do what it owes.
    """
    if case.greeted:
        peer = await RawPeer.greeted(target, **(case.options or {}))
    else:
        peer = await RawPeer.connect(target)
    async with peer:
        if size:
            await peer.drip(case.send, size)
        elif case.send:
            peer.send(case.send)
        if case.eof:
            peer.writer.write_eof()
        frames = await (peer.rest() if case.ends else peer.until_pong(987_654_321))
        wrong = [
            found for expect, frame in zip(case.answers, frames, strict=False)
            if (found := expect(frame))
        ]  # fmt: skip
        assert not wrong, wrong
        assert len(frames) == len(case.answers), f"{len(frames)} answers: {frames}"


# ------------------------------------------------------------------------------ the list


def _ends(name: str, send: bytes, status: int, text: str, **more: Any) -> Case:
    return Case(name, send, (goaway(status, text),), ends=True, **more)


def _golden() -> Iterable[Case]:
    """Yield every refused vector, as a first frame and after HELLO."""
    words = {
        "magic": "not a frame", "header size": "header size", "version": "version",
        "body size": "body of", "name and meta": "longer than the body",
        "segment table": "segment",
    }  # fmt: skip
    words_left_over = "left over"
    for vector in GOLDEN["bad"]:
        data = bytes.fromhex(vector["hex"])
        text = words[vector["at"]]
        if vector["name"] == "bad_seg_left_over":
            text = words_left_over
        if vector["name"] != "bad_http":  # the http cases have a test of their own
            yield _ends(f"{vector['name']} first", data, 70, text, greeted=False)
        yield _ends(vector["name"], data, 70, text)


def _before_hello() -> Iterable[Case]:
    first = "must be HELLO"
    plain: dict[str, bytes] = {
        "call": call(1),
        "ping": encode_frame(Kind.CALL, 1, heartbeat=True),
        "reply": encode_frame(Kind.CALL, 1, reply=True),
        "cancel": encode_frame(Kind.CANCEL, 1, status=42),
        "goaway": encode_frame(Kind.GOAWAY, 1, status=53),
        "unknown kind": encode_frame(12, 1),
    }
    for name, data in plain.items():
        yield _ends(f"{name} before hello", data, 70, first, greeted=False)
    # Those that begin as another tongue does are led elsewhere, see tests/server/test_doorway.py.
    strangers = {
        "redis": b"*1\r\n$4\r\nPING\r\n",
        "digits": b"200 hello\r\n",
        "zeros": bytes(200),
    }
    for name, data in strangers.items():
        yield _ends(f"stranger {name}", data, 70, "not a frame", greeted=False)
    yield Case("silence, then the end", b"", greeted=False, ends=True, eof=True)
    yield Case("half a header", hello_frame()[:11], greeted=False, ends=True, eof=True)
    yield Case("half a hello", hello_frame()[:50], greeted=False, ends=True, eof=True)


def _hellos() -> Iterable[Case]:
    def wrong(name: str, data: bytes, text: str, status: int = 70) -> Case:
        return _ends(f"hello {name}", data, status, text, greeted=False)

    yield wrong("as a reply", hello_frame(reply=True), "wrong way")
    yield wrong("with an id", hello_frame(id=1), "plain JSON")
    yield wrong("in msgpack", hello_frame(serializer=MSGPACK), "plain JSON")
    yield wrong("with a bit", hello_frame(bits=0x10), "plain JSON")
    yield wrong("of nothing", hello_frame(b""), "not JSON")
    yield wrong("of garbage", hello_frame(b"\xff\xfe{}"), "not JSON")
    yield wrong("as a list", hello_frame(b"[]"), "object")
    yield wrong("in UTF-16", hello_frame(hello().decode().encode("utf-16")), "not JSON")
    yield wrong("with NaN", hello_frame(hello()[:-1] + b',"x":NaN}'), "not JSON")
    yield wrong("with a key twice", hello_frame(hello()[:-1] + b',"agent":"b"}'), "twice")
    yield wrong(
        "too deep", hello_frame(hello()[:-1] + b',"x":' + b"[" * 70 + b"]" * 70 + b"}"), "deep"
    )
    yield wrong("without magic", hello_frame(hello(omit=["magic"])), "magic")
    yield wrong("with another magic", hello_frame(hello(magic=1)), "magic")
    yield wrong("without versions", hello_frame(hello(omit=["versions"])), "versions")
    yield wrong("with max_body 0", hello_frame(hello(max_body=0)), "max_body")
    yield wrong("with max_body true", hello_frame(hello(max_body=True)), "max_body")
    yield wrong("with a fraction", hello_frame(hello(ping_ms=1.5)), "ping_ms")
    yield wrong("with a number in words", hello_frame(hello(max_calls="many")), "max_calls")
    yield wrong("with a nonce of two lines", hello_frame(hello(nonce="a\nb")), "nonce")
    yield wrong("with a long agent", hello_frame(hello(agent="a" * 257)), "agent")
    yield wrong("one byte too long", hello_frame(_long_hello(16 * 1024 + 1)), "over 16384")
    yield wrong("of 1 MiB", hello_frame(bytes(2**20)), "over 16384")
    yield wrong("of 65 MiB", header(65 * 2**20, kind=1, id=0, flags=JSON), "body of")
    yield Case(
        "hello from the future", hello_frame(hello(versions=[2])),
        (refused(47, "wire version"),), greeted=False, ends=True,
    )  # fmt: skip
    yield Case(
        "hello with no codec of ours", hello_frame(hello(codecs={"mine": 20})),
        (refused(47, "codec"),), greeted=False, ends=True,
    )  # fmt: skip
    yield _ends("hello twice", hello_frame(), 70, "second HELLO")


def _long_hello(size: int) -> bytes:
    body = hello(padding="")
    return body.replace(b'"padding": ""', b'"padding": "%s"' % (b"x" * (size - len(body))))


def _ids() -> Iterable[Case]:
    rise = "must rise"
    good = reply(1, value=5)
    yield _ends("id 0", call(0), 70, rise)
    yield Case("id again", call(1) + call(1), (good, goaway(70, rise)), ends=True)
    yield Case("id falls", call(9) + call(8), (reply(9, value=5), goaway(70, rise)), ends=True)
    yield _ends("id over the largest", call(ID_MAX + 1), 70, "over")
    yield Case("the largest id", call(ID_MAX), (reply(ID_MAX, value=5),))
    yield Case("ids with gaps", call(1) + call(1000), (good, reply(1000, value=5)))
    yield Case(
        "id again in a refused call", call(1, b"No.such") + call(1),
        (reply(1, 44), goaway(70, rise)), ends=True,
    )  # fmt: skip
    yield Case("id again in OPEN", call(1) + encode_frame(Kind.OPEN, 1, name=b"Victim.add"),
               (good, goaway(70, rise)), ends=True)  # fmt: skip


def _methods() -> Iterable[Case]:
    add = b"Victim.add"
    names = {
        "unknown": b"Victim.sub", "class": b"__class__", "attribute": b"Victim.add.__func__",
        "private": b"Victim._hidden", "dunder": b"Victim.__init__", "prefix": b"Victim",
        "dots": b"...", "nul": b"Victim.add\0", "not text": b"\xff\xfe\xfd", "space": b" ",
        "capitals": b"VICTIM.ADD", "long": b"x" * 256, "endless": b"x" * 60_000,
    }  # fmt: skip
    for name, data in names.items():
        yield Case(f"method {name}", call(1, data), (reply(1, 44),))
    yield Case("method number unbound", call(1, b"", arg=3), (reply(1, 44, "method number 3"),))
    yield Case("method number 0", call(1, b""), (reply(1, 44),))
    yield Case("method number largest", call(1, b"", arg=2**32 - 1), (reply(1, 44),))
    yield Case("method bound", call(1, add, arg=1) + call(2, b"", arg=1),
               (reply(1, value=5), reply(2, value=5)))  # fmt: skip
    yield Case("method bound twice", call(1, add, arg=1) + call(2, add, arg=1),
               (reply(1, value=5), reply(2, value=5)))  # fmt: skip
    yield Case(
        "method rebound", call(1, add, arg=1) + call(2, b"Victim.echo", arg=1),
        (reply(1, value=5), goaway(70, "bound to")), ends=True,
    )  # fmt: skip
    yield Case("method number at the limit", call(1, add, arg=8) + call(2, b"", arg=8),
               (reply(1, value=5), reply(2, value=5)))  # fmt: skip
    yield Case("method number past the limit", call(1, add, arg=9) + call(2, b"", arg=9),
               (reply(1, value=5), reply(2, 44)))  # fmt: skip


def _payloads() -> Iterable[Case]:
    def wrong(name: str, payload: bytes, status: int, text: str = "", **more: Any) -> Case:
        frame = call(1, more.pop("method", b"Victim.add"), payload, **more)
        return Case(f"payload {name}", frame, (reply(1, status, text),))

    echo = b"Victim.echo"
    yield wrong("empty", b"", 40)
    yield wrong("cut off", pack([2, 3])[:-1], 40)
    yield wrong("with more behind it", pack([2, 3]) + b"\0", 40)
    yield wrong("that is a number", pack(5), 40, "array or a map")
    yield wrong("that is text", pack("a"), 40, "array or a map")
    yield wrong("never used byte", b"\xc1", 40)
    yield wrong("with too few", pack([2]), 40, "'b' is missing")
    yield wrong("with too many", pack([2, 3, 4]), 40, "at most 2")
    yield wrong("of another type", pack([2, "3"]), 40, "argument 'b'")
    yield wrong("with a strange name", pack({"a": 1, "c": 2}), 40, "'c'")
    yield wrong("with a name twice", pack({"*": [1], "a": 2, "b": 3}), 40, "twice")
    yield wrong("with a star that is none", pack({"*": 1}), 40, "'*'")
    yield wrong("with number keys", pack({1: 2}), 40)
    yield wrong("too deep", _nested(65), 46, "deeper", method=echo)
    yield wrong("much too deep", _nested(30_000), 46, "deeper", method=echo)
    yield wrong("of too many items", pack([list(range(1000))]), 46, "items", method=echo)
    yield wrong("of empties", pack([[[]] * 40] * 60), 46, "items", method=echo)
    yield wrong("that claims 2**32 items", b"\xdd\xff\xff\xff\xff", 40, method=echo)
    yield wrong("that claims 2**31 pairs", b"\x91\xdf\x80\0\0\0", 40, method=echo)
    yield wrong("of more that claims 2**32 items", b"\xdd\xff\xff\xff\xff" + bytes(1100), 46,
                "items", method=echo)  # fmt: skip
    yield wrong("with a list as a key", b"\x91" + b"\x81\x91\x01" * 30 + b"\xc0", 40, "key",
                method=echo)  # fmt: skip
    yield wrong("that claims 2**32 bytes", b"\x91\xc6\xff\xff\xff\xff", 40, method=echo)
    yield Case("payload deep enough", call(1, echo, _nested(64)), (reply(1),))
    yield Case("payload of enough items", call(1, echo, pack([list(range(999))])), (reply(1),))
    for name, text, status in (
        ("json cut off", b"[2,", 40), ("json number", b"5", 40), ("json NaN", b"[NaN,1]", 40),
        ("json too deep", b"[" * 30_000 + b"]" * 30_000, 46), ("json not utf-8", b'["\xff",1]', 40),
        ("json huge number", b"[" + b"9" * 5000 + b",1]", 46), ("json two values", b"[1,2][3]", 40),
    ):  # fmt: skip
        yield wrong(name, text, status, serializer=JSON)
    yield Case("payload json", call(1, payload=b"[2,3]", serializer=JSON), (reply(1, value=5),))
    yield wrong("raw where none fits", b"abc", 40, serializer=0)
    yield Case(
        "payload raw", call(1, b"Victim.octets", b"abc", serializer=0), (reply(1, value=b"3"),)
    )
    for number in (3, 4, 7, 15, 16, 31):
        yield wrong(f"in serializer {number}", pack([2, 3]), 47, "not agreed", serializer=number)


def _nested(depth: int) -> bytes:
    """Return an array of arrays, *depth* of them around nothing."""
    return b"\x91" * (depth - 1) + b"\x90"


def _bodies() -> Iterable[Case]:
    most = LIMITS["max_body"]
    octets = b"Victim.octets"
    room = most - len(octets) - 5
    at, past = b"\x91\xc5" + struct.pack(">H", room + 1), b"\x91\xc5" + struct.pack(">H", room + 2)
    yield Case(
        "body at the limit",
        call(1, octets, at + bytes(room + 1)),
        (reply(1, value=b"%d" % (room + 1)),),
    )
    yield Case("body past the limit", call(1, octets, past + bytes(room + 2)), (reply(1, 46),))
    yield Case("body past the limit, twice", (big := call(1, octets, bytes(most))) + call(2),
               (reply(1, 46, "max_body"), reply(2, value=5)))  # fmt: skip
    del big
    yield Case("body past the limit, oneway", call(1, octets, bytes(most), oneway=True))
    yield Case(
        "other frames too long are skipped", encode_frame(Kind.DATA, 1, payload=bytes(most + 1))
    )
    yield _ends("body too long to skip", header(SKIP_MAX + 1), 70, "body of")
    yield _ends("body of 2 GiB", header(2**31), 70, "body of")
    yield _ends("body of 4 GiB", header(2**32 - 1), 70, "body of")
    for bit, what in ((0x20, "compression"), (0x40, "segments")):
        data = b"\0\0\0\1\0\0\0\0" if bit == 0x40 else pack([2, 3])
        name = b"" if bit == 0x40 else b"Victim.add"
        frame = call(1, b"Victim.add", arg=1) + call(2, name, data, bits=bit, arg=1)
        yield Case(f"{what} not agreed", frame, (reply(1, value=5), reply(2, 47, what)))
    yield Case("compression in a oneway call", call(1, bits=0x20, oneway=True))


def _kinds() -> Iterable[Case]:
    yield _ends("bit MORE", call(1, bits=0x80), 70, "MORE")
    for kind in (Kind.OPEN, Kind.HALF, Kind.CANCEL, Kind.GOAWAY):
        yield _ends(f"{kind.name} as a reply", encode_frame(kind, 1, reply=True), 70, "reply")
    for number in range(8, 12):
        yield _ends(f"kind {number}", encode_frame(number, 1), 70, "not known")
    for number in (*range(12, 16), Kind.DATA, Kind.HALF, Kind.CREDIT):
        yield Case(f"kind {number} is skipped", encode_frame(number, 1, payload=b"x" * 9))
    yield Case("CREDIT of nothing", encode_frame(Kind.CREDIT, 1, arg=0))
    yield Case("CREDIT of too much", encode_frame(Kind.CREDIT, 1, arg=2**32 - 1))
    name = b"Victim.add"
    for bits, what in ((0, "OPEN"), (0x10, "OPEN and END")):
        frame = encode_frame(Kind.OPEN, 1, name=name, bits=bits, serializer=MSGPACK)
        yield Case(what, frame, (reply(1, 40, "is no stream"),))
    yield Case("OPEN of nothing", encode_frame(Kind.OPEN, 1, name=b"No.such"), (reply(1, 44),))
    yield Case("OPEN is never oneway", encode_frame(Kind.OPEN, 1, name=name, oneway=True),
               (reply(1, 40),))  # fmt: skip
    yield Case("CANCEL of nothing", encode_frame(Kind.CANCEL, 77, status=42))
    yield Case("CANCEL of the past, twice", call(1) + encode_frame(Kind.CANCEL, 1) * 2,
               (reply(1, value=5),))  # fmt: skip
    yield Case("GOAWAY of the peer", encode_frame(Kind.GOAWAY, 0, status=53) + call(1),
               (reply(1, value=5),))  # fmt: skip
    yield Case("GOAWAY 70 of the peer", encode_frame(Kind.GOAWAY, 0, status=70) + call(1),
               (reply(1, value=5),))  # fmt: skip
    yield Case("answer nobody asked for", encode_frame(Kind.CALL, 5, reply=True, payload=b"\1"))
    yield Case("answer twice", encode_frame(Kind.CALL, 1, reply=True, payload=b"\1") * 2)
    yield Case("answer with bits", encode_frame(Kind.CALL, 1, reply=True, bits=0x20, payload=b"\1"))
    yield Case("pong nobody waits for", encode_frame(Kind.CALL, 5, reply=True, heartbeat=True))


def _pings() -> Iterable[Case]:
    def ping(id: int, body: bytes = b"") -> bytes:
        return encode_frame(Kind.CALL, id, heartbeat=True, payload=body)

    yield Case("ping with a body", ping(3, b"x" * 64), (pong(3, b"x" * 64),))
    yield _ends("ping with a long body", ping(3, b"x" * 65), 70, "ping")
    yield _ends("ping with an endless body", ping(3, bytes(LIMITS["max_body"] + 1)), 70, "ping")
    yield Case("ping of id 0", ping(0), (pong(0),))
    yield Case("pings with the id of a call", call(1) + ping(1), (reply(1, value=5), pong(1)))
    yield Case("pings too fast", ping(1) + ping(2) + ping(3) + ping(4),
               (pong(1), pong(2), pong(3), goaway(71, "pings")), ends=True)  # fmt: skip


def _metadata() -> Iterable[Case]:
    def with_pairs(data: bytes) -> bytes:
        return call(1, metadata=data)

    most = [(b"k", bytes(250))] * 64
    yield Case("metadata", with_pairs(pairs((b"trace", b"\xff"))), (reply(1, value=5),))
    yield Case("metadata of 64 pairs", with_pairs(pairs(*most)), (reply(1, value=5),))
    yield Case(
        "metadata of 65 pairs", with_pairs(pairs(*most, (b"k", b""))), (reply(1, 46, "pairs"),)
    )
    for size, answer in ((16 * 1024, reply(1, value=5)), (16 * 1024 + 1, reply(1, 46, "metadata"))):
        yield Case(
            f"metadata of {size} bytes", with_pairs(pairs((b"k", bytes(size - 4)))), (answer,)
        )
    yield Case(
        "metadata cut off", with_pairs(pairs((b"k", b"abc"))[:-1]), (reply(1, 40, "cut off"),)
    )
    yield Case("metadata of one byte", with_pairs(b"\xff"), (reply(1, 40, "cut off"),))
    yield Case(
        "metadata with capitals", with_pairs(pairs((b"Key", b""))), (reply(1, 40, "lower-case"),)
    )
    yield Case(
        "metadata without a key", with_pairs(pairs((b"", b""))), (reply(1, 40, "lower-case"),)
    )


def _headers() -> Iterable[Case]:
    for size in (36, 40, 256):
        frame = bytearray(call(1, header_size=size))
        frame[32:size] = b"\xee" * (size - 32)
        yield Case(f"header of {size} bytes", bytes(frame), (reply(1, value=5),))
    yield _ends("header of 260 bytes", b"\xfa\x57\x01\x04" + call(1)[4:], 70, "header size")
    yield _ends("header of 0 bytes", b"\xfa\x57\0\0" + call(1)[4:], 70, "header size")
    yield Case("a status on a request", call(1, status=99), (reply(1, value=5),))
    yield Case("time of 49 days", call(1, time=2**32 - 1), (reply(1, value=5),))
    yield Case("oneway", call(1, oneway=True) + call(2), (reply(2, value=5),))
    yield Case("oneway to nobody", call(1, b"No.such", oneway=True))
    yield Case("oneway that does not fit", call(1, payload=b"\xc1", oneway=True))
    yield Case("a hundred in one read", b"".join(call(n) for n in range(1, 101)),
               tuple(reply(n, value=5) for n in range(1, 101)))  # fmt: skip
    yield Case("garbage behind a call", call(1) + b"garbage" * 9,
               (reply(1, value=5), goaway(70, "not a frame")), ends=True)  # fmt: skip
    yield Case("half a call, then the end", call(1) + call(2)[:-1], (reply(1, value=5),),
               ends=True, eof=True)  # fmt: skip


CASES: tuple[Case, ...] = (
    *_golden(), *_before_hello(), *_hellos(), *_ids(), *_methods(), *_payloads(), *_bodies(),
    *_kinds(), *_pings(), *_metadata(), *_headers(),
)  # fmt: skip
