"""Whatever a handler does, its caller gets one typed answer and nobody else notices."""

import asyncio
import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest

import fastrpc
from tests.server.serving import Raising, serving, target_of, until

CALM = logging.getLogger("tests.calm")
CALM.setLevel(logging.CRITICAL)
pytestmark = [pytest.mark.asyncio, pytest.mark.usefixtures("both_twins")]


class Unprintable(Exception):
    def __str__(self) -> str:
        raise ValueError("no text for you")

    __repr__ = __str__


class Exiting(Exception):
    def __str__(self) -> str:
        raise SystemExit(3)


class Cyclic(Exception):
    def __init__(self) -> None:
        super().__init__(self)
        self.__cause__ = self


class Forgetful(fastrpc.RpcError):
    def __init__(self) -> None:
        """Forget to call the base."""


class Odd(fastrpc.RpcError):
    def __init__(self) -> None:
        super().__init__(5, "fine")
        self.code = "five"  # type: ignore[assignment]
        self.message = Unprintable()  # type: ignore[assignment]


def _endless() -> list[Any]:
    endless: list[Any] = []
    endless.append(endless)
    return endless


def _deep() -> list[Any]:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    return deep


ACTS: dict[str, Callable[[], BaseException]] = {
    "ValueError": lambda: ValueError("wrong"),
    "empty": RuntimeError,
    "SystemExit": lambda: SystemExit(2),
    "GeneratorExit": GeneratorExit,
    "StopIteration": lambda: StopIteration(1),
    "StopAsyncIteration": StopAsyncIteration,
    "CancelledError": asyncio.CancelledError,
    "TimeoutError": TimeoutError,
    "MemoryError": MemoryError,
    "RecursionError": RecursionError,
    "surrogates": lambda: ValueError("\ud800 half a pair"),
    "endless": lambda: ValueError("x" * 1_000_000),
    "unprintable": Unprintable,
    "exiting": Exiting,
    "cyclic": Cyclic,
    "group": lambda: ExceptionGroup("several", [ValueError("a"), KeyError("b")]),
    "library": lambda: fastrpc.MethodNotFound("of somebody else", method="Other.get"),
    "lost": lambda: fastrpc.ConnectionLost("of somebody else"),
}

APPLICATION: dict[str, tuple[Callable[[], BaseException], int, str]] = {
    "plain": (lambda: fastrpc.RpcError(7, "no"), 7, "no"),
    "largest": (lambda: fastrpc.RpcError(2**32 - 1, ""), 2**32 - 1, ""),
    "data": (lambda: fastrpc.RpcError(8, "no", data={"a": [1]}), 8, "no"),
    "data that can't be sent": (lambda: fastrpc.RpcError(9, "no", data=object()), 9, "no"),
    "data without end": (lambda: fastrpc.RpcError(9, "no", data=_endless()), 9, "no"),
    "forgetful": (Forgetful, 0, ""),
    "odd": (Odd, 0, "<Odd that can't be printed>"),
}

RESULTS: dict[str, Callable[[], Any]] = {
    "object": object,
    "function": lambda: print,
    "generator": lambda: (n for n in range(3)),
    "endless": _endless,
    "deep": _deep,
    "number too large": lambda: 2**70,
    "half a pair": lambda: "\ud800",
    "coroutine-like": lambda: type("Awaitable", (), {"__await__": lambda self: iter(())})(),
}


class Misbehaved(Raising):
    """Every way of going wrong, in every way of being called."""

    def _make(self, what: str) -> BaseException:
        return ACTS[what]() if what in ACTS else APPLICATION[what][0]()

    async def at_once(self, what: str) -> NoReturn:
        if what:
            raise self._make(what)
        await asyncio.sleep(0)
        raise AssertionError

    def sync_result(self, what: str) -> Any:
        return RESULTS[what]()

    async def inline_result(self, what: str) -> Any:
        return RESULTS[what]()

    async def task_result(self, what: str) -> Any:
        await asyncio.sleep(0)
        return RESULTS[what]()

    @fastrpc.rpc(blocking=True)
    def thread_result(self, what: str) -> Any:
        return RESULTS[what]()

    def sync_size(self, size: int) -> bytes:
        return bytes(size)

    async def task_size(self, size: int) -> bytes:
        await asyncio.sleep(0)
        return bytes(size)


WAYS = ["sync", "inline", "task", "at_once", "thread"]


@pytest.mark.parametrize("way", WAYS)
async def test_whatever_is_raised_becomes_a_typed_error(way: str) -> None:
    async with serving(Misbehaved(), log=CALM) as server:
        async with fastrpc.connect(server.targets[0], timeout=5.0) as client:
            for what, make in ACTS.items():
                with pytest.raises(fastrpc.CallError) as caught:
                    await client.call(f"Misbehaved.{way}", what)
                error = caught.value
                if isinstance(error, fastrpc.Cancelled):
                    assert what == "CancelledError"
                    continue
                assert type(error) is fastrpc.RemoteError
                assert error.ran == "yes"
                raised = make()
                # Python makes these of a coroutine that lets an iterator's end out.
                stops = isinstance(raised, (StopIteration, StopAsyncIteration))
                if not stops or way == "sync":
                    assert error.type == type(raised).__name__
                assert len(error.message) <= 2000
                assert error.trace is None
            assert await client.call("Misbehaved.add", 2, 3) == 5
        stats = server.stats()
        assert stats.methods[f"Misbehaved.{way}"] == (len(ACTS), len(ACTS))


@pytest.mark.parametrize("way", WAYS)
async def test_what_is_raised_on_purpose_arrives_as_it_is(way: str) -> None:
    async with serving(Misbehaved(), log=CALM) as server:
        async with fastrpc.connect(server.targets[0], timeout=5.0) as client:
            for what, (make, code, text) in APPLICATION.items():
                with pytest.raises(fastrpc.RpcError) as caught:
                    await client.call(f"Misbehaved.{way}", what)
                error = caught.value
                assert (error.code, error.type) == (code, type(make()).__name__)
                assert error.message == text or not text
                assert error.data == ({"a": [1]} if what == "data" else None)


@pytest.mark.parametrize("way", ["sync", "inline", "task", "thread"])
async def test_results_that_can_not_be_sent(way: str) -> None:
    async with serving(Misbehaved(), log=CALM) as server:
        async with fastrpc.connect(server.targets[0], timeout=5.0) as client:
            for what in RESULTS:
                with pytest.raises(fastrpc.Internal, match="can't be encoded") as caught:
                    await client.call(f"Misbehaved.{way}_result", what)
                assert caught.value.ran == "yes"
            assert await client.call("Misbehaved.add", 2, 3) == 5


@pytest.mark.parametrize("way", ["sync", "task"])
@pytest.mark.parametrize("codec", ["msgpack", "json"])
async def test_a_result_at_the_client_limit_and_one_past_it(way: str, codec: str) -> None:
    # As msgpack, bytes of 3 to 5 more than their number; as JSON, 4 characters for 3.
    at, past = (9_997, 9_998) if codec == "msgpack" else (7_497, 7_500)
    async with serving(Misbehaved(), log=CALM) as server:
        client = fastrpc.connect(server.targets[0], timeout=5.0, codec=codec, max_body=10_000)
        async with client:
            assert await client.call(f"Misbehaved.{way}_size", at)
            with pytest.raises(fastrpc.Internal, match="max_body of 10000"):
                await client.call(f"Misbehaved.{way}_size", past)


async def test_what_a_handler_raises_is_logged_once_with_its_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with serving(Misbehaved()) as server:
        async with fastrpc.connect(server.targets[0], timeout=5.0) as client:
            for _ in range(3):
                with pytest.raises(fastrpc.RemoteError):
                    await client.call("Misbehaved.task", "ValueError")
    (record,) = [each for each in caplog.records if each.name == "fastrpc.server"]
    assert "Misbehaved.task raised ValueError" in record.getMessage()
    assert record.exc_info is not None
    assert "wrong" in caplog.text


async def test_errors_on_purpose_are_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    async with serving(Misbehaved()) as server:
        async with fastrpc.connect(server.targets[0], timeout=5.0) as client:
            with pytest.raises(fastrpc.RpcError):
                await client.call("Misbehaved.task", "plain")
    assert not caplog.records


async def test_tracebacks_are_sent_only_on_demand() -> None:
    async with serving(Misbehaved(), log=CALM, tracebacks=True) as server:
        async with fastrpc.connect(server.targets[0], timeout=5.0) as client:
            for way in WAYS:
                for what in ("ValueError", "unprintable", "cyclic"):
                    with pytest.raises(fastrpc.RemoteError) as caught:
                        await client.call(f"Misbehaved.{way}", what)
                    assert caught.value.trace is not None
                    assert "_make" in caught.value.trace or way in caught.value.trace


class Turning:
    """What a class written in a hurry does."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.there, self.free = threading.Semaphore(0), threading.Event()

    def add(self, a: int, b: int) -> int:
        return a + b

    def note(self, text: str) -> None:
        self.seen.append(text)

    async def note_later(self, text: str) -> None:
        await asyncio.sleep(0)
        self.seen.append(text)

    async def break_later(self) -> NoReturn:
        await asyncio.sleep(0)
        raise ValueError("nobody hears this")

    @fastrpc.rpc(blocking=True)
    def which_thread(self) -> str:
        return threading.current_thread().name

    @fastrpc.rpc(blocking=True)
    def meet(self) -> None:
        self.there.release()
        assert self.free.wait(10)

    async def nothing(self) -> None:
        await asyncio.sleep(0)

    def default(self, a: int = 1, *more: int, b: int = 2, **named: int) -> list[Any]:
        return [a, list(more), b, named]


@pytest.mark.parametrize("scheme", ["tcp", "unix", "mem"])
async def test_every_way_of_passing_arguments(scheme: str, tmp_path: Path) -> None:
    async with serving(Turning(), target_of(scheme, tmp_path), log=CALM) as server:
        for codec in ("msgpack", "json"):
            async with fastrpc.connect(server.targets[0], codec=codec, timeout=5.0) as client:
                assert await client.call("Turning.default") == [1, [], 2, {}]
                assert await client.call("Turning.default", 5, 6, 7) == [5, [6, 7], 2, {}]
                assert await client.call("Turning.default", b=3, c=4) == [1, [], 3, {"c": 4}]
                assert await client.call("Turning.default", 5, 6, b=7) == [5, [6], 7, {}]
                assert await client.call("Turning.add", 1, b=2) == 3
                assert await client.call("Turning.nothing") is None
                for args, named in (((), {}), ((1, 2, 3), {}), (("1", 2), {}), ((1,), {"a": 2})):
                    with pytest.raises(fastrpc.InvalidArgument, match=r"Turning\.add") as caught:
                        await client.call("Turning.add", *args, **named)
                    assert caught.value.ran == "no"


async def test_oneway_calls_run_and_are_never_answered(caplog: pytest.LogCaptureFixture) -> None:
    service = Turning()
    async with serving(service) as server:
        async with fastrpc.connect(server.targets[0], timeout=5.0) as client:
            client.notify("Turning.note", "now")
            client.notify("Turning.note_later", "later")
            client.notify("Turning.note", text="named")
            client.notify("Turning.break_later")
            client.notify("Turning.note", 5)
            client.notify("No.such")
            await client.call("Turning.add", 1, 2)
            await until(lambda: len(service.seen) == 3 and not server.stats().running)
            session = server._hall.sessions[0]
            assert session.lane.bytes_out < 1000
    assert sorted(service.seen) == ["later", "named", "now"]
    assert "oneway call refused" in caplog.text


async def test_blocking_handlers_run_beside_the_loop_and_beside_each_other() -> None:
    service = Turning()
    async with serving(service, log=CALM, threads=4) as server:
        async with fastrpc.connect(server.targets[0], timeout=5.0) as client:
            name = await client.call("Turning.which_thread")
            assert name.startswith("fastrpc-handler-")
            slow = [asyncio.ensure_future(client.call("Turning.meet")) for _ in range(8)]
            for _ in range(4):  # four at once, and the others after them
                assert await asyncio.to_thread(service.there.acquire, timeout=10)
            assert await client.call("Turning.add", 1, 2) == 3
            assert not any(call.done() for call in slow)
            assert not service.there.acquire(blocking=False)
            service.free.set()
            await asyncio.gather(*slow)
    await until(lambda: not [t for t in threading.enumerate() if "fastrpc-handler" in t.name])


async def test_a_client_that_goes_cancels_its_handlers(quick_ticks: None) -> None:
    class Waiting:
        """Waits."""

        def __init__(self) -> None:
            self.ended = 0

        async def forever(self) -> None:
            try:
                await asyncio.Event().wait()
            finally:
                self.ended += 1

    service = Waiting()
    async with serving(service, log=CALM) as server:
        async with fastrpc.connect(server.targets[0], ping_interval=0.001) as client:
            calls = [asyncio.ensure_future(client.call("Waiting.forever")) for _ in range(5)]
            await until(lambda: server.stats().running == 5)
        with pytest.raises(fastrpc.ConnectionLost):
            await calls[0]
        await asyncio.wait(calls)
        for call in calls[1:]:
            call.exception()
        await until(lambda: service.ended == 5 and not server.stats().connections)


async def test_keyboard_interrupt_in_a_thread_is_an_error_like_any_other() -> None:
    class Interrupting:
        """Raises what belongs to people."""

        @fastrpc.rpc(blocking=True)
        def thread(self) -> None:
            raise KeyboardInterrupt

    async with serving(Interrupting(), log=CALM) as server:
        async with fastrpc.connect(server.targets[0], timeout=5.0) as client:
            with pytest.raises(fastrpc.RemoteError) as caught:
                await client.call("Interrupting.thread")
            assert caught.value.type == "KeyboardInterrupt"
