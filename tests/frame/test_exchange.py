"""ByteStream and Exchange: calls of threads that share a socket, without a socket."""

import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from fastrpc import wire
from fastrpc.errors import CodecError
from tests.frame.rig import PURE, Owner

if TYPE_CHECKING:
    from collections.abc import Callable

pack = msgspec.msgpack.encode


class Interrupt(BaseException):
    """What a signal handler raises."""


class Line:
    """The two ends of a wire: what was sent, what is to come, and what goes wrong."""

    def __init__(self, twin: SimpleNamespace) -> None:
        self.twin = twin
        self.now = 100.0
        self.lock = threading.Lock()
        self.out = b""
        self.takes: list[int | BaseException] = []  # how much each send takes; else all
        self.comes: list[bytes | BaseException | Callable[[], bytes]] = []
        self.told: list[str] = []
        self.given_up = 0
        self.owner = Owner()
        share = twin.LoopShare(
            twin.Waiter, lambda flush: None, lambda: self.now, lambda: True, 0, None
        )
        self.lane = twin.Lane(self.owner, share, 1_000_000)
        self.owner.lane = self.lane
        self.lane.encoders[1] = pack
        self.lane.decoders[1] = msgspec.msgpack.decode
        self.stream = twin.ByteStream(
            self.lock, self.send, 64, self.recv_into, self.readable, lambda: self.now,
            self.lane.get_buffer, self.deliver, self.broken,
        )  # fmt: skip
        self.line = twin.Turns()
        self.exchange = twin.Exchange(
            self.stream, self.lane, self.line, lambda: self.now, self.give_up
        )
        self.lane.attach(self.stream.unsent.append, self.stream.unsent.extend)
        self.lane.opened = self.lane.ready = True
        self.exchange.refresh()

    def send(self, data: Any, flags: int) -> int:
        assert self.lock.locked()
        assert flags == 64
        takes = self.takes.pop(0) if self.takes else len(data)
        if isinstance(takes, BaseException):
            raise takes
        self.out += bytes(data[:takes])
        return takes

    def recv_into(self, buffer: Any) -> int:
        assert not self.lock.locked()
        comes = self.comes.pop(0)
        if isinstance(comes, BaseException):
            raise comes
        data = comes if isinstance(comes, bytes) else comes()
        memoryview(buffer)[: len(data)] = data
        return len(data)

    def readable(self, seconds: float) -> bool:
        self.now += 0.0 if self.comes else seconds
        return bool(self.comes)

    def deliver(self, count: int) -> None:
        assert self.lock.locked()
        self.lane.buffer_updated(count)

    def broken(self, why: str) -> None:
        assert self.lock.locked()
        self.told.append(why)
        self.stream.is_over = True

    def give_up(self) -> None:
        assert not self.lock.locked()
        self.given_up += 1
        self.lane.sweep(self.now)

    def call(self, *args: Any, timeout: float = 0.0) -> Any:
        return self.exchange.call("m", args, None, timeout, b"", None)

    def sent(self) -> list[Any]:
        decoder = PURE.FrameDecoder(10_000_000)
        return list(decoder.feed(self.out))


def reply(id: int, value: Any) -> bytes:
    return bytes(PURE.encode_frame(0, id, serializer=1, reply=True, payload=pack(value)))


@pytest.fixture
def line(twin: SimpleNamespace) -> Line:
    return Line(twin)


def is_at_rest(line: Line) -> bool:
    leader = line.stream.turns.leader
    return leader is None and not line.stream.turns.line and not line.lock.locked()


def test_a_plain_call(line: Line) -> None:
    line.comes = [reply(1, "one"), reply(2, None)]
    first = line.call(1, 2)
    second = line.exchange.call("m", (), {"a": 1}, 0.0, b"md", None)
    assert (first.is_plain, first.value, first.error, first.deadline) == (True, "one", None, 0.0)
    assert (second.is_plain, second.value) == (True, None)
    told = [
        (frame.id, frame.metadata, msgspec.msgpack.decode(frame.payload)) for frame in line.sent()
    ]
    assert told == [(1, b"", [1, 2]), (2, b"md", {"a": 1})]
    assert line.stream.sent == len(line.out)
    assert is_at_rest(line)
    assert len(line.lane.table) == 0


def test_a_reply_in_pieces(line: Line) -> None:
    data = reply(1, "x" * 300)
    line.comes = [data[:7], data[7:30], data[30:]]
    assert line.call().value == "x" * 300


def test_a_connection_is_to_be_looked_at_after_a_while(line: Line) -> None:
    line.now += 0.05
    assert line.call() is None
    line.exchange.refresh()
    line.comes = [reply(1, 1), reply(2, 2)]
    assert line.call().value == 1
    line.now += 0.04
    assert line.call().value == 2
    line.exchange.fresh_until = 0.0
    assert line.call() is None
    assert is_at_rest(line)


def test_a_call_that_may_not_be_sent_now(line: Line) -> None:
    line.lane.ready = False
    assert line.call() is None
    line.lane.ready = True
    line.lane.peer_calls = 0
    assert line.call() is None
    line.lane.peer_calls = 1
    other = line.twin.Waiter()
    line.line.follow(other)
    assert line.call() is None
    line.line.leave(other)
    assert line.out == b""
    line.comes = [reply(1, 1)]
    assert line.call().value == 1


def test_another_thread_reads(line: Line) -> None:
    reader = line.twin.Waiter()
    assert line.stream.turns.lead(reader)
    waiter = line.call()
    assert not waiter.is_done
    assert not waiter.has_left
    assert [frame.id for frame in line.sent()] == [1]
    line.comes = [reply(1, "for the other")]
    assert line.stream.read(0.0)
    assert (waiter.result(), waiter.is_plain) == ("for the other", False)


def test_whoever_waits_meanwhile_reads_next(line: Line) -> None:
    next_one = line.twin.Waiter()

    def meanwhile() -> bytes:
        with line.lock:
            assert not line.stream.turns.lead(next_one)
            line.stream.turns.follow(next_one)
        return reply(1, 1)

    line.comes = [meanwhile]
    assert line.call().is_plain
    assert next_one.sleep(0.0)
    assert line.stream.turns.leader is None


def test_a_call_that_others_waited_behind_is_not_plain(line: Line) -> None:
    def meanwhile() -> bytes:
        line.line.follow(line.twin.Waiter())
        return reply(1, 1)

    line.comes = [meanwhile]
    waiter = line.call()
    assert (waiter.is_done, waiter.is_plain, waiter.value) == (True, False, 1)


def test_a_socket_that_takes_a_part(line: Line) -> None:
    line.takes = [10, 5, BlockingIOError(11, "")]
    waiter = line.call()
    assert not waiter.is_done
    assert line.stream.sent == 15
    assert sum(map(len, line.stream.unsent)) > 0
    assert line.stream.turns.leader is None, "who still has to send is not to read only"
    with line.lock:
        line.stream.write()
    assert [frame.id for frame in line.sent()] == [1]
    assert line.stream.unsent == []


def test_what_was_left_goes_out_first(line: Line) -> None:
    line.takes = [0]
    assert not line.call("a").is_done
    line.comes = [reply(2, "b")]
    assert line.call("b").value == "b"
    assert [frame.id for frame in line.sent()] == [1, 2]


def test_a_deadline(line: Line) -> None:
    waiter = line.call(timeout=2.0)
    assert not waiter.is_done
    assert waiter.deadline == 102.0
    assert line.now == 102.0
    assert is_at_rest(line)
    line.now = 100.0
    line.comes = [reply(2, 1)]
    assert line.call(timeout=2.0).value == 1


def test_arguments_that_can_not_be_encoded_send_nothing(line: Line) -> None:
    with pytest.raises(CodecError):
        line.call(object())
    assert is_at_rest(line)
    assert (line.out, line.told, line.given_up) == (b"", [], 0)


@pytest.mark.parametrize(
    ("comes", "why"),
    [(b"", "the connection was closed by the peer"), (OSError(5, "no more"), "[Errno 5] no more")],
)
def test_the_end_while_waiting(line: Line, comes: Any, why: str) -> None:
    line.comes = [comes]
    waiter = line.call()
    assert not waiter.is_done
    assert line.told == [why]
    assert is_at_rest(line)


def test_the_end_while_sending(line: Line) -> None:
    line.takes = [OSError(32, "broken pipe")]
    assert not line.call().is_done
    assert line.told == ["[Errno 32] broken pipe"]
    assert is_at_rest(line)
    assert not line.call().is_done  # nothing is sent any more, and nobody reads
    assert line.out == b""


def test_what_the_owner_queues_while_taking_is_sent(line: Line) -> None:
    line.owner.does["frames"] = lambda owner, frames: line.stream.unsent.append(b"pong")
    ping = bytes(PURE.encode_frame(0, 1, heartbeat=True))
    line.comes = [ping, reply(1, 1)]
    assert line.call().value == 1
    assert line.out.endswith(b"pong")


# Exceptions out of signal handlers


def test_an_interrupted_wait_is_given_up(line: Line) -> None:
    line.comes = [Interrupt()]
    with pytest.raises(Interrupt):
        line.call()
    assert (line.told, line.given_up) == ([], 1)
    assert is_at_rest(line)
    assert len(line.lane.table) == 0
    assert line.sent()[-1].kind == 0
    line.comes = [reply(2, "still usable")]
    line.exchange.refresh()
    assert line.call().value == "still usable"
    assert [frame.kind for frame in line.sent()] == [0, 6, 0]


@pytest.mark.parametrize("raised", [TimeoutError("mine"), BlockingIOError("mine"), ValueError()])
def test_what_a_signal_handler_raises_is_not_taken_for_the_sockets(
    line: Line, raised: Exception
) -> None:
    line.comes = [raised]
    with pytest.raises(type(raised)):
        line.call()
    assert (line.told, line.given_up) == ([], 1)
    line.takes = [raised]
    line.exchange.refresh()
    with pytest.raises(type(raised)):
        line.call()
    assert line.told == ["interrupted while sending"]
    assert is_at_rest(line)


def test_an_interrupted_send_ends_it(line: Line) -> None:
    line.takes = [Interrupt()]
    with pytest.raises(Interrupt):
        line.call()
    assert line.told == ["interrupted while sending"]
    assert is_at_rest(line)


def test_an_interrupted_taking_ends_it(line: Line) -> None:
    def interrupt(count: int) -> None:
        raise Interrupt

    stream = line.twin.ByteStream(
        line.lock, line.send, 64, line.recv_into, line.readable, lambda: line.now,
        line.lane.get_buffer, interrupt, line.broken,
    )  # fmt: skip
    line.comes = [b"x"]
    with pytest.raises(Interrupt):
        stream.read(0.0)
    assert line.told == ["interrupted while reading"]
    assert not stream.read(0.0)
    assert line.told[1:] == ["interrupted while reading"]


def test_an_interrupted_encoder_ends_it(line: Line) -> None:
    def encode(value: Any) -> bytes:
        raise Interrupt

    line.lane.encoders[1] = encode
    with pytest.raises(Interrupt):
        line.call()
    assert line.told == ["interrupted while sending"]
    assert is_at_rest(line)


def test_a_call_put_into_the_lane_by_hand(line: Line) -> None:
    with line.lock:
        waiter = line.exchange.enter("m", (1,), None, 2.0, b"", None)
        line.stream.write()
    (frame,) = line.sent()
    assert (frame.time, waiter.is_done) == (2001, False)


def test_a_name_that_is_none(line: Line) -> None:
    with pytest.raises(TypeError, match="^Expected str, got int$"):
        line.exchange.call(1, (), None, 0.0, b"", None)
    assert is_at_rest(line)
    assert line.told == []


def test_the_limits_are_those_of_the_lane(line: Line) -> None:
    assert line.lane.peer_calls == wire.BASELINE_CALLS
