import gc
import random
import re
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import pytest

import fastrpc
from fastrpc.frame import Waiter
from fastrpc.session.pipe import SharedPipe
from tests.client.served import Background, Elsewhere, sockets


class Ends:
    """A pipe over one end of a socket pair; what it delivers wakes waiters in turn."""

    def __init__(self, stall: float = 5.0, wrap: Callable[[Any], Any] = lambda sock: sock) -> None:
        ours, self.peer = socket.socketpair()
        self.lock = threading.Lock()
        self.buffer = bytearray(65536)
        self.received = bytearray()
        self.lost: list[str] = []
        self.waiters: list[Waiter] = []
        self.on_deliver: Callable[[], None] | None = None
        self.pipe = SharedPipe(
            wrap(ours), self.lock, lambda hint: self.buffer, self._deliver, self._lost, stall
        )

    def _deliver(self, count: int) -> None:
        assert self.lock.locked()
        if self.on_deliver is not None:
            self.on_deliver()
        self.received += self.buffer[:count]
        for _ in range(count):
            if self.waiters:
                self.waiters.pop(0).set_result("byte")

    def _lost(self, why: str) -> None:
        assert self.lock.locked()
        self.lost.append(why)
        for waiter in self.waiters:
            waiter.set_exception(ConnectionError(why))

    def queue(self, *pieces: bytes) -> None:
        with self.lock:
            self.pipe.queue_all(list(pieces))

    def send(self, data: bytes, deadline: float = 0.0) -> None:
        self.queue(data)
        self.pipe.send(deadline)

    def waiter(self) -> Waiter:
        with self.lock:
            waiter = Waiter()
            self.waiters.append(waiter)
            return waiter

    def read(self, size: int) -> bytes:
        """Read as the peer."""
        data = b""
        while len(data) < size and (piece := self.peer.recv(size - len(data))):
            data += piece
        return data

    def close(self) -> None:
        with self.lock:
            self.pipe.end()
        self.peer.close()
        assert self.pipe._sock.fileno() == -1


@pytest.fixture
def ends() -> Iterator[Ends]:
    before = sockets()
    ends = Ends()
    yield ends
    ends.close()
    assert sockets() <= before


def in_thread(act: Callable[[], Any]) -> threading.Thread:
    thread = threading.Thread(target=act)
    thread.start()
    return thread


def test_bytes_both_ways(ends: Ends) -> None:
    ends.send(b"out", 0.0)
    assert ends.read(3) == b"out"
    waiter = ends.waiter()
    ends.peer.sendall(b"i")
    ends.pipe.wait(waiter, 0.0)
    assert (waiter.result(), bytes(ends.received)) == ("byte", b"i")


def test_what_a_deadline_left_goes_out_first_and_in_order(ends: Ends) -> None:
    big = random.Random(1).randbytes(4_000_000)
    started = time.monotonic()
    ends.send(big, started + 0.05)
    assert time.monotonic() - started >= 0.05
    ends.send(b"tail", started + 0.06)
    got: list[bytes] = []
    reading = in_thread(lambda: got.append(ends.read(len(big) + 8)))
    ends.send(b"last", 0.0)
    reading.join(10)
    assert got == [big + b"tail" + b"last"]
    assert ends.lost == []


def test_two_sides_that_only_send_do_not_wait_for_each_other(ends: Ends) -> None:
    def flood() -> None:
        ends.peer.sendall(b"\0" * 8_000_000)
        assert len(ends.read(8_000_000)) == 8_000_000

    peer = in_thread(flood)
    ends.send(b"\0" * 8_000_000, 0.0)
    waiter = ends.waiter()
    while len(ends.received) < 8_000_000:
        ends.pipe.wait(waiter, 0.0)
        waiter = ends.waiter()
    peer.join(10)
    assert not peer.is_alive()


def test_a_peer_that_reads_nothing_is_given_up() -> None:
    ends = Ends(stall=0.1)
    started = time.monotonic()
    ends.send(b"\0" * 8_000_000, 0.0)
    assert time.monotonic() - started >= 0.1
    (why,) = ends.lost
    assert re.fullmatch(r"has read 0 bytes in \d+ s \(write_stall\)", why)
    ends.close()


@pytest.mark.slow
def test_a_slow_reader_is_not_given_up_while_it_reads() -> None:
    ends = Ends(stall=1.0)
    size = 4_000_000  # read in twice that time

    def sip() -> None:
        left = size
        while left > 0:
            left -= len(ends.peer.recv(100_000))
            time.sleep(0.05)

    reading = in_thread(sip)
    ends.send(b"\0" * size, 0.0)
    reading.join(10)
    assert ends.lost == []
    ends.close()


def test_a_thread_need_not_stay_for_what_others_queue_behind_it(ends: Ends) -> None:
    ends.queue(b"\0" * 1_000_000)
    done: list[float] = []
    first = in_thread(lambda: (ends.pipe.send(time.monotonic() + 5), done.append(1)))
    while not ends.pipe.stream.sent:
        time.sleep(0.001)
    ends.queue(b"\0" * 4_000_000)
    ends.read(1_000_000)
    first.join(4)
    assert done == [1]


def test_the_end_wakes_readers_and_closes_the_socket_when_the_last_has_left(ends: Ends) -> None:
    waiters = [ends.waiter() for _ in range(4)]
    threads = [in_thread(lambda w=waiter: ends.pipe.wait(w, 0.0)) for waiter in waiters]
    while ends.pipe._turns.leader is None:
        time.sleep(0.001)
    assert ends.pipe._sock.fileno() >= 0
    ends.peer.close()
    for thread in threads:
        thread.join(5)
        assert not thread.is_alive()
    assert ends.lost == ["the connection was closed by the peer"]
    assert ends.pipe._sock.fileno() == -1


def test_ending_here_does_not_close_under_a_reader() -> None:
    in_recv = threading.Event()
    closed_in_recv: list[int] = []

    class Sock:
        """The socket, but recv tells and looks."""

        def __init__(self, sock: socket.socket) -> None:
            self.sock = sock

        def recv_into(self, buffer: Any) -> int:
            in_recv.set()
            count = self.sock.recv_into(buffer)
            closed_in_recv.append(self.sock.fileno())
            return count

        def __getattr__(self, name: str) -> Any:
            return getattr(self.sock, name)

    ends = Ends(wrap=Sock)
    waiter = ends.waiter()
    reader = in_thread(lambda: ends.pipe.wait(waiter, 0.0))
    in_recv.wait(5)
    with ends.lock:
        ends.pipe.end()
        waiter.set_result("ended")
    reader.join(5)
    assert closed_in_recv[0] >= 0
    ends.close()


def test_sixteen_threads_share_the_reading(ends: Ends) -> None:
    done: list[int] = []

    def wait(number: int) -> None:
        for _ in range(50):
            waiter = ends.waiter()
            ends.peer.sendall(b"x")
            ends.pipe.wait(waiter, 0.0)
            assert waiter.done()
        done.append(number)

    threads = [in_thread(lambda n=n: wait(n)) for n in range(16)]
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    assert sorted(done) == list(range(16))
    assert ends.pipe._turns.leader is None
    assert not ends.pipe._turns.line


def test_a_deadline_while_another_reads(ends: Ends) -> None:
    patient = ends.waiter()
    reader = in_thread(lambda: ends.pipe.wait(patient, 0.0))
    while ends.pipe._turns.leader is None:
        time.sleep(0.001)
    hurried = Waiter()
    started = time.monotonic()
    ends.pipe.wait(hurried, started + 0.05)
    assert time.monotonic() - started >= 0.05
    assert not hurried.done()
    ends.peer.sendall(b"x")
    reader.join(5)
    assert patient.result() == "byte"


def hand_on(ends: Ends) -> float:
    """Let a reader run out of time; return how long the next one took to read a byte."""
    hurried, patient = Waiter(), ends.waiter()
    first = in_thread(lambda: ends.pipe.wait(hurried, time.monotonic() + 0.1))
    while ends.pipe._turns.leader is None:
        time.sleep(0.001)
    second = in_thread(lambda: ends.pipe.wait(patient, 0.0))
    first.join(5)
    started = time.monotonic()
    ends.peer.sendall(b"x")
    second.join(5)
    assert patient.result() == "byte"
    return time.monotonic() - started


def test_a_reader_that_ran_out_of_time_hands_the_reading_on(ends: Ends) -> None:
    # A loaded machine may be slow at times; to sleep until it looks up by itself is always.
    assert any(hand_on(ends) < 0.5 for _ in range(10))


def test_where_there_is_no_poll(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(select, "poll")
    ends = Ends()
    ends.send(b"\0" * 4_000_000, time.monotonic() + 0.05)
    waiter = ends.waiter()
    started = time.monotonic()
    ends.pipe.wait(waiter, started + 0.05)
    assert time.monotonic() - started >= 0.05
    ends.peer.sendall(b"x")
    ends.pipe.wait(waiter, started + 20)
    assert waiter.done()
    ends.close()


# Exceptions out of signal handlers


class Interrupt(BaseException):
    """What KeyboardInterrupt is to a program."""


def interrupted(seconds: float, act: Callable[[], object]) -> bool:
    """Run *act*, raising Interrupt in it after *seconds*; return whether that got through.

    With 0 seconds it is raised when somebody calls `strike`.
    """
    armed = False

    def handler(number: int, frame: FrameType | None) -> None:
        if armed:
            raise Interrupt

    old = signal.signal(signal.SIGALRM, handler)
    try:
        armed = True
        signal.setitimer(signal.ITIMER_REAL, seconds)
        act()
    except Interrupt:
        return True
    finally:
        armed = False  # first of all: it may be on its way
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)
    return False


def strike(when: Callable[[], object]) -> threading.Thread:
    """Interrupt the main thread once *when* holds."""

    def act() -> None:
        while not when():
            time.sleep(0.001)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGALRM)

    return in_thread(act)


@pytest.mark.parametrize("deadline", [0.0, 60.0], ids=["no deadline", "a deadline"])
def test_an_interrupted_reader_hands_the_reading_on(ends: Ends, deadline: float) -> None:
    mine, other = Waiter(), ends.waiter()
    until = time.monotonic() + deadline if deadline else 0.0

    def follow() -> None:
        while ends.pipe._turns.leader is not mine:
            time.sleep(0.001)
        ends.pipe.wait(other, 0.0)

    follower = in_thread(follow)

    def act() -> None:
        striking.append(strike(lambda: ends.pipe._turns.line))
        ends.pipe.wait(mine, until)

    striking: list[threading.Thread] = []
    assert interrupted(0, act)
    striking[0].join(5)
    ends.peer.sendall(b"x")
    follower.join(5)
    assert other.result() == "byte"
    assert ends.lost == []


def test_an_interrupt_in_mid_delivery_ends_the_stream(ends: Ends) -> None:
    def raise_it() -> None:
        raise Interrupt

    ends.on_deliver = raise_it
    waiter = ends.waiter()
    ends.peer.sendall(b"x")
    with pytest.raises(Interrupt):
        ends.pipe.wait(waiter, 0.0)
    assert ends.lost == ["interrupted while reading"]
    assert ends.pipe._sock.fileno() == -1


def test_an_interrupt_in_mid_send_ends_the_stream() -> None:
    class Sock:
        def __init__(self, sock: socket.socket) -> None:
            self.sock = sock

        def send(self, data: memoryview, flags: int) -> int:
            self.sock.send(data[:10], flags)
            raise Interrupt

        def __getattr__(self, name: str) -> Any:
            return getattr(self.sock, name)

    ends = Ends(wrap=Sock)
    with pytest.raises(Interrupt):
        ends.send(b"\0" * 100, 0.0)
    assert ends.lost == ["interrupted while sending"]
    ends.close()


@pytest.mark.slow
@pytest.mark.parametrize("timeout", [None, 10.0])
def test_interrupts_at_any_moment_break_no_other_call(
    timeout: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The main thread is interrupted again and again while four others call.

    Every reply is the right one, nobody hangs, and the others' calls fail only if the
    interrupt came between the kernel and the books, which ends the connection.
    """
    # Some come between a socket's birth and whoever would close it, or in a finalizer.
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: None)
    rng = random.Random(7)
    wrong: list[Any] = []
    lost: list[str] = []
    stop = threading.Event()
    interrupts = counted = 0
    with Elsewhere() as server, fastrpc.connect_sync(server.target, timeout=timeout) as client:

        def call(number: int) -> None:
            turn = 0
            while not stop.is_set():
                turn += 1
                mine = f"{number}/{turn}"
                try:
                    got = client.call("Work.echo", mine)
                except fastrpc.TransportError as exc:
                    lost.append(str(exc))
                    continue
                if got != mine:
                    wrong.append((mine, got))

        def call_until(end: float) -> None:
            nonlocal counted
            while time.monotonic() < end:
                counted += 1
                mine = f"main/{counted}"
                try:
                    got = client.call("Work.echo", mine)
                except fastrpc.TransportError as exc:
                    lost.append(str(exc))
                    continue
                if got != mine:
                    wrong.append((mine, got))

        threads = [in_thread(lambda n=n: call(n)) for n in range(4)]
        end = time.monotonic() + 20.0
        try:
            while interrupts < 300 and time.monotonic() < end:
                # The collector may swallow one, so there is an end to waiting for it.
                until = time.monotonic() + 0.05
                interrupts += interrupted(
                    rng.uniform(0.00005, 0.003), lambda until=until: call_until(until)
                )
        finally:
            stop.set()
            for thread in threads:
                thread.join(10)
                assert not thread.is_alive(), "a thread hangs"
        assert wrong == []
        assert interrupts > 30  # or it was too slow a machine to say anything
        assert set(map(_reason, lost)) <= {"interrupted", "closed"}
        assert client.options(timeout=5).call("Work.add", 1, 2) == 3
    gc.collect()


def _reason(text: str) -> str:
    return "interrupted" if "interrupted" in text else "closed" if "closed" in text else text


def test_an_interrupted_call_is_cancelled_on_the_server() -> None:
    with Background() as server, fastrpc.connect_sync(server.target) as client:

        def act() -> None:
            striking.append(strike(lambda: server.work.runs))
            client.call("Work.wait", "x")

        striking: list[threading.Thread] = []
        assert interrupted(0, act)
        striking[0].join(5)
        end = time.monotonic() + 5
        while server.work.ended != ["x cancelled"]:
            assert time.monotonic() < end
            time.sleep(0.001)
        assert client.call("Work.add", 1, 2) == 3


def test_an_interrupt_while_a_reply_is_decoded_closes_the_socket() -> None:
    def decode(payload: bytes) -> Any:
        raise Interrupt

    with Background() as server, fastrpc.connect_sync(server.target) as client:
        assert client.call("Work.add", 1, 2) == 3
        session: Any = client._session
        decoders = list(session.lane.decoders)
        decoders[1] = decode
        session.lane.decoders = decoders
        with pytest.raises(Interrupt):
            client.call("Work.add", 1, 2)
        assert session.is_over
        assert session.pipe._sock.fileno() == -1
        assert client.call("Work.add", 1, 2) == 3  # over a new connection


def test_what_a_signal_handler_raises_comes_out_as_it_is() -> None:
    """A TimeoutError is an OSError, and yet not the socket's."""
    with Background() as server, fastrpc.connect_sync(server.target) as client:
        assert client.call("Work.add", 1, 2) == 3
        session: Any = client._session

        def handler(number: int, frame: FrameType | None) -> None:
            raise TimeoutError("too slow")

        old = signal.signal(signal.SIGALRM, handler)
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            with pytest.raises(TimeoutError, match="^too slow$"):
                client.call("Work.wait", "x")
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, old)
        assert client.call("Work.add", 1, 2) == 3
        assert client._session is session
