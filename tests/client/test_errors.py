"""Exceptions that are made again at the client, with a loop and without, whatever the server says."""

import asyncio
import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest
import uvloop

import fastrpc
from fastrpc.wire import StatusCode
from tests.client.scripted import Peer, scripted
from tests.client.served import Background

pack = msgspec.msgpack.encode


@dataclass
class NotEnough(Exception):
    balance: int


class Picky(Exception):
    def __init__(self, text: str) -> None:
        if text != "right":
            raise SystemExit(3)
        super().__init__(text)


KNOWN = [NotEnough, Picky]


def ask_asyncio(
    target: str,
    *methods: str,
    loop_factory: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop,
    **options: Any,
) -> list[Any]:
    """Return what each call gives or raises, one after the other on one connection."""

    async def ask() -> list[Any]:
        async with fastrpc.connect(target, timeout=5.0, **options) as client:
            return [await settled(client.call(method)) for method in methods]

    async def settled(call: Any) -> Any:
        try:
            return await call
        except Exception as exc:
            return exc

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        return runner.run(ask())


def ask_blocking(target: str, *methods: str, **options: Any) -> list[Any]:
    """Do the same without a loop."""
    told: list[Any] = []
    with fastrpc.connect_sync(target, timeout=5.0, **options) as client:
        for method in methods:
            try:
                told.append(client.call(method))
            except Exception as exc:
                told.append(exc)
    return told


Ask = Callable[..., list[Any]]
ASKS: dict[str, Ask] = {
    "asyncio": ask_asyncio,
    "uvloop": functools.partial(ask_asyncio, loop_factory=uvloop.new_event_loop),
    "blocking": ask_blocking,
}


@pytest.fixture(params=ASKS)
def ask(request: pytest.FixtureRequest) -> Ask:
    return ASKS[request.param]


def poor() -> None:
    raise NotEnough(3) from ValueError("hidden")


def broken() -> None:
    raise LookupError("nothing here")


@pytest.fixture
def server() -> Iterator[Background]:
    with Background(errors={"bank.NotEnough": NotEnough}) as server:
        for function in (poor, broken):
            server.do(lambda function=function: server.server.register(function))
        yield server


def test_a_registered_exception_is_raised_as_itself(ask: Ask, server: Background) -> None:
    known = {"bank.NotEnough": NotEnough}
    (error,) = ask(server.target, "poor", errors=known)
    assert (type(error), error) == (NotEnough, NotEnough(3))
    remote = error.__cause__
    assert (type(remote), remote.type, remote.method) == (
        fastrpc.RpcError,
        "bank.NotEnough",
        "poor",
    )
    assert (remote.__cause__, remote.ran) == (None, "yes")
    (unknown,) = ask(server.target, "poor")
    assert (type(unknown), unknown.data) == (fastrpc.RpcError, {"balance": 3})


def test_the_callers_call_id_is_in_the_log(
    ask: Ask, server: Background, caplog: pytest.LogCaptureFixture
) -> None:
    first, second, _ = ask(server.target, "poor", "broken", "poor")
    assert first.call_id.partition("-")[0] == second.call_id.partition("-")[0]
    assert first.call_id != second.call_id
    assert f"call {second.call_id} of broken raised LookupError" in caplog.text
    assert second.__notes__ == [f"call {second.call_id} in the server's log"]


def reply(status: int, body: Any, arg: int = 0) -> dict[str, Any]:
    payload = body if isinstance(body, bytes) else pack(body)
    return {"status": status, "payload": payload, "arg": arg}


def nested(depth: int) -> Any:
    value: Any = None
    for _ in range(depth):
        value = [value]
    return value


APP, FAULT = int(StatusCode.APPLICATION), int(StatusCode.SERVER_ERROR)
#: A hostile reply, the class that the caller gets, and what its note says.
HOSTILE: list[tuple[dict[str, Any], type[Exception], str]] = [
    (reply(APP, {"type": "NotEnough", "data": {"balance": 3}}), NotEnough, ""),
    (reply(APP, {"type": "NotEnough"}), fastrpc.RpcError, "state did not come"),
    (reply(APP, {"type": "NotEnough", "data": 5}), fastrpc.RpcError, "state did not come"),
    (reply(APP, {"type": "NotEnough", "data": {"balance": "3"}}), fastrpc.RpcError, "expected int"),
    (reply(APP, {"type": "NotEnough", "data": {1: 2}}), fastrpc.RpcError, "'balance' is missing"),
    (reply(APP, {"type": "NotEnough", "data": {"args": [1, 2]}}), fastrpc.RpcError, "too many"),
    (reply(APP, {"type": "NotEnough", "data": nested(80)}), fastrpc.RpcError, ""),
    (reply(APP, {"type": "Picky", "data": {"args": ["wrong"]}}), fastrpc.RpcError, "SystemExit: 3"),
    (reply(APP, {"type": "Picky", "data": {"args": ["right"]}}), Picky, ""),
    (reply(APP, {"type": "os.system", "data": {"args": ["true"]}}), fastrpc.RpcError, ""),
    (reply(APP, {"type": ["NotEnough"], "data": {"balance": 3}}), fastrpc.RpcError, ""),
    (reply(APP, {"type": "x" * 100_000, "message": "y" * 100_000}), fastrpc.RpcError, ""),
    (reply(APP, {"causes": [{"type": n} for n in range(9000)]}), fastrpc.RpcError, ""),
    (reply(APP, {"message": nested(60), "trace": 5}), fastrpc.RpcError, ""),
    (reply(FAULT, {"type": "NotEnough", "data": {"balance": 3}}), fastrpc.RemoteError, "log"),
    (reply(FAULT, b"\xdf\xff\xff\xff\xff"), fastrpc.RemoteError, "log"),
    (reply(FAULT, b"\x91" * 50_000), fastrpc.RemoteError, "log"),
    (reply(FAULT, [1, 2]), fastrpc.RemoteError, "log"),
    (reply(APP, b""), fastrpc.RpcError, ""),
    (reply(99, {"retry_ms": 2**64 - 1}), fastrpc.Internal, "log"),
]  # fmt: skip


def play(peer: Peer) -> None:
    peer.hello()
    for told, _, _ in HOSTILE:
        peer.reply(peer.read_call(), **told)
    peer.reply(peer.read_call(), pack("well"))
    peer.until_end()


def test_whatever_a_server_says_is_one_typed_error_and_calls_go_on(ask: Ask) -> None:
    with scripted(play) as server:
        *errors, last = ask(server.target, *["any"] * (len(HOSTILE) + 1), errors=KNOWN)
        assert server.connections == 1
    assert last == "well"
    for error, (told, kind, note) in zip(errors, HOSTILE, strict=True):
        assert type(error) is kind, (told["payload"][:60], error)
        notes = getattr(error, "__notes__", [])
        assert len(notes) == bool(note), notes
        assert note in "".join(notes)
        if isinstance(error, fastrpc.CallError):
            assert error.method == "any"


@pytest.mark.parametrize("connect", [fastrpc.connect, fastrpc.connect_sync])
@pytest.mark.parametrize(
    ("given", "words"),
    [
        (5, "errors must be classes, or a map"),
        (NotEnough, "errors must be classes, or a map"),
        ([fastrpc.Overloaded], "fastrpc's own"),
        ([SystemExit], "no subclass of Exception"),
        ({"": NotEnough}, "1 to 200 printable"),
    ],
)
def test_wrong_classes_are_refused_at_once(connect: Any, given: Any, words: str) -> None:
    with pytest.raises(fastrpc.ConfigError, match=words):
        connect("tcp://127.0.0.1:1", errors=given)
