import asyncio
import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import pytest

import fastrpc
from fastrpc.client.blocking import BlockingClient
from fastrpc.wire import Kind
from tests.client.scripted import PATIENCE, WRONG, Peer, scripted, silent
from tests.client.served import (
    Background,
    Elsewhere,
    Point,
    Work,
    address,
    free_port,
    sessions_of,
    sockets,
    until,
)


@pytest.fixture(params=["tcp", "unix"])
def server(request: pytest.FixtureRequest) -> Iterator[Background]:
    with address(request.param) as target, Background(target) as server:
        yield server


@pytest.fixture
def client(server: Background) -> Iterator[BlockingClient]:
    with fastrpc.connect_sync(server.target) as client:
        yield client


def caught(call: Callable[[], object]) -> BaseException | None:
    try:
        call()
    except BaseException as exc:
        return exc
    return None


# Calls


def test_calls(client: BlockingClient, server: Background) -> None:
    assert client.call("Work.add", 1, 2) == 3
    assert client.call("Work.add", a=1) == 3
    assert client.call("Work.add", 1, b=5) == 6
    assert client.call("Work.echo", {"a": [1, None, b"x", "é"]}) == {"a": [1, None, b"x", "é"]}
    assert client.stub(Work).add(1, 2) == 3
    assert client.stub(Work).move(Point(1), 2) == Point(3, 2)
    assert client.stub(Work).pair() == (1, "one")
    assert client.stub(Work).sum_of(1, 2) == 3
    assert client.ping() >= 0.0
    client.notify("Work.note", "told")
    assert client.call("Work.note", "called") == 2
    assert server.work.runs == ["told", "called"]
    assert [service["name"] for service in client.describe()["services"]] == ["Work"]
    assert "Work" in [service["name"] for service in client.describe(schema=True)["services"]]
    assert "$defs" in client.describe(schema=True)
    assert client.options(metadata={"a": "b"}).call("Work.add", 1, 2) == 3


@pytest.mark.slow
def test_large_bodies_both_ways(client: BlockingClient) -> None:
    size = 16 * 2**20 - 100
    assert client.call("Work.size", b"\0" * size) == size
    assert client.call("Work.blob", size) == b"\x01" * size
    assert client.call("Work.echo", b"\x02" * size) == b"\x02" * size
    assert client.options(timeout=10).call("Work.echo", "x" * size) == "x" * size


@pytest.mark.parametrize("codec", ["msgpack", "json", "raw"])
def test_codecs(server: Background, codec: str) -> None:
    with fastrpc.connect_sync(server.target, codec=codec) as client:
        if codec == "raw":
            assert client.call("Work.echo", b"as it is") == b"as it is"
        else:
            assert client.call("Work.echo", {"a": [1, 2.5, None]}) == {"a": [1, 2.5, None]}
            assert client.stub(Work).move(Point(1), 2) == Point(3, 2)


def test_no_thread_and_no_loop_is_started(server: Background) -> None:
    before = threading.active_count()
    with fastrpc.connect_sync(server.target, timeout=5) as client:
        for _ in range(10):
            assert client.call("Work.add", 1, 2) == 3
        assert threading.active_count() == before
        with pytest.raises(RuntimeError):
            asyncio.get_running_loop()


# Errors


def errors_of_both(target: str, make: Callable[[Any], Any], **options: Any) -> list[BaseException]:
    """Return what the same act raises in the blocking and in the asyncio client."""

    async def use() -> BaseException | None:
        async with fastrpc.connect(target, **options) as client:
            try:
                await make(client)
            except BaseException as exc:
                return exc
        return None

    with fastrpc.connect_sync(target, **options) as client:
        first = caught(lambda: make(client))
    second = asyncio.run(use())
    assert first is not None
    assert second is not None
    return [first, second]


@pytest.mark.parametrize(
    ("act", "options"),
    [
        (lambda client: client.call("Work.nothing"), {}),
        (lambda client: client.call("Work.add", "1"), {}),
        (lambda client: client.call("Work.add", 1, 2, 3), {}),
        (lambda client: client.call("Work.add", c=3), {}),
        (lambda client: client.call("Work.fail", "text"), {}),
        (lambda client: client.call("Work.refuse"), {}),
        (lambda client: client.call("Work.echo", object()), {}),
        (lambda client: client.call("Work.size", b"x" * 20_000_000), {}),
        (lambda client: client.call("Work.blob", 2000), {"max_body": 1000}),
        (lambda client: client.call("Work.wait", "x"), {"timeout": 0.03}),
        (lambda client: client.call("x" * 300), {}),
        (lambda client: client.stub(Point2).move(1), {}),
        (lambda client: client.options(timeout=-1), {}),
        (lambda client: client.options(metadata={"A": "b"}), {}),
    ],
)
def test_errors_are_those_of_the_asyncio_client(
    server: Background, act: Callable[[Any], Any], options: dict[str, Any]
) -> None:
    first, second = errors_of_both(server.target, act, **options)
    assert type(first) is type(second)
    for name in ("ran", "status", "method", "code", "data", "type", "attempts", "address"):
        assert getattr(first, name, None) == getattr(second, name, None), name
    if not isinstance(first, fastrpc.DeadlineExceeded):
        assert str(first) == str(second)


class Point2:
    def move(self, by: int) -> int:
        return by


Point2.__name__ = "Work"


@pytest.mark.parametrize("kind", WRONG)
def test_what_a_wrong_server_does_is_told_as_by_the_asyncio_client(kind: str) -> None:
    play, name, words = WRONG[kind]
    before = sockets()
    with scripted(play) as wrong:
        with pytest.raises(getattr(fastrpc, name), match=words) as failed:
            patience = PATIENCE if kind == "silent" else 20.0
            fastrpc.connect_sync(wrong.target, connect_timeout=patience).__enter__()
        assert failed.value.ran == "no"
        if name != "ProtocolError" or kind == "http":
            assert wrong.target in str(failed.value)
    assert sockets() <= before


def test_nobody_there() -> None:
    target = f"tcp://127.0.0.1:{free_port()}"
    client = fastrpc.connect_sync(target, connect_timeout=0.5)
    with pytest.raises(fastrpc.ConnectFailed, match=target) as failed:
        client.call("Work.add", 1, 2)
    assert failed.value.ran == "no"
    assert repr(client) == f"<BlockingClient {target} idle>"
    with pytest.raises(fastrpc.ConfigError, match="needs an event loop"):
        fastrpc.connect_sync("mem://x").call("y")
    with pytest.raises(fastrpc.ConfigError, match="one connection"):
        fastrpc.connect_sync(target, connections=2)
    with pytest.raises(fastrpc.ConfigError, match="interceptors"):
        fastrpc.connect_sync(target, interceptors=[lambda handler: handler])


# Time


def test_a_deadline_leaves_the_connection_usable(
    client: BlockingClient, server: Background
) -> None:
    (before,) = server.do(lambda: sessions_of(server.server))
    for n in range(3):
        started = time.monotonic()
        with pytest.raises(fastrpc.DeadlineExceeded) as late:
            client.options(timeout=0.1).call("Work.wait", f"x{n}")
        assert time.monotonic() - started >= 0.1
        assert late.value.ran == "maybe"
        assert late.value.address == server.target
        assert client.call("Work.add", n, n) == 2 * n
    # One that came to the server too late was not begun at all.
    until(lambda: server.work.ended == [f"{key} cancelled" for key in server.work.runs])
    assert server.do(lambda: sessions_of(server.server)) == [before]


@pytest.mark.slow
def test_a_stopped_server() -> None:
    with Elsewhere() as server:
        with fastrpc.connect_sync(server.target) as client:
            assert client.call("Work.echo", "before") == "before"
            server.signal(signal.SIGSTOP)
            for call in (
                lambda: client.options(timeout=0.2).call("Work.echo", "late"),
                lambda: client.options(timeout=0.2).call("Work.size", b"\0" * 16_000_000),
                lambda: client.options(timeout=0.2).call("Work.echo", "behind"),
            ):
                started = time.monotonic()
                with pytest.raises(fastrpc.DeadlineExceeded):
                    call()
                assert time.monotonic() - started >= 0.2
            server.signal(signal.SIGCONT)
            for n in range(100):
                assert client.options(timeout=5).call("Work.echo", f"after {n}") == f"after {n}"


def test_a_deadline_is_kept_while_connecting() -> None:
    with scripted(silent) as server:
        client = fastrpc.connect_sync(server.target, connect_timeout=20)
        started = time.monotonic()
        with pytest.raises(fastrpc.DeadlineExceeded) as late:
            client.options(timeout=0.15).call("Work.add", 1, 2)
        assert time.monotonic() - started >= 0.15
        assert late.value.ran == "no"
        assert late.value.stages.connecting > 0.14
        client.close()


@pytest.mark.slow
def test_a_thread_that_dials_keeps_nobody_past_his_deadline() -> None:
    with scripted(silent) as server, ThreadPoolExecutor(4) as pool:
        client = fastrpc.connect_sync(server.target, connect_timeout=1.0)
        patient = pool.submit(caught, lambda: client.call("x"))
        until(lambda: server.connections == 1)
        started = time.monotonic()
        with pytest.raises(fastrpc.DeadlineExceeded, match=r"connecting \d{3,}\."):
            client.options(timeout=0.1).call("x")
        assert time.monotonic() - started >= 0.1
        failed = patient.result(5)
        assert isinstance(failed, fastrpc.ConnectFailed)
        client.close()


def test_the_servers_own_limit() -> None:
    with Background(handler_timeout=0.05) as server:
        with fastrpc.connect_sync(server.target) as client:
            for view in (client, client.options(timeout=5.0)):
                with pytest.raises(fastrpc.DeadlineExceeded) as limited:
                    view.call("Work.wait", "x")
                assert "deadline of" not in str(limited.value)


@pytest.mark.slow
def test_ping_keeps_a_deadline_and_the_pace() -> None:
    def play(peer: Peer) -> None:
        peer.hello(ping_ms=100)
        while True:
            frame = peer.read()
            if peer.number == 0:
                peer.frame(Kind.CALL, frame.id, heartbeat=True, reply=True)

    with scripted(play) as server:
        with fastrpc.connect_sync(server.target) as client:
            started = time.monotonic()
            for _ in range(4):
                client.ping()
            assert time.monotonic() - started > 0.19  # two at once, and then ten a second
        with fastrpc.connect_sync(server.target, timeout=0.1) as client:
            with pytest.raises(fastrpc.DeadlineExceeded, match="ping: deadline of"):
                client.ping()


# Threads


def test_a_slow_call_does_not_block_another_thread(server: Background) -> None:
    with fastrpc.connect_sync(server.target) as client, ThreadPoolExecutor(8) as pool:
        slow = [pool.submit(client.call, "Work.wait", f"s{n}") for n in range(3)]
        until(lambda: len(server.work.runs) == 3)
        quick = [pool.submit(lambda n=n: [client.call("Work.add", n, k) for k in range(100)])
                 for n in range(5)]  # fmt: skip
        for n, result in enumerate(quick):
            assert result.result(20) == [n + k for k in range(100)]
        server.do(server.work.gate.set)
        assert [call.result(5) for call in slow] == ["s0", "s1", "s2"]
        assert len(server.do(lambda: sessions_of(server.server))) == 1


@pytest.mark.slow
def test_eight_threads_with_everything_mixed(server: Background) -> None:
    """Slow, quick, large, late and failing calls: each gets its own reply."""
    problems: list[Any] = []
    with fastrpc.connect_sync(server.target) as client:
        hurried = client.options(timeout=0.03)

        def work(number: int) -> None:
            for turn in range(60):
                mine = f"{number}/{turn}"
                kind = (number + turn) % 6
                if kind == 0:
                    good = client.call("Work.nap", 0.01) == 0.01
                elif kind == 1:
                    good = client.call("Work.blob", 300_000 + turn) == b"\x01" * (300_000 + turn)
                elif kind == 2:
                    good = isinstance(
                        caught(lambda mine=mine: hurried.call("Work.wait", mine)),
                        fastrpc.DeadlineExceeded,
                    )
                elif kind == 3:
                    error = caught(lambda mine=mine: client.call("Work.fail", mine))
                    good = isinstance(error, fastrpc.RemoteError) and error.message == mine
                elif kind == 4:
                    client.notify("Work.note", mine)
                    good = client.options(timeout=20).call("Work.echo", mine) == mine
                else:
                    good = client.call("Work.echo", mine) == mine
                if not good:
                    problems.append((mine, kind))

        threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(25)
            assert not thread.is_alive()
        assert problems == []
        assert client.call("Work.add", 1, 2) == 3
        assert len(server.do(lambda: sessions_of(server.server))) == 1


def test_more_threads_than_the_server_takes_calls_wait_for_room() -> None:
    with Background(max_calls=2) as server, ThreadPoolExecutor(16) as pool:
        with fastrpc.connect_sync(server.target) as client:
            held = [pool.submit(client.call, "Work.wait", str(n)) for n in range(2)]
            until(lambda: len(server.work.runs) == 2)
            started = time.monotonic()
            with pytest.raises(fastrpc.DeadlineExceeded) as late:
                client.options(timeout=0.1).call("Work.add", 1, 2)
            assert time.monotonic() - started >= 0.1
            assert late.value.ran == "no"
            assert late.value.stages.queued > 0.09
            wrong = pool.submit(caught, lambda: client.call("Work.echo", object()))
            queued = [pool.submit(client.call, "Work.add", n, n) for n in range(8)]
            until(lambda: all(call.running() for call in queued))
            server.do(server.work.gate.set)
            assert [call.result(5) for call in queued] == [2 * n for n in range(8)]
            assert isinstance(wrong.result(5), fastrpc.CodecError)
            assert [call.result(5) for call in held] == ["0", "1"]


def test_closing_fails_the_calls_of_other_threads(server: Background) -> None:
    before = sockets()
    with ThreadPoolExecutor(8) as pool:
        client = fastrpc.connect_sync(server.target)
        calls = [
            pool.submit(caught, lambda n=n: client.call("Work.wait", str(n))) for n in range(4)
        ]
        until(lambda: len(server.work.runs) == 4)
        client.close()
        for call in calls:
            error = call.result(5)
            assert isinstance(error, fastrpc.ConnectionLost)
            assert "closed here" in str(error)
            assert error.ran == "maybe"
        client.close()
        for act in (
            lambda: client.call("Work.add", 1, 2),
            lambda: client.notify("Work.add", 1, 2),
            client.ping,
            client.__enter__,
        ):
            with pytest.raises(fastrpc.ConnectionLost, match="this client of .* is closed"):
                act()
    until(lambda: not server.do(lambda: sessions_of(server.server)))
    until(lambda: sockets() <= before)
    assert repr(client).endswith(" closed>")


def test_closing_while_a_thread_dials() -> None:
    with scripted(silent) as server, ThreadPoolExecutor(2) as pool:
        client = fastrpc.connect_sync(server.target, connect_timeout=0.3)
        call = pool.submit(caught, lambda: client.call("x"))
        until(lambda: server.connections == 1)
        client.close()
        error = call.result(5)
        assert isinstance(error, fastrpc.TransportError)
        assert error.ran == "no"


# The connection ends


@pytest.mark.slow
def test_an_idle_connection_that_the_server_closed_is_dialled_anew() -> None:
    def play(peer: Peer) -> None:
        peer.hello()
        peer.reply(peer.read_call(), bytes([peer.number]))

    before = sockets()
    with scripted(play) as server:
        with fastrpc.connect_sync(server.target) as client:
            for number in range(5):
                assert client.call("x") == number
                until(lambda: server.alive == 0)
                time.sleep(0.06)  # for so long it is taken to be alive; longer does no harm
    assert sockets() <= before


@pytest.mark.slow
def test_an_idle_connection_that_drains_is_left() -> None:
    told: list[int] = []

    def play(peer: Peer) -> None:
        peer.hello()
        peer.reply(peer.read_call(), bytes([peer.number]))
        peer.goaway(2**63 - 1)
        told.append(peer.number)
        peer.until_end()

    before = sockets()
    with scripted(play) as draining:
        with fastrpc.connect_sync(draining.target) as client:
            for number in range(5):
                assert client.call("x") == number
                until(lambda number=number: told[-1:] == [number])
                time.sleep(0.06)  # as above
    assert sockets() <= before


def test_calls_a_goaway_leaves_out_go_to_the_next_connection() -> None:
    def play(peer: Peer) -> None:
        peer.hello()
        call = peer.read_call()
        if peer.number == 0:
            peer.goaway(0)
        else:
            peer.reply(call, b"\x07")
        peer.until_end()

    with scripted(play) as server, fastrpc.connect_sync(server.target) as client:
        assert client.call("x") == 7
        assert server.connections == 2


def test_a_drain_lets_the_calls_of_other_threads_finish() -> None:
    finish = threading.Event()

    def play(peer: Peer) -> None:
        peer.hello()
        call = peer.read_call()
        if peer.number == 0:
            peer.goaway(call.id)
            assert finish.wait(10)
            peer.reply(call, b"\x01")
        else:
            peer.reply(call, b"\x02")
        peer.until_end()

    before = sockets()
    with scripted(play) as server, ThreadPoolExecutor(2) as pool:
        with fastrpc.connect_sync(server.target) as client:
            old = pool.submit(client.call, "x")
            until(lambda: client._session is not None and not client._session.is_usable)
            assert client.call("x") == 2
            finish.set()
            assert old.result(5) == 1
            until(lambda: client._draining[0].is_over)
    until(lambda: sockets() <= before)


@pytest.mark.slow
def test_a_server_that_is_killed_and_comes_back() -> None:
    with Elsewhere() as server, fastrpc.connect_sync(server.target) as client:
        for _ in range(3):
            first = client.call("Work.pid")
            with ThreadPoolExecutor(4) as pool:
                calls = [
                    pool.submit(caught, lambda: client.call("Work.wait", "x")) for _ in range(4)
                ]
                until(lambda: client._session is not None and len(client._session.lane.table) == 4)
                assert client.call("Work.add", 1, 2) == 3  # so the others have left, too
                server.kill()
                for call in calls:
                    error = call.result(5)
                    assert isinstance(error, fastrpc.ConnectionLost)
                    assert error.ran == "maybe"
            with pytest.raises(fastrpc.ConnectFailed) as failed:
                client.call("Work.add", 1, 2)
            assert failed.value.ran == "no"
            server.start()
            assert client.options(timeout=5).call("Work.pid") != first


@pytest.mark.slow
def test_while_the_next_attempt_is_near_a_call_waits_for_it() -> None:
    target = f"tcp://127.0.0.1:{free_port()}"
    client = fastrpc.connect_sync(target)
    with pytest.raises(fastrpc.ConnectFailed):
        client.call("Work.add", 1, 2)
    with Background(target):
        assert client.call("Work.add", 1, 2) == 3
    client.close()


def test_threads_that_wait_for_one_attempt_fail_with_it() -> None:
    gathered = threading.Event()

    def play(peer: Peer) -> None:
        peer.read()
        assert gathered.wait(10)

    with scripted(play) as server, ThreadPoolExecutor(8) as pool:
        client = fastrpc.connect_sync(server.target)
        barrier = threading.Barrier(8)

        def call() -> BaseException | None:
            barrier.wait()
            return caught(lambda: client.call("x"))

        calls = [pool.submit(call) for _ in range(8)]
        until(lambda: barrier.n_waiting == 0 and all(future.running() for future in calls))
        gathered.set()
        errors = [future.result(10) for future in calls]
        assert [type(error) for error in errors] == [fastrpc.ConnectFailed] * 8
        assert len({id(error) for error in errors}) == 8
        assert server.connections < 6
        client.close()


def test_a_short_deadline_says_nothing_about_the_server() -> None:
    late = threading.Event()

    def play(peer: Peer) -> None:
        assert late.wait(10)
        with contextlib.suppress(EOFError):
            peer.hello()
            peer.reply(peer.read_call())

    with scripted(play) as server:
        client = fastrpc.connect_sync(server.target)
        with pytest.raises(fastrpc.DeadlineExceeded):
            client.options(timeout=0.02).call("x")
        late.set()
        assert client.call("x") is None
        client.close()


# One server is everybody


def test_a_broadcast_is_the_one_call(client: BlockingClient, server: Background) -> None:
    add, id = client.stub(Work).add, client.target
    assert client.broadcast("Work.add", 1, 2) == client.broadcast(add, 1, 2) == 3
    assert client.options(broadcast="all").broadcast(add, 1, b=2) == {id: 3}
    assert client.options(broadcast="quorum").options(timeout=5.0).broadcast(add, 1, 2) == {id: 3}
    assert client.options(broadcast="first").broadcast(add, 1, 2) == 3
    assert client.options(broadcast=lambda found: sum(found.values())).broadcast(add, 1, 2) == 3
    found = client.stub(Work).move
    assert client.broadcast(found, Point(1), 2) == Point(3, 2)
    with pytest.raises(fastrpc.Unavailable, match="of 1 instances 2"):
        client.options(broadcast=2).broadcast("Work.add", 1, 2)
    with pytest.raises(fastrpc.ConfigError, match="broadcast must be"):
        client.options(broadcast=cast("Any", "some"))
    with pytest.raises(fastrpc.ConfigError, match="expected a name"):
        client.broadcast_each(3)


def test_a_broadcast_that_fails(client: BlockingClient, server: Background) -> None:
    with pytest.raises(fastrpc.MethodNotFound) as failed:
        client.broadcast("Work.nothing")
    assert failed.value.__notes__ == [f"instance {client.target}"]
    assert failed.value.ran == "no"
    with pytest.raises(fastrpc.BroadcastFailed, match="1 of 1 failed") as group:
        client.options(broadcast="all").broadcast("Work.nothing")
    assert list(group.value.errors) == [client.target]
    assert group.value.ran == "no"
    (each,) = client.broadcast_each("Work.nothing")
    assert (each.id, type(each.error)) == (client.target, fastrpc.MethodNotFound)
    (each,) = client.broadcast_each("Work.add", 1, 2)
    assert (each.id, each.value, each.error) == (client.target, 3, None)


def test_a_shard_is_the_one_call(client: BlockingClient, server: Background) -> None:
    assert client.shard("Work.echo", {"b": 1, "a": 2}) == {"b": 1, "a": 2}
    assert client.shard(client.stub(Work).echo, ["b", "a"]) == ["b", "a"]
    assert client.shard("Work.echo", []) == []
    with pytest.raises(fastrpc.InvalidArgument, match="splits its first argument"):
        client.shard("Work.echo", 3)
    with pytest.raises(fastrpc.ShardFailed) as failed:
        client.shard("Work.nothing", ["a"])
    assert failed.value.missing == ["a"]
