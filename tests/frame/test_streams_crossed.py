"""Streams between a compiled and a pure end, and the reverse: both ways, under any credit."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastrpc.wire import BIG_BODY
from tests.frame.halves import Job, Receiver, Sender
from tests.frame.rig import PURE, Owner, Rig, pack
from tests.frame.twins import COMPARED, agree, open_twin

pytestmark = pytest.mark.compiled

PAIRS = [("pure", "compiled"), ("compiled", "pure"), ("compiled", "compiled"), ("pure", "pure")]


class End:
    """One end of a stream that goes both ways, and what it does: send all, read all.

    Args:
        twin: Its twin's name.
        own: Whether it has opened the stream.
        values: What it sends.
        window: Credit it gives.
        credit: Credit it has.
    """

    def __init__(self, twin: str, own: bool, values: list[Any], window: int, credit: int) -> None:
        self.rig = Rig(open_twin(twin))
        self.rig.lane.raw = True
        self.rig.owner.does["frames"] = self._frames
        self.receiver = Receiver(self.rig, own=own, window=window)
        self.sender = Sender(self.rig, own=own, credit=credit)
        self.own = own
        self.got: list[Any] = []
        self.jobs = [Job(self._send(values)), Job(self._read())]

    async def _send(self, values: list[Any]) -> None:
        async def items() -> AsyncIterator[Any]:
            for value in values:
                yield value

        for value in values[::3]:
            await self.sender.outlet.send(value)
        await self.sender.outlet.pump(items())
        self.rig.lane.send(PURE.encode_frame(4, 1, reply=not self.own))

    async def _read(self) -> None:
        async for item in self.receiver.reader():
            self.got.append(item)

    def _frames(self, owner: Owner, frames: list[Any]) -> None:
        for frame in frames:
            if frame.kind == 5:
                self.sender.outlet.grant(frame.arg)
            else:
                self.receiver.inlet.end(None)


def run(
    pair: tuple[str, str], there: list[Any], back: list[Any], window: int, most: int
) -> list[Any]:
    """Let both ends work until nothing moves; return what came of it."""
    ends = [End(pair[0], True, there, window, window), End(pair[1], False, back, window, window)]
    moved = True
    sizes = []
    while moved:
        moved = False
        for end, other in (ends, ends[::-1]):
            for job in end.jobs:
                if job.can_go:
                    job.step()
                    moved = True
            end.rig.turn()
            data = end.rig.taken()
            sizes.append(len(data))
            moved = moved or bool(data)
            other.rig.receive(data, most)
    assert all(job.told == ("returned", None) for end in ends for job in end.jobs)
    return [(end.got, end.receiver.odd, end.rig.owner.log, end.rig.state(), sizes) for end in ends]


_VALUES = st.lists(
    st.one_of(
        st.integers(0, 300), st.none(), st.text(max_size=40),
        st.sampled_from(["x" * 3000, "y" * 40_000, bytes(BIG_BODY)]),
    ),
    max_size=12,
)  # fmt: skip


@given(
    there=_VALUES, back=_VALUES, window=st.sampled_from([1, 50, 1000, 2**18]),
    most=st.sampled_from([2**30, 1000, 33]),
)  # fmt: skip
def test_any_two_of_them_stream_to_each_other(
    there: list[Any], back: list[Any], window: int, most: int
) -> None:
    if most == 33 and any(len(repr(value)) > 10_000 for value in (*there, *back)):
        most = 3333
    want, *others = (run(pair, there, back, window, most) for pair in PAIRS)
    for other in others:
        agree("streams both ways", want, other, (there, back, window, most))
    for (got, odd, *_), values in zip(want, (back, there), strict=True):
        assert len(got) == len([*values[::3], *values])
        plain = [value for value in (*values[::3], *values) if value != bytes(BIG_BODY)]
        assert [one for one in got if not isinstance(one, tuple)] == plain
        assert len(odd) == len(got) - len(plain)


@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
def test_a_thousand_items_each_way(pair: tuple[str, str]) -> None:
    values = list(range(1000))
    ends = run(pair, values, values, 700, 2**30)
    assert all(got[-1000:] == values for got, *_ in ends)
    COMPARED["streams both ways"] += 1


@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
def test_a_reader_that_does_not_read_holds_a_window_and_a_frame(pair: tuple[str, str]) -> None:
    sender, receiver = (Rig(open_twin(name)) for name in pair)
    outlet, inlet = Sender(sender, credit=500), Receiver(receiver, own=False, window=500)

    async def items() -> AsyncIterator[str]:
        for _ in range(1000):
            yield "x" * 50

    job = Job(outlet.outlet.pump(items())).step()
    sender.turn()
    receiver.receive(sender.taken())
    assert not job.can_go
    size = 20 + len(pack("x" * 50))
    assert 500 <= len(inlet.inlet) * size < 500 + size
