"""One blocking connection against a server played by hand; calls are in tests/client."""

import logging
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

import fastrpc
from fastrpc.client.options import read_options
from fastrpc.frame import encode_frame
from fastrpc.protocol import State, decode_option
from fastrpc.session import BlockingSession, Side, blocking_share
from fastrpc.session.watch import NEVER_MS
from fastrpc.transport import dial_blocking
from fastrpc.wire import BIT_MORE, Kind, Serializer, StatusCode
from tests.client.scripted import Peer, scripted
from tests.client.served import sockets


def connected(target: str, **limits: int) -> BlockingSession:
    """Return a session that has said HELLO."""
    options = read_options(limits)  # type: ignore[arg-type]
    registry = options.registry()
    side = Side(
        share=blocking_share(),
        limits=options.limits,
        option=options.option(registry),
        codecs=registry,
        log=logging.getLogger("test"),
    )
    sock = dial_blocking(target, 5.0)
    session = BlockingSession(sock, side, target, Serializer.MSGPACK)
    try:
        session.greet(5.0)
    except BaseException:
        session.close()
        raise
    return session


def run(
    play: Callable[[Peer], None], act: Callable[[BlockingSession], None], **limits: int
) -> None:
    """Let *act* use a session whose server is played by *play*; nothing may be left."""
    before = sockets()
    with scripted(play) as server:
        session = connected(server.target, **limits)
        try:
            act(session)
        finally:
            session.close()
    assert session.is_over
    assert sockets() <= before


def call(session: BlockingSession, name: str = "x", timeout: float = 0.0, *args: object) -> object:
    what = (name, args, None, timeout, b"", None)
    waiter = session.at_once(*what)
    if waiter is not None and waiter.is_plain:
        return waiter.value
    return session.finish(waiter, *what)


def test_hello_asks_not_to_be_pinged() -> None:
    def play(peer: Peer) -> None:
        frame = peer.read()
        asked = decode_option(frame.payload, False)
        assert asked.ping_ms == NEVER_MS
        assert asked.nonce
        peer._frames.insert(0, frame)
        peer.hello()
        peer.until_end()

    run(play, lambda session: None)


def test_what_comes_between_the_replies() -> None:
    """Pings are answered, calls refused, what nobody knows is skipped."""

    def play(peer: Peer) -> None:
        peer.hello()
        wanted = peer.read_call()
        peer.frame(Kind.CALL, 77, heartbeat=True, payload=b"echo me")
        pong = peer.read()
        assert (pong.id, pong.heartbeat, pong.reply, pong.payload) == (77, True, True, b"echo me")
        peer.frame(Kind.CALL, 1, arg=1, name=b"Client.method", serializer=1, payload=b"\x90")
        refused = peer.read()
        assert (refused.id, refused.reply, refused.status) == (1, True, StatusCode.NOT_FOUND)
        peer.frame(Kind.CALL, 2, arg=1, oneway=True, serializer=1, payload=b"\x90")
        peer.frame(Kind.CALL, 78, heartbeat=True, reply=True)  # a pong nobody waits for
        peer.frame(Kind.CALL, 999, reply=True, serializer=1, payload=b"\x63")
        peer.frame(Kind.DATA, 5, reply=True)
        peer.frame(13, 5)
        peer.reply(wanted, b"\x2a")
        peer.until_end()

    run(play, lambda session: _expect(call(session), 42))


def _expect(got: object, wanted: object) -> None:
    assert got == wanted


@pytest.mark.parametrize(
    ("misbehave", "words"),
    [
        (lambda peer: peer.write(b"not a frame"), "no fastrpc server"),
        (lambda peer: peer.write(peer.first_hello), "a second HELLO came"),
        (lambda peer: peer.frame(9, 1), "kind 9 is not known"),
        (lambda peer: peer.write(b"\xfa\x57\x00\x14\x02" + bytes(15)), "version 2 is not 1"),
        (lambda peer: peer.reset(), "reset|closed"),
    ],
)
def test_a_server_that_breaks_a_rule(misbehave: Callable[[Peer], None], words: str) -> None:
    def play(peer: Peer) -> None:
        answer = peer.answer()
        peer.first_hello = answer  # type: ignore[attr-defined]
        peer.write(answer)
        peer.read_call()
        misbehave(peer)
        if peer.sock.fileno() >= 0:
            peer.until_end()

    def act(session: BlockingSession) -> None:
        with pytest.raises(fastrpc.ConnectionLost, match=words) as lost:
            call(session)
        assert lost.value.ran == "maybe"
        assert session.state is State.CLOSED
        assert not session.is_usable
        with pytest.raises(fastrpc.ConnectionLost, match="x: not sent") as after:
            call(session)
        assert after.value.ran == "no"
        with pytest.raises(fastrpc.ConnectionLost, match="ping: not sent"):
            session.ping(1.0)
        with pytest.raises(fastrpc.ConnectionLost, match="y: not sent"):
            session.notify("y", (), None, b"")
        session.look()

    run(play, act)


def test_replies_that_can_not_be_taken_fail_their_call_only() -> None:
    def play(peer: Peer) -> None:
        peer.hello()
        peer.reply(peer.read_call(), b"\xc1")  # no msgpack
        peer.reply(peer.read_call(), b"\0" * 2000)  # over max_body
        peer.reply(peer.read_call(), serializer=Serializer.ARROW)
        peer.reply(peer.read_call(), bits=BIT_MORE)
        peer.reply(peer.read_call(), b"\x91" * 100 + b"\xc0")  # too deep
        peer.reply(
            peer.read_call(), b"\x07", metadata=b"\x01a\x00\x01b"
        )  # trailers: the value counts
        peer.reply(peer.read_call(), b"", status=StatusCode.OVERLOADED)
        peer.reply(peer.read_call(), b"garbage", status=StatusCode.SERVER_ERROR)
        peer.until_end()

    def act(session: BlockingSession) -> None:
        for kind, words in (
            (fastrpc.CodecError, "x: the reply can't be decoded"),
            (fastrpc.TooLarge, "over this client's max_body of 1000"),
            (fastrpc.Unsupported, "serializer 6"),
            (fastrpc.Unsupported, "bits 0x80"),
            (fastrpc.TooLarge, "nested deeper"),
        ):
            with pytest.raises(kind, match=words) as failed:
                call(session)
            assert failed.value.ran == "yes"  # type: ignore[attr-defined]
        assert call(session) == 7
        with pytest.raises(fastrpc.Overloaded) as refused:
            call(session)
        assert refused.value.ran == "no"
        with pytest.raises(fastrpc.RemoteError):
            call(session)
        assert session.is_usable

    run(play, act, max_body=1000)


def test_a_late_call_is_cancelled_on_the_server_and_its_reply_dropped() -> None:
    cancelled: list[int] = []

    def play(peer: Peer) -> None:
        peer.hello()
        late = peer.read_call()
        while (frame := peer.read()).kind != Kind.CANCEL:
            pass
        assert (frame.id, frame.status) == (late.id, StatusCode.CLIENT_TIMEOUT)
        cancelled.append(frame.id)
        peer.reply(late, b"\x63")
        peer.reply(peer.read_call(), b"\x05")
        peer.until_end()

    def act(session: BlockingSession) -> None:
        with pytest.raises(fastrpc.DeadlineExceeded):
            call(session, "x", 0.05)
        assert call(session) == 5
        assert cancelled == [1]

    run(play, act)


def test_a_method_the_server_forgot_is_sent_by_name_again() -> None:
    def play(peer: Peer) -> None:
        peer.hello()
        first = peer.read_call()
        assert (first.name, first.arg) == (b"x", 1)
        peer.reply(first)
        second = peer.read_call()
        assert (second.name, second.arg) == (b"", 1)
        peer.reply(second, b"", status=StatusCode.NOT_FOUND)
        third = peer.read_call()
        assert third.name == b"x"
        peer.reply(third)
        peer.until_end()

    def act(session: BlockingSession) -> None:
        call(session)
        with pytest.raises(fastrpc.MethodNotFound, match="x: .* knows no such method"):
            call(session)
        call(session)

    run(play, act)


@pytest.mark.parametrize(
    ("flood", "words"),
    [
        ({"kind": Kind.CALL, "heartbeat": True}, "pings come faster than agreed"),
        ({"kind": Kind.CANCEL, "status": StatusCode.CANCELLED}, "too many calls are cancelled"),
        ({"kind": Kind.CALL, "reply": True, "serializer": 1, "payload": b"\xc0"}, "unknown calls"),
        ({"kind": Kind.CALL, "reply": True, "bits": BIT_MORE}, "unknown calls"),
    ],
)
def test_a_server_that_floods_is_left(flood: dict[str, object], words: str) -> None:
    """As the asyncio client does it; what has come in the meantime still counts."""

    def play(peer: Peer) -> None:
        peer.hello()
        wanted = peer.read_call()
        fields = {"id": 999, **flood}
        peer.write(3000 * encode_frame(**fields))  # type: ignore[arg-type]
        peer.reply(wanted, b"\x01")
        peer.until_end()

    def act(session: BlockingSession) -> None:
        with pytest.raises(fastrpc.ConnectionLost, match=words) as lost:
            while True:
                assert call(session) == 1
                call(session, "again", 0.05)
        assert session.state is State.CLOSED
        assert lost.value.ran in ("maybe", "no")

    run(play, act, max_calls=64)


def test_a_server_that_calls_without_reading_fills_no_memory() -> None:
    def play(peer: Peer) -> None:
        peer.hello()
        peer.read_call()
        peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        for start in range(1, 20_000, 100):
            numbers = range(start, start + 100)
            peer.write(b"".join(encode_frame(Kind.CALL, id, arg=1, name=b"x") for id in numbers))

    def act(session: BlockingSession) -> None:
        session.pipe._sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        with pytest.raises(fastrpc.ConnectionLost, match="answers are unread"):
            call(session)

    run(play, act, max_unsent=10_000)


def test_a_stream_that_the_server_opens_is_refused() -> None:
    def play(peer: Peer) -> None:
        peer.hello()
        wanted = peer.read_call()
        peer.frame(Kind.OPEN, 1, arg=1, name=b"Client.stream", serializer=1, payload=b"\x90")
        refused = peer.read()
        assert (refused.id, refused.reply, refused.status) == (1, True, StatusCode.NOT_FOUND)
        peer.reply(wanted, b"\x01")
        peer.until_end()

    run(play, lambda session: _expect(call(session), 1))


def test_closing_cancels_what_other_threads_wait_for() -> None:
    seen: list[int] = []
    taken = threading.Event()

    def play(peer: Peer) -> None:
        peer.hello()
        calls = [peer.read_call().id for _ in range(2)]
        taken.set()
        for _ in calls:
            frame = peer.read()
            assert frame.kind == Kind.CANCEL
            seen.append(frame.id)
        peer.until_end()

    def act(session: BlockingSession) -> None:
        with ThreadPoolExecutor(2) as pool:
            calls = [pool.submit(call, session) for _ in range(2)]
            taken.wait(5)
            session.close()
            for waiting in calls:
                with pytest.raises(fastrpc.ConnectionLost, match="closed here"):
                    waiting.result(5)

    run(play, act)
    assert sorted(seen) == [1, 2]


def test_a_drain_refuses_new_calls_and_ends_with_the_last() -> None:
    go = threading.Event()

    def play(peer: Peer) -> None:
        peer.hello()
        first = peer.read_call()
        peer.goaway(2**63 - 1)
        peer.goaway(first.id)
        go.wait(5)
        peer.reply(first, b"\x01")
        peer.until_end()

    def act(session: BlockingSession) -> None:
        with ThreadPoolExecutor(1) as pool:
            first = pool.submit(call, session)
            while session.state is State.OPEN:
                pass
            with pytest.raises(fastrpc.ConnectionDraining) as refused:
                call(session)
            assert refused.value.ran == "no"
            assert not session.is_over
            go.set()
            assert first.result(5) == 1
            assert session.is_over

    run(play, act)


def test_connections_share_no_buffer() -> None:
    """Two are read at once when one drains: they must not read into the same memory."""
    sides = [replace(_side(), share=blocking_share()) for _ in range(2)]
    assert sides[0].share.view.obj is not sides[1].share.view.obj


def _side() -> Side:
    options = read_options({})
    registry = options.registry()
    return Side(
        share=blocking_share(),
        limits=options.limits,
        option=options.option(registry),
        codecs=registry,
        log=logging.getLogger("test"),
    )
