"""Streams of the blocking client, against a real server."""

import gc
import random
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import FrameType
from typing import Any

import pytest

import fastrpc
from fastrpc.client.blocking import BlockingClient
from fastrpc.frame import encode_frame
from fastrpc.session.stream import StreamState
from fastrpc.wire import Kind, StatusCode
from tests.client.flowing import Flow, FlowElsewhere, FlowServer
from tests.client.scripted import Peer, scripted
from tests.client.served import Point, address, sockets, until


@pytest.fixture(params=["tcp", "unix"])
def server(request: pytest.FixtureRequest) -> Iterator[FlowServer]:
    with address(request.param) as target, FlowServer(target) as server:
        yield server


@pytest.fixture
def client(server: FlowServer) -> Iterator[BlockingClient]:
    with fastrpc.connect_sync(server.target) as client:
        yield client


@pytest.fixture
def flow(client: BlockingClient) -> Any:
    return client.stub(Flow)  # its methods are typed for asyncio


def check_nothing_is_left(client: BlockingClient, server: FlowServer) -> None:
    """Demand that neither side knows of a stream any more."""
    assert client.call("Work.add", 1, 2) == 3
    until(lambda: server.running() == 0)
    session: Any = client._session
    assert session.streams == {}
    assert len(session.lane.table) == 0
    assert not session._orphans


# Items that come


def test_items_that_come(client: BlockingClient, server: FlowServer, flow: Any) -> None:
    assert list(client.stream("Flow.count", 10)) == list(range(10))
    assert list(client.stream("Flow.count", n=3)) == [0, 1, 2]
    assert list(client.stream("Flow.count", 0)) == []
    assert list(flow.count(5)) == list(range(5))
    assert list(flow.points(2)) == [Point(0, 0), Point(1, -1)]
    assert list(flow.mixed()) == [1, "two", 3]
    assert sum(flow.count(50_000)) == sum(range(50_000))
    assert [len(item) for item in flow.blobs(5, 300_000)] == [300_000] * 5
    check_nothing_is_left(client, server)


def test_a_stream_tells_where_it_stands(client: BlockingClient, server: FlowServer) -> None:
    with client.stream("Flow.paused", 1) as stream:
        assert stream.state is StreamState.NEW
        assert repr(stream) == "<BlockingStream Flow.paused new>"
        assert next(stream) == 0
        assert stream.state is StreamState.OPEN
        assert dict(stream.metadata) == {}
    assert stream.state is StreamState.ENDED


def test_what_comes_beside_the_end(client: BlockingClient) -> None:
    with client.options(metadata={"say": "hello"}).stream("Flow.told", 3) as stream:
        assert list(stream) == [0, 1, 2]
        assert dict(stream.metadata) == {"sum": b"3", "heard": b"hello"}
        assert stream.result() is None
        with pytest.raises(StopIteration):
            next(stream)


def test_errors_in_mid_stream(client: BlockingClient, server: FlowServer, flow: Any) -> None:
    got: list[int] = []
    with pytest.raises(fastrpc.RemoteError, match="no more of that") as failed:
        got.extend(flow.fail(3))
    stream = flow.fail(2)
    with pytest.raises(fastrpc.RemoteError):
        while True:
            got.append(next(stream))
    assert got == [0, 1, 2, 0, 1]
    assert failed.value.method == "Flow.fail"
    assert list(stream) == []
    with pytest.raises(fastrpc.RemoteError):
        stream.result()
    with pytest.raises(fastrpc.RpcError) as refused:
        list(flow.refuse())
    assert (refused.value.code, refused.value.data) == (402, {"balance": 3})
    with pytest.raises(fastrpc.MethodNotFound):
        list(client.stream("Flow.nothing"))
    with pytest.raises(fastrpc.InvalidArgument):
        list(client.stream("Flow.count", "ten"))
    with pytest.raises(fastrpc.CodecError):
        list(client.stream("Flow.count", object()))
    check_nothing_is_left(client, server)


def test_an_item_that_can_not_be_read_is_one_item_less(server: FlowServer) -> None:
    with fastrpc.connect_sync(server.target) as client:
        stream: Any = client.stub(IntsOfFlow, "Flow").mixed()
        assert next(stream) == 1
        with pytest.raises(fastrpc.CodecError, match="item 2"):
            next(stream)
        assert next(stream) == 3
        check_nothing_is_left(client, server)


class IntsOfFlow:
    async def mixed(self) -> AsyncIterator[int]:
        yield 1


@pytest.mark.parametrize("codec", ["json", "msgpack"])
def test_codecs(server: FlowServer, codec: str) -> None:
    with fastrpc.connect_sync(server.target, codec=codec) as client:
        flow: Any = client.stub(Flow)
        assert list(flow.points(1)) == [Point(0, 0)]
        assert flow.total([1, 2]) == 3


# Leaving early


def leave_by_break(client: BlockingClient) -> None:
    for item in client.stream("Flow.count", 10**9):
        if item == 100:
            break


def leave_by_exception(client: BlockingClient) -> None:
    def raising() -> None:
        for item in client.stream("Flow.count", 10**9):
            if item == 100:
                raise KeyError(item)

    with pytest.raises(KeyError):
        raising()


def leave_by_with(client: BlockingClient) -> None:
    with client.stream("Flow.count", 10**9) as stream:
        assert next(stream) == 0
    assert stream.state is StreamState.ENDED
    assert list(stream) == []


def leave_by_cancel(client: BlockingClient) -> None:
    stream = client.stream("Flow.count", 10**9)
    stream.cancel()  # nothing is open yet
    assert next(stream) == 0
    stream.cancel()
    stream.cancel()
    with pytest.raises(fastrpc.Cancelled, match="given up here"):
        stream.result()


def leave_by_collector(client: BlockingClient) -> None:
    ring: list[Any] = [client.stream("Flow.count", 10**9)]
    ring.append(ring)
    assert next(ring[0]) == 0
    del ring
    gc.collect()


def leave_by_collector_under_the_lock(client: BlockingClient) -> None:
    stream = client.stream("Flow.count", 10**9)
    assert next(stream) == 0
    session: Any = client._session
    with session.lock:
        del stream  # as the collector may do it at any time
    assert len(session.streams) == 1


@pytest.mark.parametrize(
    "leave",
    [
        leave_by_break,
        leave_by_exception,
        leave_by_with,
        leave_by_cancel,
        leave_by_collector,
        leave_by_collector_under_the_lock,
    ],
)
def test_leaving_early_stops_the_handler(
    client: BlockingClient, server: FlowServer, leave: Callable[[BlockingClient], None]
) -> None:
    leave(client)
    check_nothing_is_left(client, server)
    assert server.flow.ended == ["count"]
    assert server.flow.sent < 200_000  # no more than the window lets out


def test_who_does_not_take_items_holds_the_server_up(
    client: BlockingClient, server: FlowServer
) -> None:
    stream = client.stream("Flow.blobs", 30, 100_000)
    assert len(next(stream)) == 100_000
    assert client.call("Work.add", 1, 2) == 3
    session: Any = client._session
    (core,) = session.streams.values()
    assert len(core._inlet) < 5
    with pytest.raises(fastrpc.ConfigError, match="comes after the items"):
        stream.result()
    assert len(list(stream)) == 29


# Time


def test_the_deadline_is_that_of_the_whole_stream(
    client: BlockingClient, server: FlowServer
) -> None:
    hurried = client.options(timeout=0.1)
    stream = hurried.stream("Flow.paused", 2)
    started = time.monotonic()
    assert [next(stream), next(stream)] == [0, 1]
    with pytest.raises(fastrpc.DeadlineExceeded, match=r"Flow.paused: deadline of 100 ms") as late:
        next(stream)
    assert time.monotonic() - started >= 0.1
    assert late.value.address == server.target
    with pytest.raises(fastrpc.DeadlineExceeded):
        for _ in hurried.stream("Flow.count", 10**9):
            pass
    with pytest.raises(fastrpc.DeadlineExceeded):
        hurried.stub(Flow).swallow(range(10**9))  # type: ignore[arg-type]
    check_nothing_is_left(client, server)
    until(lambda: sorted(server.flow.ended) == ["count", "paused", "swallow"])


def test_a_late_look_at_items_that_are_there(client: BlockingClient, server: FlowServer) -> None:
    """Items that came in time are given out, and then the end."""
    stream = client.options(timeout=0.05).stream("Flow.paused", 3)
    assert next(stream) == 0
    until(lambda: server.flow.ended == ["paused"])
    assert [next(stream), next(stream)] == [1, 2]
    with pytest.raises(fastrpc.DeadlineExceeded):
        next(stream)


class Relay:
    """Calls another server from its threads."""

    def __init__(self, target: str) -> None:
        self._client = fastrpc.connect_sync(target, timeout=30.0)

    @fastrpc.rpc(blocking=True)
    def ask(self, way: str) -> str:
        started = time.monotonic()
        flow: Any = self._client.stub(Flow)
        with self._client:
            ways: dict[str, Callable[[], object]] = {
                "call": lambda: self._client.call("Work.nap", 20.0),
                "stub": lambda: flow.swallow([]),
                "exchange": lambda: self._client.exchange("Work.nap", 20.0),
                "stream": lambda: list(flow.paused(3)),
                "gather": lambda: _raise(self._client.gather([("Work.nap", 20.0)])[0]),
            }
            try:
                ways[way]()
            except fastrpc.DeadlineExceeded:
                self.told = time.monotonic() - started
            return way


def _raise(error: BaseException) -> None:
    raise error


@pytest.mark.parametrize("way", ["call", "stub", "exchange", "stream", "gather"])
def test_a_handler_in_a_thread_passes_its_deadline_on(way: str) -> None:
    with FlowServer() as far, FlowServer() as near:
        relay = Relay(far.target)
        near.do(lambda: near.server.register(relay))
        with fastrpc.connect_sync(near.target, timeout=0.15) as client:
            with pytest.raises(fastrpc.DeadlineExceeded):
                client.call("Relay.ask", way)
            until(lambda: near.running() == 0)
            until(lambda: hasattr(relay, "told"))
            assert relay.told < 10  # and not the 30 s of its own client


# Items that go


def test_items_that_go(client: BlockingClient, server: FlowServer, flow: Any) -> None:
    assert flow.total([1, 2, 3]) == 6
    assert flow.total(n for n in range(1000)) == sum(range(1000))
    assert flow.total(items=iter(())) == 0
    assert flow.total(range(50_000)) == sum(range(50_000))
    assert flow.size([b"\0" * 100_000] * 30) == 3_000_000
    assert flow.size([b"ab"], 3) == 6
    assert flow.size([b"ab"], factor=3) == 6
    with client.stream("Flow.total") as stream:
        stream.send(1)
        until(lambda: server.flow.taken > 51_000)  # it does not wait for others
        stream.feed([2, 3])
        stream.end()
        assert stream.result() == 6
        with pytest.raises(fastrpc.StreamEnded):
            stream.send(4)
    with client.stream("Flow.total") as stream:
        stream.end()
        assert stream.result() == 0
    check_nothing_is_left(client, server)


def test_a_server_that_takes_its_time_holds_the_sender_up() -> None:
    given: list[int] = []

    def source() -> Iterator[int]:
        for number in range(1000):
            given.append(number)
            yield 1

    with FlowServer(window=2100) as server, fastrpc.connect_sync(server.target) as client:
        flow: Any = client.stub(Flow)
        with ThreadPoolExecutor(1) as pool:
            sending = pool.submit(flow.swallow, source())
            try:
                until(lambda: len(given) > 100)
                assert client.call("Work.add", 1, 2) == 3
                assert not sending.done()
                assert len(given) == 101  # the window, 21 bytes each, and one that waits
            finally:
                server.do(server.flow.gate.set)
            assert sending.result(20) == 1000


def test_a_server_that_ends_early_ends_the_source(
    client: BlockingClient, server: FlowServer, flow: Any
) -> None:
    closed: list[str] = []

    def source() -> Iterator[int]:
        number = 0
        try:
            while True:
                yield number
                number += 1
        finally:
            closed.append("source")

    assert flow.first(source()) == 0
    with pytest.raises(fastrpc.RpcError, match="that is the second"):
        flow.refuse_second(source())
    with client.stream("Flow.refuse_second") as stream:
        with pytest.raises(fastrpc.RpcError, match="that is the second"):
            while True:
                stream.send(1)
    assert closed == ["source", "source"]
    check_nothing_is_left(client, server)


def test_a_source_that_fails_cancels_the_call(
    client: BlockingClient, server: FlowServer, flow: Any
) -> None:
    def source() -> Iterator[Any]:
        yield 1
        raise KeyError("broken")

    with pytest.raises(KeyError):
        flow.swallow(source())
    with pytest.raises(fastrpc.CodecError, match="an item can't be encoded: values of type object"):
        flow.swallow([object()])
    with pytest.raises(fastrpc.InvalidArgument, match="'items': int is no iterable"):
        flow.swallow(3)
    with pytest.raises(fastrpc.TooLarge, match="an item of"):
        flow.size([b"\0" * 20_000_000])
    check_nothing_is_left(client, server)


@pytest.mark.parametrize(
    "act",
    [
        lambda client, flow: flow.running([1]),
        lambda client, flow: _result(client.stream("Flow.running")),
        lambda client, flow: _send_then_take(client.stream("Flow.running")),
        lambda client, flow: _take_then_send(client.stream("Flow.paused", 2)),
    ],
)
def test_both_ways_at_once_are_for_asyncio(
    client: BlockingClient, server: FlowServer, flow: Any, act: Callable[[Any, Any], object]
) -> None:
    with pytest.raises(fastrpc.Unsupported, match="asyncio client, fastrpc.connect, can"):
        act(client, flow)
    check_nothing_is_left(client, server)


def _result(stream: Any) -> None:
    with stream:
        stream.feed([1])
        stream.result()


def _send_then_take(stream: Any) -> None:
    with stream:
        stream.send(1)
        next(stream)


def _take_then_send(stream: Any) -> None:
    with stream:
        next(stream)
        stream.send(1)


# Threads


@pytest.mark.slow
def test_threads_with_streams_and_calls_on_one_connection(
    client: BlockingClient, server: FlowServer, flow: Any
) -> None:
    wrong: list[Any] = []

    def work(number: int) -> None:
        for turn in range(30):
            size = 50 * (number + turn)
            kind = (number + turn) % 6
            if kind == 0:
                good = sum(flow.count(size)) == sum(range(size))
            elif kind == 1:
                good = flow.total(range(size)) == sum(range(size))
            elif kind == 2:
                good = client.call("Work.echo", size) == size
            elif kind == 3:
                leave_by_break(client)
                good = True
            elif kind == 4:
                blobs = [len(item) for item in flow.blobs(3, 200_000 + size)]
                good = blobs == [200_000 + size] * 3
            else:
                good = client.gather([("Work.echo", n) for n in range(20)]) == list(range(20))
            if not good:
                wrong.append((number, turn))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(25)
        assert not thread.is_alive()
    assert wrong == []
    check_nothing_is_left(client, server)


def test_one_thread_at_a_time_uses_a_stream(client: BlockingClient, server: FlowServer) -> None:
    stream = client.stream("Flow.paused", 1)
    assert next(stream) == 0
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(next, stream)
        session: Any = client._session
        (core,) = session.streams.values()
        until(lambda: core._waiter is not None and not core._waiter.is_done)
        with pytest.raises(fastrpc.ConfigError, match="one thread at a time"):
            next(stream)
        server.do(server.flow.gate.set)
        assert waiting.result(5) == -1
    assert list(stream) == []


def test_streams_wait_for_room_and_make_it() -> None:
    with FlowServer(max_calls=2) as server, fastrpc.connect_sync(server.target) as client:
        held = [client.stream("Flow.paused", 1) for _ in range(2)]
        assert [next(stream) for stream in held] == [0, 0]
        with pytest.raises(fastrpc.DeadlineExceeded) as late:
            next(client.options(timeout=0.05).stream("Flow.count", 1))
        assert late.value.ran == "no"
        assert late.value.stages.queued > 0.04
        with ThreadPoolExecutor(1) as pool:
            queued = pool.submit(lambda: list(client.stream("Flow.count", 3)))
            until(queued.running)
            server.do(server.flow.gate.set)
            assert list(held[0]) == [-1]
            assert queued.result(5) == [0, 1, 2]
        held.clear()
        check_nothing_is_left(client, server)


# Signals


class Interrupt(BaseException):
    """What KeyboardInterrupt is to a program."""


@pytest.mark.parametrize("kind", [Interrupt, TimeoutError])
def test_what_a_signal_handler_raises_gives_the_stream_up(
    client: BlockingClient, server: FlowServer, flow: Any, kind: type[BaseException]
) -> None:
    def handler(number: int, frame: FrameType | None) -> None:
        raise kind

    def strike(place: int) -> None:
        """Interrupt the main thread once it waits for something of its stream."""
        until(lambda: len(server.do(server.flow.begun.copy)) > place and _waits(session))
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGALRM)

    session: Any = client._session
    uses: list[Callable[[], object]] = [
        lambda: list(flow.paused(3)),
        lambda: flow.swallow([]),
        lambda: flow.swallow(range(10**9)),
    ]
    old = signal.signal(signal.SIGALRM, handler)
    try:
        with ThreadPoolExecutor(1) as pool:
            for place, use in enumerate(uses):
                striking = pool.submit(strike, place)
                with pytest.raises(kind):
                    use()
                striking.result(5)
    finally:
        signal.signal(signal.SIGALRM, old)
    check_nothing_is_left(client, server)
    assert sorted(server.flow.ended) == ["paused", "swallow", "swallow"]
    assert client._session is session


class Restless:
    """Uses streams over and over, and notes what is wrong."""

    def __init__(self, client: BlockingClient) -> None:
        self._flow: Any = client.stub(Flow)
        self.wrong: list[int] = []
        self.lost: list[str] = []
        self.stop = threading.Event()

    def use(self, size: int) -> None:
        try:
            if size % 3 == 0:
                good = list(self._flow.count(size)) == list(range(size))
            elif size % 3 == 1:
                good = self._flow.total(iter(range(size))) == sum(range(size))
            else:
                good = next(self._flow.count(10**9)) == 0
            if not good:
                self.wrong.append(size)
        except fastrpc.TransportError as exc:
            self.lost.append(str(exc))

    def use_all(self, seed: int) -> None:
        rng = random.Random(seed)
        while not self.stop.is_set():
            self.use(rng.randrange(200))

    def interrupt(self, seed: int) -> int:
        """Interrupt this thread at any moments while it does the same; return how often."""
        rng = random.Random(seed)
        armed, count, end = False, 0, time.monotonic() + 15.0

        def handler(number: int, frame: FrameType | None) -> None:
            if armed:
                raise Interrupt

        old = signal.signal(signal.SIGALRM, handler)
        try:
            while count < 200 and time.monotonic() < end:
                until_then = time.monotonic() + 0.05
                try:
                    armed = True
                    signal.setitimer(signal.ITIMER_REAL, rng.uniform(0.00005, 0.003))
                    while time.monotonic() < until_then:
                        self.use(rng.randrange(200))
                except Interrupt:
                    count += 1
                finally:
                    armed = False
                    signal.setitimer(signal.ITIMER_REAL, 0)
        finally:
            signal.signal(signal.SIGALRM, old)
        return count


@pytest.mark.slow
def test_interrupts_at_any_moment_break_no_other_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    """The main thread is interrupted again and again while three others have streams, too.

    Whatever ends well is right, nobody hangs, and streams of the others fail only if an
    interrupt came between the kernel and the books, which ends the connection.
    """
    # Some come between a socket's birth and whoever would close it, or in a finalizer.
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: None)
    with FlowElsewhere() as server, fastrpc.connect_sync(server.target, timeout=20.0) as client:
        restless = Restless(client)
        threads = [threading.Thread(target=restless.use_all, args=(seed,)) for seed in range(3)]
        for thread in threads:
            thread.start()
        try:
            interrupts = restless.interrupt(11)
        finally:
            restless.stop.set()
            for thread in threads:
                thread.join(10)
                assert not thread.is_alive(), "a thread hangs"
        assert restless.wrong == []
        assert interrupts > 30  # or it was too slow a machine to say anything
        assert all("interrupted" in text or "closed" in text for text in restless.lost)
        assert client.call("Work.add", 1, 2) == 3
    gc.collect()


# The connection ends


def test_a_connection_that_breaks_gives_out_what_came(
    client: BlockingClient, server: FlowServer
) -> None:
    stream = client.stream("Flow.paused", 3)
    assert next(stream) == 0
    until(lambda: client.call("Work.add", 1, 2) == 3 and len(_core(client)._inlet) == 2)
    client.close()
    assert [next(stream), next(stream)] == [1, 2]
    with pytest.raises(fastrpc.ConnectionLost, match="Flow.paused: .*closed here"):
        next(stream)
    with pytest.raises(fastrpc.ConnectionLost, match="client of .* is closed"):
        next(client.stream("Flow.paused", 3))
    until(lambda: server.flow.ended == ["paused"])


def _waits(session: Any) -> bool:
    """Tell whether somebody reads for the one stream that there is."""
    (core,) = session.streams.values() or (None,)
    waiter = core and core._waiter
    return waiter is not None and not waiter.is_done and session.pipe._turns.leader is waiter


def _core(client: BlockingClient) -> Any:
    session: Any = client._session
    (core,) = session.streams.values()
    return core


def test_a_server_that_vanishes() -> None:
    def play(peer: Peer) -> None:
        peer.hello()
        opened = peer.read()
        assert opened.kind == Kind.OPEN
        peer.frame(Kind.DATA, opened.id, reply=True, serializer=1, payload=b"\x07")
        if peer.number == 0:
            return
        peer.frame(Kind.DATA, opened.id, reply=True, serializer=1, payload=b"\xc1")
        peer.frame(Kind.CREDIT, opened.id, reply=True, arg=0)
        peer.until_end()

    before = sockets()
    with scripted(play) as server, fastrpc.connect_sync(server.target) as client:
        stream = client.stream("x")
        assert next(stream) == 7
        with pytest.raises(fastrpc.ConnectionLost, match="closed by the peer"):
            next(stream)
        with client.stream("x") as stream:
            assert next(stream) == 7
            with pytest.raises(fastrpc.CodecError, match="x: item 2 can't be decoded"):
                next(stream)
            with pytest.raises(fastrpc.ConnectionLost, match="a credit of 0"):
                next(stream)
    assert sockets() <= before


def test_a_server_that_drains() -> None:
    """A stream that was taken goes on; one that was not goes to the next connection."""

    def play(peer: Peer) -> None:
        peer.hello()
        opened = peer.read()
        peer.frame(Kind.DATA, opened.id, reply=True, serializer=1, payload=b"\x01")
        if peer.number == 0:
            peer.goaway(opened.id)
            asked = None
            while asked is None or asked.kind != Kind.CREDIT:
                peer.frame(Kind.DATA, opened.id, reply=True, serializer=1, payload=b"\xa0" * 60000)
                asked = peer.read()
        peer.frame(Kind.CALL, opened.id, reply=True)
        peer.until_end()

    before = sockets()
    with scripted(play) as server, fastrpc.connect_sync(server.target, window=1000) as client:
        old = client.stream("x")
        assert next(old) == 1
        session: Any = client._session
        until(lambda: session.look() or not session.is_usable)
        assert list(client.stream("x")) == [1]
        assert server.connections == 2
        with pytest.raises(fastrpc.CodecError):
            next(old)
        assert list(old) == []
        assert session.is_over
    until(lambda: sockets() <= before)


def test_the_end_may_say_what_it_likes() -> None:
    def play(peer: Peer) -> None:
        peer.hello()
        for fields in (
            {"status": StatusCode.OVERLOADED},
            {"payload": b"\x05", "serializer": 1, "metadata": b"\x01a\x00\x01b"},
            {"payload": b"\xc1", "serializer": 1},
        ):
            opened = peer.read()
            peer.frame(Kind.DATA, 77, reply=True, serializer=1, payload=b"\x01")
            peer.frame(Kind.CREDIT, 77, reply=True, arg=1)
            peer.frame(Kind.CALL, opened.id, reply=True, **fields)
        peer.until_end()

    with scripted(play) as server, fastrpc.connect_sync(server.target) as client:
        with pytest.raises(fastrpc.Overloaded):
            next(client.stream("x"))
        stream = client.stream("x")
        assert list(stream) == []
        assert (stream.result(), dict(stream.metadata)) == (5, {"a": b"b"})
        with pytest.raises(fastrpc.CodecError):
            client.stream("x").result()


def test_a_server_that_sends_without_credit_is_left() -> None:
    def play(peer: Peer) -> None:
        peer.hello()
        opened = peer.read()
        peer.write(3 * encode_frame(Kind.DATA, opened.id, reply=True, payload=b"\x01" * 990))
        peer.until_end()

    with scripted(play) as server, fastrpc.connect_sync(server.target, window=1000) as client:
        with pytest.raises(fastrpc.ConnectionLost, match="an item came without credit"):
            list(client.stream("x"))
