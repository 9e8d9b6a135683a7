"""A large call that there is no place for is refused without a look at its arguments."""

import asyncio
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, ClassVar

import msgspec
import pytest

from fastrpc.frame import encode_frame
from fastrpc.wire import Kind, Serializer
from tests.server.serving import use_twin
from tests.session.rig import Rig

pytestmark = pytest.mark.asyncio
MSGPACK = int(Serializer.MSGPACK)


@dataclass
class Counted:
    """Counts how many of it were made."""

    text: str
    made: ClassVar[int] = 0

    def __post_init__(self) -> None:
        Counted.made += 1


class Work:
    def __init__(self) -> None:
        self.go_on = asyncio.Event()

    async def wait(self, item: Counted) -> int:
        await self.go_on.wait()
        return len(item.text)

    def add(self, a: int, b: int) -> int:
        return a + b


def call(id: int, method: str, *args: Any, named: bool = False) -> bytes:
    payload = {"item": args[0]} if named else args
    return encode_frame(
        Kind.CALL, id, name=f"Work.{method}".encode(), serializer=MSGPACK,
        payload=msgspec.msgpack.encode(payload),
    )  # fmt: skip


LARGE, SMALL = {"text": "x" * 5000}, {"text": "x"}


async def turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.fixture(autouse=True)
def none_made(twin: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    use_twin(monkeypatch, twin)
    Counted.made = 0


@pytest.mark.parametrize("limit", ["max_calls", "max_running"])
@pytest.mark.parametrize("named", [False, True])
async def test_only_the_first_of_a_row_is_decoded(limit: str, named: bool) -> None:
    service = Work()
    options = {"max_calls": 1} if limit == "max_calls" else {"answers": {"max_running": 1}}
    rig = Rig(service, **options).greet()
    rig.feed(call(1, "wait", LARGE))
    assert Counted.made == 1
    for id in range(2, 12):
        rig.feed(call(id, "wait", LARGE, named=named))
    assert Counted.made == (1 if named else 2)
    replies = rig.frames()
    assert [(frame.id, frame.status) for frame in replies] == [(id, 52) for id in range(2, 12)]
    assert all(limit in msgspec.msgpack.decode(frame.payload)["message"] for frame in replies)
    assert rig.side.answers is not None
    assert rig.side.answers.replies.refused == 10

    rig.feed(call(12, "add", 2, 3))  # what needs no place is answered
    assert [(frame.id, frame.payload) for frame in rig.frames()] == [(12, b"\x05")]
    assert not rig.session.lane.draining  # and the lane has it back

    rig.feed(call(13, "wait", LARGE))
    service.go_on.set()
    await turns()
    rig.feed(call(14, "wait", LARGE))
    await turns()
    statuses = [(frame.id, frame.status) for frame in rig.frames()]
    assert statuses == [(13, 52), (1, 0), (14, 0)]
    assert not rig.session.lane.draining


async def test_small_ones_stay_with_the_lane() -> None:
    rig = Rig(Work(), max_calls=1).greet()
    for id in range(1, 6):
        rig.feed(call(id, "wait", SMALL))
    assert not rig.session.lane.draining
    assert [frame.status for frame in rig.frames()] == [52] * 4


async def test_order_is_kept_within_one_read() -> None:
    rig = Rig(Work(), max_calls=1).greet()
    rig.feed(*(
        call(id, "wait", LARGE) if id % 2 else call(id, "add", id, 0) for id in range(1, 10)
    ))  # fmt: skip
    assert [(frame.id, frame.status) for frame in rig.frames()] == [
        (id, 52 if id % 2 else 0) for id in range(2, 10)
    ]


async def test_a_server_that_drains_goes_on_draining() -> None:
    service = Work()
    rig = Rig(service, max_calls=1).greet()
    rig.feed(call(1, "wait", LARGE), call(2, "wait", LARGE))
    rig.session.drain()
    service.go_on.set()
    await turns()
    rig.feed(call(3, "wait", LARGE), call(4, "add", 1, 2))
    refused = [(frame.id, frame.status) for frame in rig.frames() if frame.kind == Kind.CALL]
    assert refused == [(2, 52), (1, 0), (3, 53), (4, 53)]
