"""Check that the fault pipe harms what it is told to harm, and nothing else."""

import asyncio
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastrpc.errors import ConfigError
from fastrpc.testing import Cut, Delay, FaultPipe, Flip, Split, Stall, random_faults
from fastrpc.testing.pipe import Fault, FaultLine
from fastrpc.transport import Listener, dial, listen
from tests.transport.ends import Client, Echo, turn_until

BODY = bytes(range(256)) * 300


@pytest.fixture(params=["tcp", "unix"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return "tcp://127.0.0.1:0" if request.param == "tcp" else f"unix://{tmp_path}/s"


def sent(steps: list[object]) -> bytes:
    return b"".join(step for step in steps if isinstance(step, bytes))


async def serve(target: str) -> Listener:
    return await listen(target, Echo)


def test_line_without_faults_changes_nothing() -> None:
    line = FaultLine([])
    assert list(line.feed(b"")) == []
    assert list(line.feed(b"abc")) == [b"abc"]


def test_line_cuts_at_the_byte_across_reads() -> None:
    line = FaultLine([Cut(after=5)])
    assert list(line.feed(b"abc")) == [b"abc"]
    steps = list(line.feed(b"defg"))
    assert steps[:2] == [b"de", Cut(after=5)]


def test_line_cuts_before_anything_and_exactly_at_an_end() -> None:
    assert next(iter(FaultLine([Cut(after=0)]).feed(b""))) == Cut(after=0)
    assert list(FaultLine([Cut(after=3)]).feed(b"abc")) == [b"abc", Cut(after=3)]


def test_line_flips_one_bit_at_the_byte() -> None:
    line = FaultLine([Flip(at=0), Flip(at=4, bit=7), Flip(at=99)])
    assert sent(list(line.feed(b"\0\0\0"))) == b"\1\0\0"
    assert sent(list(line.feed(b"\0\0\0"))) == b"\0\x80\0"


def test_line_splits_delays_and_stalls() -> None:
    line = FaultLine([Split(size=2), Delay(steps=3), Stall(after=3)])
    assert list(line.feed(b"abcde")) == [
        Delay(3),
        b"ab",
        Delay(3),
        b"c",
        Stall(3),
        Delay(3),
        b"de",
    ]


@given(
    st.integers(0, 10_000),
    st.lists(st.binary(max_size=60), max_size=20),
)
def test_line_keeps_every_byte_up_to_a_cut(seed: int, reads: list[bytes]) -> None:
    faults = random_faults(seed, span=300)
    assert faults == random_faults(seed, span=300)
    line = FaultLine(faults)
    out = b""
    for data in reads:
        for step in line.feed(data):
            if isinstance(step, Cut):
                assert len(out) == step.after
                return
            if isinstance(step, bytes):
                out += step
    whole = b"".join(reads)
    assert len(out) == len(whole)
    flips = {fault.at for fault in faults if isinstance(fault, Flip)}
    assert {at for at in range(len(out)) if out[at] != whole[at]} == {
        at for at in flips if at < len(whole)
    }


@pytest.mark.asyncio
async def test_pipe_forwards_everything_and_half_closes(target: str) -> None:
    class Answer(asyncio.Protocol):
        """Answers when the question is at its end."""

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport: asyncio.Transport = transport  # type: ignore[assignment]
            self.question = b""

        def data_received(self, data: bytes) -> None:
            self.question += data

        def eof_received(self) -> bool:
            self.transport.write(self.question[::-1])
            self.transport.close()
            return True

    listener = await listen(target, Answer)
    async with FaultPipe(listener.targets[0]) as pipe:
        transport, client = await dial(pipe.target, Client, timeout=5)
        transport.write(BODY)
        transport.write_eof()
        assert await client.lost is None
        assert client.received == BODY[::-1]
        assert pipe.connections == 1
        await turn_until(lambda: not pipe.open_connections)
    listener.close()


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "script",
    [[Split(1)], [Split(7), Delay(2)], [Delay(1)]],
    ids=["split", "split-delay", "delay"],
)
async def test_pipe_that_only_slows(target: str, script: list[Fault]) -> None:
    listener = await serve(target)
    async with FaultPipe(listener.targets[0], forward=script, backward=script) as pipe:
        transport, client = await dial(pipe.target, Client, timeout=5)
        transport.write(BODY[:500])
        await turn_until(lambda: len(client.received) == 500)
        assert client.received == BODY[:500]
        transport.abort()
    await client.lost
    listener.close()


@pytest.mark.asyncio
async def test_pipe_stalls_at_the_byte_until_released(target: str) -> None:
    listener = await serve(target)
    async with FaultPipe(listener.targets[0], forward=[Stall(after=10)]) as pipe:
        transport, client = await dial(pipe.target, Client, timeout=5)
        transport.write(BODY[:500])
        await turn_until(lambda: len(client.received) == 10)
        await asyncio.sleep(0.01)
        assert len(client.received) == 10
        pipe.release()
        await turn_until(lambda: len(client.received) == 500)
        assert client.received == BODY[:500]
        transport.abort()
    await client.lost
    listener.close()


@pytest.mark.asyncio
@pytest.mark.parametrize("reset", [False, True])
async def test_pipe_cuts_at_the_byte(target: str, reset: bool) -> None:
    listener = await serve(target)
    async with FaultPipe(listener.targets[0], backward=[Cut(after=77, reset=reset)]) as pipe:
        transport, client = await dial(pipe.target, Client, timeout=5)
        transport.write(BODY)
        error = await client.lost
        if not reset:
            assert len(client.received) == 77
        # Unread bytes of the client turn even a plain end into a reset.
        assert error is None or isinstance(error, ConnectionResetError | BrokenPipeError)
    listener.close()


@pytest.mark.asyncio
async def test_pipe_resets() -> None:
    listener = await serve("tcp://127.0.0.1:0")
    async with FaultPipe(listener.targets[0], backward=[Cut(after=0, reset=True)]) as pipe:
        _, client = await dial(pipe.target, Client, timeout=5)
        assert isinstance(await client.lost, ConnectionResetError)
    listener.close()


@pytest.mark.asyncio
async def test_pipe_flips() -> None:
    listener = await serve("tcp://127.0.0.1:0")
    async with FaultPipe(listener.targets[0], forward=[Flip(at=3, bit=5)]) as pipe:
        transport, client = await dial(pipe.target, Client, timeout=5)
        transport.write(b"aaaaaaa")
        await turn_until(lambda: len(client.received) == 7)
        assert client.received == b"aaaAaaa"
        transport.abort()
    listener.close()
    await client.lost


@pytest.mark.asyncio
async def test_script_of_each_connection() -> None:
    listener = await serve("tcp://127.0.0.1:0")

    def only_first(number: int) -> list[Fault]:
        return [Cut(after=1)] if number == 0 else []

    async with FaultPipe(listener.targets[0], forward=only_first) as pipe:
        transport, client = await dial(pipe.target, Client, timeout=5)
        transport.write(b"x")
        await client.lost
        transport, client = await dial(pipe.target, Client, timeout=5)
        transport.write(b"hello")
        assert await client.got == b"hello"
        assert pipe.connections == 2
        pipe.cut()
        await client.lost
        pipe.refusing = True
        _, client = await dial(pipe.target, Client, timeout=5)
        await client.lost
        assert pipe.connections == 3
    listener.close()


@pytest.mark.asyncio
async def test_pipe_cut_before_the_first_step_of_a_relay(target: str) -> None:
    class Hasty(FaultPipe):
        def _start(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            super()._start(reader, writer)
            self.cut()

    listener = await serve(target)
    async with Hasty(listener.targets[0]) as pipe:
        _, client = await dial(pipe.target, Client, timeout=5)
        async with asyncio.timeout(5):
            await client.lost
        assert not pipe.open_connections
    listener.close()


@pytest.mark.asyncio
async def test_stalled_pipe_is_felt_by_the_sender() -> None:
    listener = await serve("tcp://127.0.0.1:0")
    paused = asyncio.get_running_loop().create_future()

    class Writer(Client):
        def pause_writing(self) -> None:
            if not paused.done():
                paused.set_result(None)

    async with FaultPipe(listener.targets[0], forward=[Stall(after=1)]) as pipe:
        transport, client = await dial(pipe.target, Writer, timeout=5)
        while not paused.done():
            transport.write(BODY)
            await asyncio.sleep(0)
        assert not client.got.done() or client.received == b"\0"
    await client.lost
    listener.close()


@pytest.mark.asyncio
async def test_server_that_is_not_there() -> None:
    async with FaultPipe("unix:///nowhere/s", timeout=0.1) as pipe:
        _, client = await dial(pipe.target, Client, timeout=5)
        await client.lost


def test_pipe_outside_its_block() -> None:
    with pytest.raises(ConfigError, match="async with"):
        FaultPipe("tcp://127.0.0.1:1").release()
