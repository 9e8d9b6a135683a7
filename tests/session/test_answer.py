"""How calls beside the lane are run, refused, and answered; the rest is in tests/server."""

import asyncio
import logging
import threading
from typing import Any, NoReturn

import msgspec
import pytest

import fastrpc
from fastrpc.frame import encode_frame
from fastrpc.session import Handling, Threads
from fastrpc.wire import Kind
from tests.session.rig import JSON, MSGPACK, Rig, kinds

pytestmark = pytest.mark.asyncio
pack = msgspec.msgpack.encode
unpack = msgspec.msgpack.decode


class Work:
    """Something to do."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.go_on = asyncio.Event()
        self.free = threading.Event()

    def sync(self, a: int = 1) -> int:
        return a

    async def wait(self, a: int = 1) -> int:
        self.begun.append("wait")
        await self.go_on.wait()
        return a

    @fastrpc.rpc(blocking=True)
    def thread(self) -> int:
        self.begun.append("thread")
        self.free.wait(5)
        return 1

    def broken(self, a: int = 1) -> NoReturn:
        raise ValueError("wrong")

    async def fail(self) -> NoReturn:
        await self.go_on.wait()
        raise ValueError("wrong")

    async def count(self, n: int) -> Any:
        yield n


def call(id: int, method: str, args: Any = (), **more: Any) -> bytes:
    name = f"Work.{method}".encode()
    more.setdefault("serializer", MSGPACK)
    return encode_frame(Kind.CALL, id, name=name, payload=pack(args), **more)


def texts(rig: Rig) -> list[tuple[int, str]]:
    """Return status and message of each reply."""
    return [(f.status, unpack(f.payload)["message"] if f.status else "") for f in rig.frames()]


async def turns(count: int = 4) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_refusals_say_what_is_wrong() -> None:
    rig = Rig(Work(), max_body=1000, max_name=20).greet()
    bad = b"\x01k\x00\x05v"
    rig.feed(
        call(1, "none"),
        encode_frame(Kind.CALL, 2, arg=7),
        encode_frame(Kind.CALL, 3, name=b"n" * 21),
        call(4, "sync", {"b": 1}),
        call(5, "sync", ["1"]),
        encode_frame(Kind.CALL, 6, name=b"Work.sync", payload=b"\xc1", serializer=MSGPACK),
        encode_frame(Kind.CALL, 7, name=b"Work.sync", payload=bytes(1001)),
        encode_frame(Kind.CALL, 8, name=b"Work.sync", metadata=bad, serializer=MSGPACK),
        call(9, "sync", (), serializer=9),
        call(10, "sync", (), bits=0x20),
        call(11, "count", (1,)),
        call(12, "count", {"n": 1}),
        encode_frame(Kind.OPEN, 13, name=b"Work.sync", payload=pack([1]), serializer=MSGPACK),
    )
    stream = (40, "Work.count is a stream: use client.stream")
    assert texts(rig) == [
        (44, "there is no method 'Work.none'"),
        (44, "there is no method number 7"),
        (44, "a method name of 21 bytes is over max_name of 20"),
        (40, "Work.sync: unexpected argument 'b'; the method takes (a: int = 1)"),
        (40, "Work.sync: argument 'a': expected int, got str"),
        (40, "Work.sync: arguments can't be decoded as msgpack: MessagePack data is malformed:"
             " invalid opcode '\\xc1' (byte 0)"),
        (46, "call 7: arguments of 1010 bytes are over max_body of 1000"),
        (40, "Work.sync: metadata is cut off in pair 1"),
        (47, "Work.sync: serializer 9 was not agreed on"),
        (47, "Work.sync: compression was not agreed on"),
        stream, stream, (40, "Work.sync is no stream: use client.call"),
    ]  # fmt: skip
    assert rig.side.answers is not None
    assert rig.side.answers.replies.refused == 13


async def test_a_call_with_metadata_or_names_runs_like_any_other() -> None:
    service = Work()
    service.go_on.set()
    rig = Rig(service).greet()
    for id, method in ((1, "sync"), (3, "wait")):
        rig.feed(call(id, method, [5], metadata=b"\x01k\x00\x00"))
        rig.feed(call(id + 1, method, {"a": 6}))
    await turns()
    assert [unpack(frame.payload) for frame in rig.frames()] == [5, 6, 5, 6]


async def test_a_call_by_name_fails_like_any_other() -> None:
    rig = Rig(Work(), max_metadata=10).greet()
    rig.feed(call(1, "broken", {"a": 2}), call(2, "sync", metadata=b"\x01k\x00\x07" + bytes(7)))
    assert texts(rig) == [
        (50, "wrong"), (46, "Work.sync: metadata of 11 bytes, max_metadata is 10"),
    ]  # fmt: skip


async def test_a_reply_tells_how_long_the_handler_took() -> None:
    service = Work()
    rig = Rig(service).greet()
    rig.feed(call(1, "wait"))
    await turns()
    rig.now += 0.25
    service.go_on.set()
    await turns()
    (reply,) = rig.frames()
    assert 249_000 <= reply.time <= 251_000


async def test_deadlines_of_the_call_and_of_the_server() -> None:
    rig = Rig(Work(), answers={"handler_timeout": 2.0}).greet()
    rig.feed(call(1, "wait", time=1000), call(2, "wait", time=9000), call(3, "wait"))
    await turns()
    answers = rig.side.answers
    assert answers is not None
    rig.now += 0.9
    assert answers.expire(rig.session, rig.now) == 1001.0
    rig.now += 0.1
    assert answers.expire(rig.session, rig.now) == 1002.0
    rig.now += 1.0
    assert answers.expire(rig.session, rig.now) == 0.0
    assert texts(rig) == [
        (51, "Work.wait: stopped after 1000 ms"),
        (51, "Work.wait: stopped after 2000 ms"),
        (51, "Work.wait: stopped after 2000 ms"),
    ]
    await turns()
    assert answers.running == 0


async def test_a_task_that_was_given_up_before_it_began_does_not_run() -> None:
    service = Work()
    rig = Rig(service).greet()
    rig.feed(call(1, "wait") + encode_frame(Kind.CANCEL, 1))
    await turns()
    # Where tasks begin eagerly it has begun, and was cancelled.
    assert rig.frames() == []
    assert rig.side.answers is not None
    assert (rig.side.answers.running, rig.session.running) == (0, {})


async def test_a_thread_that_was_given_up_before_it_began_does_not_run() -> None:
    service = Work()
    rig = Rig(
        service, answers={"handling": Handling(Threads(asyncio.get_running_loop(), 1))}
    ).greet()
    rig.feed(call(1, "thread"))
    await turns()
    rig.feed(call(2, "thread"))
    await turns()
    rig.feed(encode_frame(Kind.CANCEL, 2))
    service.free.set()
    answers = rig.side.answers
    assert answers is not None
    async with asyncio.timeout(5):
        while answers.running:
            await asyncio.sleep(0.001)
    assert service.begun == ["thread"]
    assert [frame.id for frame in rig.frames()] == [1]
    answers.close()


async def test_close_lets_go_of_handlers_that_would_not_end() -> None:
    service = Work()
    rig = Rig(service).greet()
    rig.feed(call(1, "thread"), call(2, "wait"))
    await turns()
    answers = rig.side.answers
    assert answers is not None
    assert len(answers.tasks) == answers.running == 2
    answers.close()
    await turns()
    assert answers.running == 0
    service.free.set()


async def test_a_late_failure_goes_to_the_log(caplog: pytest.LogCaptureFixture) -> None:
    class Late:
        async def fail(self) -> None:
            try:
                await asyncio.Event().wait()
            finally:
                raise ValueError("late")

    rig = Rig(Late()).greet()
    rig.feed(encode_frame(Kind.CALL, 1, name=b"Late.fail", serializer=MSGPACK, payload=b"\x90"))
    await turns()
    rig.feed(encode_frame(Kind.CANCEL, 1))
    await turns()
    assert rig.frames() == []
    (record,) = caplog.records
    assert (record.levelno, "after it was given up" in record.getMessage()) == (
        logging.WARNING, True,
    )  # fmt: skip


async def test_errors_too_long_for_the_peer_have_their_status_only() -> None:
    service = Work()
    service.go_on.set()
    rig = Rig(service).greet(max_body=20)
    rig.feed(call(1, "none"), call(2, "fail"))
    await turns()
    assert [(f.status, f.payload) for f in rig.frames()] == [(44, b""), (50, b"")]


async def test_an_error_answers_json_in_msgpack() -> None:
    rig = Rig(Work()).greet()
    rig.feed(encode_frame(Kind.CALL, 1, name=b"Work.sync", serializer=JSON, payload=b'["1"]'))
    (reply,) = rig.frames()
    assert (reply.status, reply.serializer) == (40, MSGPACK)


async def test_a_keyboard_interrupt_goes_on_to_whom_it_is_meant_for() -> None:
    class Interrupted:
        def now(self) -> None:
            raise KeyboardInterrupt

    rig = Rig(Interrupted()).greet()
    data = encode_frame(Kind.CALL, 1, name=b"Interrupted.now", serializer=MSGPACK, payload=b"\x90")
    with pytest.raises(KeyboardInterrupt):
        rig.feed(data)
    assert kinds(rig.frames()) == [(Kind.CALL, 50)]


# Behind interceptors: from the second call of a method on its first step is taken at once


def behind(wait: Any, note: Any = None, *, first: bool = False) -> dict[str, Any]:
    """Return options of an answerer with one interceptor, which awaits what *wait* gives.

    The first call passes; with *first* the handler comes before anything is awaited, and
    with 9 for an argument it is awaited once more when the handler has been called.
    """

    def interceptor(handler: fastrpc.Handler) -> fastrpc.Handler:
        async def intercept(one: fastrpc.Call) -> fastrpc.Reply:
            if note is not None and tuple(one.args) != (0,):
                note(one)
            if tuple(one.args) != (0,) and not first:
                await wait()
            reply = await handler(one)
            if tuple(one.args) == (9,):
                await wait()
            return reply

        return intercept

    threads = Threads(asyncio.get_running_loop(), 2)
    return {"handling": Handling(threads, [interceptor])}


async def warm(answers: dict[str, Any], **limits: Any) -> Rig:
    """Return a session whose method has been called once."""
    rig = Rig(Work(), answers=answers, wrapped=True, **limits).greet()
    rig.feed(call(1, "sync", (0,)))
    await turns()
    assert kinds(rig.frames()) == [(Kind.CALL, 0)]
    return rig


async def end(rig: Rig) -> None:
    """Close the answerer: no call and no task is left."""
    assert rig.side.answers is not None
    assert rig.side.answers.running == len(rig.session.running) == 0
    left = rig.side.answers.close()
    if left:
        await asyncio.wait(left)


@pytest.mark.parametrize("wait", ["turn", "event"])
@pytest.mark.parametrize("after", range(4))
async def test_a_call_whose_cancel_comes_right_behind_it_ends(wait: str, after: int) -> None:
    async def waits() -> None:
        await (asyncio.Event().wait() if wait == "event" else asyncio.sleep(0))
        ended.append("went on")

    ended: list[str] = []
    rig = await warm(behind(waits))
    cancel = encode_frame(Kind.CANCEL, 2)
    if after == 0:
        rig.feed(call(2, "sync", (5,)) + cancel)  # in one read
        assert len(rig.session.running) == 1
    else:
        rig.feed(call(2, "sync", (5,)))
        await turns(after - 1)
        rig.feed(cancel)
    await turns(8)
    if after < 2:
        assert ended == []
        assert rig.frames() == []
    await end(rig)


async def test_a_call_that_waits_is_answered_and_counted() -> None:
    rig = await warm(behind(lambda: asyncio.sleep(0)))
    method = rig.side.router[b"Work.sync"]  # type: ignore[index]
    rig.feed(call(2, "sync", (5,)), call(3, "sync", (9,)), call(4, "sync", (5,), oneway=True))
    assert len(rig.session.running) == 3
    await turns(6)
    assert [(f.id, unpack(f.payload)) for f in rig.frames()] == [(2, 5), (3, 9)]
    assert (method.calls, method.errors) == (4, 0)
    await end(rig)


@pytest.mark.parametrize("when", ["before", "later"])
async def test_errors_of_interceptors_are_answered_and_counted(when: str) -> None:
    async def wrong() -> None:
        if when == "later":
            await asyncio.sleep(0)
        raise ValueError("wrong")

    rig = await warm(behind(wrong))
    method = rig.side.router[b"Work.sync"]  # type: ignore[index]
    rig.feed(call(2, "sync", (5,)))
    await turns()
    assert texts(rig) == [(50, "wrong")]
    assert (method.calls, method.errors) == (2, 1)
    await end(rig)


async def test_calls_over_the_limit_are_refused_behind_interceptors_as_well() -> None:
    event = asyncio.Event()
    rig = await warm(behind(event.wait), max_calls=2)
    rig.feed(*(call(id, "sync", (id,)) for id in (2, 3, 4)))
    assert kinds(rig.frames()) == [(Kind.CALL, 52)]
    method = rig.side.router[b"Work.sync"]  # type: ignore[index]
    assert method.calls == 3
    event.set()
    await turns()
    assert [f.id for f in rig.frames()] == [2, 3]
    await end(rig)


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("near", [1.0, 90.0])
async def test_a_deadline_that_was_shortened_is_kept_from_the_handler_on(
    first: bool, near: float
) -> None:
    """And never put off; whether the first step came to the handler or not."""

    def shorten(one: fastrpc.Call) -> None:
        one.deadline = rig.now + near

    event = asyncio.Event()

    async def wait() -> None:
        waited.append(1)
        if first or len(waited) == 2:
            await event.wait()
        else:
            await asyncio.sleep(0)

    waited: list[int] = []
    rig = await warm(behind(wait, lambda one: shorten(one), first=first))
    rig.feed(call(2, "sync", (9,), time=60_000))
    await turns()
    (running,) = rig.session.running.values()
    assert running.is_called
    assert running.deadline == rig.now + min(near, 60.0)
    event.set()
    await turns()
    await end(rig)
