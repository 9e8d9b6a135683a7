"""Exceptions that both sides know, the call's id, and handlers that raise the worst there is."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

import fastrpc
from tests.server.serving import Raising, serving

CALM = logging.getLogger("tests.calm")
CALM.setLevel(logging.CRITICAL)
pytestmark = [pytest.mark.asyncio, pytest.mark.usefixtures("both_twins")]


@dataclass
class NotEnough(Exception):
    code = 402
    balance: int
    currency: str = "EUR"

    def __str__(self) -> str:
        return f"only {self.balance} {self.currency}"


class Unknown(LookupError):
    """Nobody registers it."""


class Below(NotEnough):
    """Derived from one that is known, and not known itself."""


class Unsendable(Exception):
    """Has arguments that no codec takes."""


class Closed(fastrpc.RpcError):
    def __init__(self, hours: list[int]) -> None:
        super().__init__(409, "closed", {"hours": hours})
        self.hours = hours


class Raw(type):
    """Makes classes that can't be looked up."""

    __hash__ = None  # type: ignore[assignment]
    __name__ = property(lambda cls: 1 / 0)  # type: ignore[assignment]


class Bare(Exception, metaclass=Raw):
    __class__ = property(lambda self: 1 / 0)  # type: ignore[assignment]
    __cause__ = property(lambda self: 1 / 0)  # type: ignore[assignment]
    __traceback__ = property(lambda self: 1 / 0)  # type: ignore[assignment]
    args = property(lambda self: 1 / 0)  # type: ignore[assignment]
    code = property(lambda self: 1 / 0)

    def __str__(self) -> str:
        return str(self)

    __repr__ = __str__


class BareRpcError(fastrpc.RpcError):
    def __init__(self) -> None: ...

    code = property(lambda self: 1 / 0)  # type: ignore[assignment]
    message = property(lambda self: 1 / 0)  # type: ignore[assignment]
    data = property(lambda self: 1 / 0)


def _ring() -> Exception:
    one, other = ValueError("one"), NotEnough(1)
    one.__cause__, other.__cause__ = other, one
    return one


def _chained() -> Exception:
    error: Exception = NotEnough(3)
    error.__cause__ = KeyError("row 7 of table secrets")
    error.__cause__.__cause__ = Closed([8, 20])
    return error


def _huge_group() -> BaseException:
    return BaseExceptionGroup("many", [KeyboardInterrupt(), ValueError("x" * 100_000)] * 50)


def _deep_group() -> BaseException:
    group: BaseException = ValueError("inside")
    for _ in range(2000):
        group = BaseExceptionGroup("", [group])
    return group


MEANT: dict[str, Callable[[], BaseException]] = {
    "fields": lambda: NotEnough(3, "CHF"),
    "chained": _chained,
    "closed": lambda: Closed([8, 20]),
}
UNMEANT: dict[str, Callable[[], BaseException]] = {
    "unknown": lambda: Unknown("x"),
    "below": lambda: Below(3),
    "bare": Bare,
    "ring": _ring,
    "group": lambda: ExceptionGroup("several", [NotEnough(1), Bare()]),
    "huge group": _huge_group,
    "deep group": _deep_group,
    "StopIteration": lambda: StopIteration(NotEnough(1)),
    "StopAsyncIteration": StopAsyncIteration,
    "GeneratorExit": GeneratorExit,
    "SystemExit": lambda: SystemExit(Bare()),
    "CancelledError": lambda: asyncio.CancelledError(Bare()),
}
ODD_RPC_ERRORS: dict[str, Callable[[], BaseException]] = {
    "unsendable": lambda: Unsendable(object()),
    "bare rpc": BareRpcError,
}
ALL = {**MEANT, **UNMEANT, **ODD_RPC_ERRORS}


class Bank(Raising):
    """Raises, in every way of being called."""

    def _make(self, what: str) -> BaseException:
        return ALL[what]()

    async def unsendable(self) -> Any:
        return object()


WAYS = ["sync", "inline", "task", "thread"]
KNOWN = [NotEnough, Closed, Unsendable]


async def raised(client: Any, way: str, what: str) -> Any:
    with pytest.raises(Exception) as caught:  # noqa: PT011
        await client.call(f"Bank.{way}", what)
    return caught.value


@pytest.mark.parametrize("way", WAYS)
async def test_registered_exceptions_arrive_as_themselves(
    way: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(Bank(), errors=KNOWN) as server:
        async with fastrpc.connect(server.targets[0], errors=KNOWN) as client:
            error = await raised(client, way, "fields")
            assert type(error) is NotEnough
            assert (error.balance, error.currency) == (3, "CHF")
            remote = error.__cause__
            assert type(remote) is fastrpc.RpcError
            assert (remote.code, remote.type, remote.message) == (402, "NotEnough", "only 3 CHF")
            assert (remote.method, remote.ran, remote.trace) == (f"Bank.{way}", "yes", None)
            assert remote.call_id
            closed = await raised(client, way, "closed")
            assert type(closed) is Closed
            assert (closed.hours, closed.code, closed.ran) == ([8, 20], 409, "yes")
    assert not caplog.records


@pytest.mark.parametrize("traced", [False, True])
async def test_what_it_was_raised_from(traced: bool) -> None:
    async with serving(Bank(), errors=KNOWN, tracebacks=traced) as server:
        async with fastrpc.connect(server.targets[0], errors=KNOWN) as client:
            error = await raised(client, "task", "chained")
            remote = error.__cause__
            seen = []
            while (remote := remote.__cause__) is not None:
                seen.append((type(remote), remote.type, remote.message))
            key = (fastrpc.RemoteError, "KeyError", "'row 7 of table secrets'")
            closed = (fastrpc.RemoteError, "Closed", "closed")
            assert seen == ([key, closed] if traced else [closed])
            assert (error.__cause__.trace is not None) is traced


async def test_a_client_that_does_not_know_it_loses_nothing() -> None:
    async with serving(Bank()) as server:
        server.register_error(NotEnough, "bank.NotEnough")
        async with fastrpc.connect(server.targets[0]) as client:
            error = await raised(client, "sync", "fields")
            assert type(error) is fastrpc.RpcError
            assert (error.type, error.code, error.message) == ("bank.NotEnough", 402, "only 3 CHF")
            assert error.data == {"balance": 3, "currency": "CHF"}
        known = {"bank.NotEnough": NotEnough}
        async with fastrpc.connect(server.targets[0], errors=known) as client:
            assert type(await raised(client, "sync", "fields")) is NotEnough


async def test_a_server_that_does_not_know_it_means_nothing_by_it() -> None:
    async with serving(Bank(), log=CALM) as server:
        async with fastrpc.connect(server.targets[0], errors=KNOWN) as client:
            error = await raised(client, "sync", "fields")
            assert type(error) is fastrpc.RemoteError
            assert (error.status, error.type, error.data) == (50, "NotEnough", None)


@pytest.mark.parametrize("traced", [False, True])
@pytest.mark.parametrize("way", WAYS)
async def test_the_worst_that_can_be_raised_is_one_typed_error(way: str, traced: bool) -> None:
    async with serving(Bank(), log=CALM, errors=KNOWN, tracebacks=traced) as server:
        async with fastrpc.connect(server.targets[0], errors=KNOWN, timeout=5.0) as client:
            for what in UNMEANT:
                error = await raised(client, way, what)
                expected = fastrpc.Cancelled if what == "CancelledError" else fastrpc.RemoteError
                assert type(error) is expected, what
                assert error.call_id
                if what == "bare":
                    assert error.type == "Bare"
                    assert error.message == "<Bare that can't be printed>"
            odd = await raised(client, way, "bare rpc")
            assert (type(odd), odd.code, odd.type, odd.data) == (
                fastrpc.RpcError,
                0,
                "BareRpcError",
                None,
            )
            lost = await raised(client, way, "unsendable")
            assert (type(lost), lost.type) == (fastrpc.RpcError, "Unsendable")
            assert "its state did not come with it" in lost.__notes__[0]
            assert await client.call("Bank.add", 2, 3) == 5
        assert server.stats().accepted == 1


@pytest.mark.parametrize("way", WAYS)
async def test_the_log_and_the_caller_name_the_call_alike(
    way: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(Bank()) as server:
        async with fastrpc.connect(server.targets[0]) as client:
            await client.call("Bank.add", 1, 2)
            for what in ("unknown", "bare", "deep group"):
                error = await raised(client, way, what)
                tag, _, number = error.call_id.partition("-")
                assert len(tag) == 8
                assert int(number) > 1
                (line,) = [
                    r.getMessage() for r in caplog.records if error.call_id in r.getMessage()
                ]
                assert f"call {error.call_id} of Bank.{way} raised {error.type}" in line
                assert error.__notes__ == [f"call {error.call_id} in the server's log"]
            with pytest.raises(fastrpc.Internal) as caught:
                await client.call("Bank.unsendable")
            assert f"call {caught.value.call_id}: Bank.unsendable: the result" in caplog.text


async def test_calls_of_two_connections_have_two_names() -> None:
    async with serving(Bank(), log=CALM) as server:
        names = set()
        for _ in range(2):
            async with fastrpc.connect(server.targets[0]) as client:
                names.add((await raised(client, "sync", "unknown")).call_id)
        assert len(names) == 2


async def test_a_log_that_fails_costs_nobody_a_reply() -> None:
    class Failing(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise RecursionError

    log = logging.Logger("tests.failing")
    log.addHandler(Failing())
    async with serving(Bank(), log=log) as server:
        async with fastrpc.connect(server.targets[0], timeout=5.0) as client:
            for way in WAYS:
                assert type(await raised(client, way, "unknown")) is fastrpc.RemoteError
            assert await client.call("Bank.add", 2, 3) == 5


async def test_a_state_too_large_for_the_caller_is_left_out() -> None:
    class Large(Exception):
        pass

    def fail() -> None:
        raise Large("x" * 50_000)

    async with serving(fail, errors=[Large]) as server:
        async with fastrpc.connect(server.targets[0], errors=[Large], max_body=10_000) as client:
            with pytest.raises(fastrpc.RpcError) as caught:
                await client.call("fail")
            assert (caught.value.type, len(caught.value.message)) == ("Large", 2000)
            assert "state did not come" in caught.value.__notes__[0]


async def test_wrong_classes_are_refused_at_once() -> None:
    with pytest.raises(fastrpc.ConfigError, match="no subclass of Exception"):
        fastrpc.Server(errors=[KeyboardInterrupt])  # type: ignore[list-item]
    server = fastrpc.Server(errors={"a": NotEnough})
    with pytest.raises(fastrpc.ConfigError, match="registered as 'a' already"):
        server.register_error(NotEnough, "b")
