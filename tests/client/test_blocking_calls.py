"""Whole replies, and many calls at once, of the blocking client."""

import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import fastrpc
from fastrpc.client.blocking import BlockingClient
from tests.client.scripted import Peer, scripted
from tests.client.served import Background, free_port, until


class Told:
    def hear(self, call: fastrpc.Call = fastrpc.GIVEN) -> str:
        call.reply_metadata = {"by": "server"}
        return call.metadata.get("say", b"").decode()


@pytest.fixture
def server() -> Iterator[Background]:
    with Background() as server:
        server.do(lambda: server.server.register(Told()))
        yield server


@pytest.fixture
def client(server: Background) -> Iterator[BlockingClient]:
    with fastrpc.connect_sync(server.target) as client:
        yield client


# Whole replies


def test_a_reply_with_its_metadata(client: BlockingClient) -> None:
    reply = client.options(metadata={"say": "hello"}).exchange("Told.hear")
    assert (reply.value, dict(reply.metadata)) == ("hello", {"by": b"server"})
    plain = client.exchange("Work.add", 1, b=5)
    assert (plain.value, dict(plain.metadata)) == (6, {})
    with pytest.raises(fastrpc.RemoteError, match="nothing here"):
        client.exchange("Work.fail", "nothing here")
    with pytest.raises(fastrpc.CodecError):
        client.exchange("Work.echo", object())
    assert client.call("Work.add", 1, 2) == 3


def test_a_late_reply(client: BlockingClient, server: Background) -> None:
    with pytest.raises(fastrpc.DeadlineExceeded, match=r"Work.wait: deadline of 50 ms"):
        client.options(timeout=0.05).exchange("Work.wait", "x")
    until(lambda: server.work.ended == ["x cancelled"])
    session: Any = client._session
    assert len(session.lane.table) == 0


# Many at once


def test_many_calls(client: BlockingClient) -> None:
    results = client.gather(
        [
            ("Work.add", 1, 2),
            ("Work.nothing",),
            ("Work.echo", object()),
            ("Work.fail", "text"),
            ("x" * 300,),
            ("Work.echo", "last"),
        ]
    )
    assert (results[0], results[5]) == (3, "last")
    kinds = [type(result) for result in results[1:5]]
    assert kinds == [
        fastrpc.MethodNotFound, fastrpc.CodecError, fastrpc.RemoteError, fastrpc.MethodNotFound,
    ]  # fmt: skip
    assert client.gather([]) == []
    assert client.gather(("Work.echo", n) for n in range(100)) == list(range(100))
    assert client.options(metadata={"say": "all"}).gather([("Told.hear",)] * 3) == ["all"] * 3
    with pytest.raises(fastrpc.InvalidArgument, match="gather: call 2: expected a tuple"):
        client.gather([("Work.add", 1, 2), ()])
    assert client.call("Work.add", 1, 2) == 3


def test_they_leave_in_one_write(monkeypatch: pytest.MonkeyPatch) -> None:
    with scripted(answer) as server, fastrpc.connect_sync(server.target) as client:
        client.call("x")
        session: Any = client._session
        writes: list[int] = []

        def flush() -> None:
            writes.append(session.lane.unsent)
            type(session).flush(session)

        monkeypatch.setattr(session, "flush", flush)
        assert client.gather([("x",)] * 50) == list(range(50))
        assert max(writes) > 50 * 20
        assert sum(map(bool, writes)) == 1


def answer(peer: Peer) -> None:
    peer.hello()
    peer.reply(peer.read_call())
    wanted = [peer.read_call() for _ in range(50)]
    for place, call in reversed(list(enumerate(wanted))):
        peer.reply(call, bytes([place]))
    peer.until_end()


def test_more_than_the_server_takes_at_once() -> None:
    with Background(max_calls=4) as server, fastrpc.connect_sync(server.target) as client:
        assert client.gather([("Work.echo", n) for n in range(50)]) == list(range(50))
        with ThreadPoolExecutor(4) as pool:
            runs = [
                pool.submit(client.gather, [("Work.echo", (n, k)) for k in range(50)])
                for n in range(4)
            ]
            for n, run in enumerate(runs):
                assert run.result(20) == [[n, k] for k in range(50)]
        session: Any = client._session
        assert len(session.lane.table) == 0
        assert not session.line.turns.line


def test_one_deadline_for_all_of_them() -> None:
    with Background(max_calls=2) as server, fastrpc.connect_sync(server.target) as client:
        hurried = client.options(timeout=0.1)
        started = time.monotonic()
        results = hurried.gather([("Work.add", 1, 2), *[("Work.wait", str(n)) for n in range(5)]])
        assert time.monotonic() - started < 5
        assert results[0] == 3
        assert {type(result) for result in results[1:]} == {fastrpc.DeadlineExceeded}
        assert [result.ran for result in results[1:3]] == ["maybe", "maybe"]
        assert results[5].ran == "no"
        assert "Work.wait: deadline of 100 ms" in str(results[5])
        assert client.call("Work.add", 1, 2) == 3


def test_nobody_there() -> None:
    target = f"tcp://127.0.0.1:{free_port()}"
    client = fastrpc.connect_sync(target, connect_timeout=0.2)
    results = client.gather([("x",), ("y",)])
    assert [type(result) for result in results] == [fastrpc.ConnectFailed] * 2
    assert results[0] is not results[1]
    client.close()
    (result,) = client.gather([("x",)])
    assert isinstance(result, fastrpc.ConnectionLost)


def test_calls_a_goaway_leaves_out_go_to_the_next_connection() -> None:
    def play(peer: Peer) -> None:
        peer.hello()
        calls = [peer.read_call() for _ in range(4 if peer.number == 0 else 2)]
        if peer.number == 0:
            peer.goaway(calls[1].id)
            calls = calls[:2]
        for call in calls:
            peer.reply(call, bytes([10 * peer.number + call.id]))
        peer.until_end()

    with scripted(play) as server, fastrpc.connect_sync(server.target) as client:
        assert client.gather([("x",)] * 4) == [1, 2, 11, 12]
        assert server.connections == 2


def test_a_connection_that_breaks_in_their_midst() -> None:
    def play(peer: Peer) -> None:
        peer.hello()
        calls = [peer.read_call() for _ in range(3)]
        peer.reply(calls[0], b"\x01")

    with scripted(play) as server, fastrpc.connect_sync(server.target) as client:
        results = client.gather([("x",)] * 3)
        assert results[0] == 1
        assert [type(result) for result in results[1:]] == [fastrpc.ConnectionLost] * 2
        assert [result.ran for result in results[1:]] == ["maybe"] * 2
        assert server.connections == 1


def test_an_interrupt_gives_up_those_that_are_open(server: Background) -> None:
    class Interrupt(BaseException):
        pass

    def handler(*args: object) -> None:
        raise Interrupt

    with fastrpc.connect_sync(server.target) as client:
        assert client.call("Work.add", 1, 2) == 3
        session: Any = client._session

        def strike() -> None:
            until(lambda: len(server.work.runs) == 3)
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGALRM)

        old = signal.signal(signal.SIGALRM, handler)
        try:
            with ThreadPoolExecutor(1) as pool:
                striking = pool.submit(strike)
                with pytest.raises(Interrupt):
                    client.gather([("Work.wait", str(n)) for n in range(3)])
                striking.result(5)
        finally:
            signal.signal(signal.SIGALRM, old)
        until(lambda: len(server.work.ended) == 3)
        assert sorted(server.work.ended) == ["0 cancelled", "1 cancelled", "2 cancelled"]
        assert len(session.lane.table) == 0
        assert client.call("Work.add", 1, 2) == 3
