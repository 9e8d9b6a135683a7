"""Check what the memory transport promises beyond what every transport does."""

import asyncio
import gc
import threading
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastrpc.errors import ConnectFailed
from fastrpc.transport import dial, listen, memory_pair
from fastrpc.transport.memory import HIGH_WATER, READ_MAX
from tests.transport.ends import Client, Echo, turn_until


class Log(asyncio.Protocol):
    """Writes down each callback under a name that all ends share."""

    def __init__(self, name: str, log: list[str]) -> None:
        self.name = name
        self.log = log

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.log.append(f"{self.name} made")

    def data_received(self, data: bytes) -> None:
        self.log.append(f"{self.name} got {data.decode()}")

    def eof_received(self) -> None:
        self.log.append(f"{self.name} end")

    def connection_lost(self, exc: BaseException | None) -> None:
        self.log.append(f"{self.name} lost {exc}")


class Slow(asyncio.Protocol):
    """Notes whether it may write, and how much was ever held while it thought so."""

    def __init__(self) -> None:
        self.paused = False
        self.received = b""
        self.lost: list[BaseException | None] = []
        self.keep_open = False

    def data_received(self, data: bytes) -> None:
        self.received += data

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False

    def eof_received(self) -> bool:
        return self.keep_open

    def connection_lost(self, exc: BaseException | None) -> None:
        self.lost.append(exc)


async def steps(count: int = 10) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


@pytest.mark.asyncio
async def test_order_of_callbacks_is_always_the_same() -> None:
    for _ in range(20):
        log: list[str] = []
        left, right = memory_pair(Log("left", log), Log("right", log))
        assert log == ["left made"]
        left.write(b"1")
        right.write(b"a")
        left.write(b"2")
        assert log == ["left made"], "nothing happens inside write"
        await asyncio.sleep(0)
        assert log == ["left made", "right made", "right got 12", "left got a"]
        left.write(b"3")
        left.close()
        await steps()
        assert log[4:] == ["right got 3", "left lost None", "right end", "right lost None"]


@pytest.mark.asyncio
async def test_one_read_per_loop_step_and_no_larger_than_a_sockets() -> None:
    sender, receiver = Slow(), Slow()
    left, right = memory_pair(sender, receiver)
    left.write(b"x" * (2 * READ_MAX + 5))
    sizes = []
    for _ in range(4):
        await asyncio.sleep(0)
        sizes.append(len(receiver.received))
    assert sizes == [READ_MAX, 2 * READ_MAX, 2 * READ_MAX + 5, 2 * READ_MAX + 5]
    left.abort()
    await steps()
    assert receiver.lost == sender.lost == [None]
    assert right.is_closing()


@pytest.mark.asyncio
async def test_bytes_are_handed_over_without_a_copy_and_others_are_copied() -> None:
    got: list[bytes] = []

    class Keep(asyncio.Protocol):
        def data_received(self, data: bytes) -> None:
            got.append(data)

    left, _ = memory_pair(asyncio.Protocol(), Keep())
    body = bytes(1000)
    left.write(body)
    await steps()
    assert got[0] is body
    mine = bytearray(b"mine")
    left.write(mine)
    left.writelines([memoryview(mine)])
    mine[:] = b"XXXX"
    await steps()
    assert got[1] == b"minemine"
    left.abort()
    await steps()


@settings(max_examples=30)
@given(
    st.lists(
        st.one_of(
            st.integers(1, 3 * HIGH_WATER).map(lambda size: ("write", size)),
            st.sampled_from([("pause", 0), ("resume", 0), ("step", 0)]),
            st.integers(0, HIGH_WATER).map(lambda high: ("limit", high)),
        ),
        max_size=40,
    )
)
def test_holds_no_more_than_high_water_and_one_write_unless_paused(
    actions: list[tuple[str, int]],
) -> None:
    async def play() -> None:
        sender, receiver = Slow(), Slow()
        left, right = memory_pair(sender, receiver)
        high, written = HIGH_WATER, b""
        for number, (action, size) in enumerate(actions):
            if action == "write" and not sender.paused:
                assert left.get_write_buffer_size() <= high
                data = bytes([number]) * size
                left.write(data)
                written += data
                assert sender.paused == (left.get_write_buffer_size() > high)
            elif action == "pause":
                right.pause_reading()
            elif action == "resume":
                right.resume_reading()
            elif action == "limit":
                high = size
                left.set_write_buffer_limits(high=size)
                assert left.get_write_buffer_limits() == (size // 4, size)
            else:
                await asyncio.sleep(0)
        right.resume_reading()
        await turn_until(lambda: len(receiver.received) == len(written))
        assert receiver.received == written
        assert left.get_write_buffer_size() == 0
        assert not sender.paused
        left.abort()
        await steps()

    asyncio.run(play())


@pytest.mark.asyncio
async def test_buffer_limits() -> None:
    left, _ = memory_pair(Slow(), Slow())
    assert left.get_write_buffer_limits() == (HIGH_WATER // 4, HIGH_WATER)
    left.set_write_buffer_limits(low=10)
    assert left.get_write_buffer_limits() == (10, 40)
    left.set_write_buffer_limits()
    assert left.get_write_buffer_limits() == (HIGH_WATER // 4, HIGH_WATER)
    with pytest.raises(ValueError, match=r"high \(1\) must be >= low \(2\)"):
        left.set_write_buffer_limits(high=1, low=2)
    left.abort()
    await steps()


@pytest.mark.asyncio
async def test_close_does_not_wait_for_a_peer_that_does_not_read() -> None:
    sender, receiver = Slow(), Slow()
    left, right = memory_pair(sender, receiver)
    await steps()
    right.pause_reading()
    left.write(b"x" * 100_000)
    left.close()
    await steps()
    assert sender.lost == [None]
    assert not receiver.received
    right.resume_reading()
    await steps()
    assert len(receiver.received) == 100_000, "what was written arrives nevertheless"
    assert receiver.lost == [None]


@pytest.mark.asyncio
async def test_writing_to_a_closed_peer_breaks_the_pipe() -> None:
    stayer, goer = Slow(), Slow()
    stayer.keep_open = True
    left, right = memory_pair(stayer, goer)
    right.close()
    await steps()
    assert stayer.lost == [], "half-closed on its own wish"
    left.write(b"anybody?")
    await steps()
    assert isinstance(stayer.lost[0], BrokenPipeError)
    assert left.is_closing()


@pytest.mark.asyncio
async def test_writer_that_does_not_read_learns_of_a_closed_peer() -> None:
    writer, goer = Slow(), Slow()
    left, right = memory_pair(writer, goer)
    await steps()
    left.pause_reading()
    right.close()
    left.write(b"x")
    await steps()
    assert isinstance(writer.lost[0], BrokenPipeError)


@pytest.mark.asyncio
async def test_paused_writer_is_freed_when_the_peer_closes() -> None:
    writer, goer = Slow(), Slow()
    writer.keep_open = True
    left, right = memory_pair(writer, goer)
    right.pause_reading()
    left.write(b"x" * 100_000)
    assert writer.paused
    right.close()
    await steps()
    assert not writer.paused
    left.write(b"x")
    await steps()
    assert isinstance(writer.lost[0], BrokenPipeError)


@pytest.mark.asyncio
async def test_write_after_write_eof_is_refused() -> None:
    left, _ = memory_pair(Slow(), Slow())
    left.write_eof()
    left.write_eof()
    with pytest.raises(RuntimeError, match="after write_eof"):
        left.write(b"x")
    left.close()
    left.write(b"x")
    left.write_eof()
    await steps()
    assert left.get_protocol() is None


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "callback",
    ["connection_made", "data_received", "eof_received", "pause_writing", "resume_writing"],
)
async def test_protocol_that_raises(callback: str) -> None:
    told: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))

    def fail(self: Slow, *_: object) -> None:
        raise LookupError(callback)

    faulty = type("Faulty", (Slow,), {callback: fail})()
    left, right = memory_pair(Slow(), faulty)
    await steps()
    left.write(b"x")
    left.write_eof()
    right.write(b"x" * 100_000)
    await steps()
    assert str(told[0]["exception"]) == callback
    assert callback in str(told[0]["message"])
    assert told[0]["transport"] is right
    # A failing flow-control callback is only told about, as on the event loops.
    harmless = callback in ("pause_writing", "resume_writing")
    assert isinstance(faulty.lost[0], LookupError) != harmless
    left.abort()
    await steps()


@pytest.mark.asyncio
async def test_buffered_protocol_with_no_room_loses_its_connection() -> None:
    told: list[str] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: told.append(str(context["exception"])))

    class Full(asyncio.BufferedProtocol):
        def get_buffer(self, sizehint: int) -> bytearray:
            return bytearray()

    left, right = memory_pair(Slow(), Full())
    left.write(b"x")
    await steps()
    assert told == ["get_buffer() returned an empty buffer"]
    assert right.is_closing()


@pytest.mark.asyncio
async def test_names_it_by_state() -> None:
    left, _ = memory_pair(Slow(), Slow(), name="mem://here")
    left.write(b"123")
    assert repr(left) == "<MemoryTransport mem://here open unread=3>"
    left.close()
    assert "closing" in repr(left)
    await steps()
    assert "closed" in repr(left)


@pytest.mark.asyncio
async def test_nobody_listens() -> None:
    with pytest.raises(ConnectFailed, match=r"can't connect to mem://nobody \(nobody listens"):
        await dial("mem://nobody", Client, timeout=1)


@pytest.mark.asyncio
async def test_a_forgotten_listener_gives_its_name_back() -> None:
    listener = await listen("mem://forgotten", Echo)
    transport, client = await dial("mem://forgotten", Client, timeout=1)
    del listener
    gc.collect()
    with pytest.raises(ConnectFailed):
        await dial("mem://forgotten", Client, timeout=1)
    transport.write(b"x")
    assert await client.got == b"x", "its connections stay"
    transport.abort()
    await client.lost


def test_a_name_belongs_to_one_loop(
    loop_factory: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    async def other() -> None:
        with pytest.raises(ConnectFailed, match="it belongs to another event loop"):
            await dial("mem://mine", Client, timeout=1)

    async def mine() -> None:
        listener = await listen("mem://mine", Echo)
        thread = threading.Thread(target=asyncio.run, args=(other(),))
        thread.start()
        thread.join()
        listeners.append(listener)  # not closed, and outlives its loop

    listeners: list[object] = []
    for _ in range(2):
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(mine())
    with asyncio.Runner() as runner, pytest.raises(ConnectFailed, match="nobody listens"):
        runner.run(dial("mem://mine", Client, timeout=1))
