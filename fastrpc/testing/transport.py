"""Check that a transport behaves as the rest of the house relies on.

One suite for every pipe: ours over tcp, unix, mem, TLS and through proxies, on asyncio
and uvloop, and anybody's own. The memory transport may stand in for sockets in tests because it
passes this.

    async def test_my_transport():
        await check_transport("tcp://127.0.0.1:0")

Rules of the room:
  * a check looks only at what protocols see, never inside a transport;
  * no check sleeps; "nothing came" is measured against round trips of a second
    connection.
"""

import asyncio
from typing import Final

from fastrpc.errors import ConnectFailed
from fastrpc.testing.watch import PATIENCE, Bench, Buffered, Dial, Listen, expect
from fastrpc.transport import dial, listen, peer_of

_BODY: Final = bytes(range(256)) * 1024  # 256 KiB, no two neighbours alike


async def _order(bench: Bench) -> None:
    """Bytes arrive whole and in order, both ways at once."""
    client, server = await bench.connect()
    pieces = [_BODY[size : size + size % 700] for size in range(1, 400)]
    for piece in pieces:
        client.transport.write(piece)
        server.transport.write(piece[::-1])
    await server.until_received(sum(map(len, pieces)))
    await client.until_received(sum(map(len, pieces)))
    expect(server.received == b"".join(pieces), "the server got other bytes")
    expect(client.received == b"".join(p[::-1] for p in pieces), "the client got other bytes")


async def _many_kinds(bench: Bench) -> None:
    """`write` and `writelines` take bytes, bytearray and memoryview."""
    client, server = await bench.connect()
    kinds = [b"one", bytearray(b"two"), memoryview(b"xthreex")[1:-1]]
    for kind in kinds:
        client.transport.write(kind)
    client.transport.writelines(kinds)
    client.transport.writelines([])
    client.transport.write(b"")
    await server.until_received(22)
    expect(server.received == b"onetwothree" * 2, f"got {server.received!r}")
    try:
        client.transport.write("text")
    except TypeError:
        pass
    else:
        raise AssertionError("write(str) did not raise TypeError")


async def _buffered(bench: Bench) -> None:
    """A `BufferedProtocol` gets the same bytes through its own buffer."""
    client, server = await bench.connect(Buffered)
    client.transport.write(_BODY)
    server.transport.writelines([_BODY[:100], _BODY[100:]])
    await server.until_received(len(_BODY))
    await client.until_received(len(_BODY))
    expect(server.received == client.received == _BODY, "got other bytes")


async def _backpressure(bench: Bench) -> None:
    """A peer that does not read pauses the writer, and a reading one resumes it."""
    client, server = await bench.connect()
    server.transport.pause_reading()
    client.transport.set_write_buffer_limits(high=32_768)
    written = 0
    while not client.paused:
        expect(written < 2**28, "256 MiB unread and pause_writing not called")
        size = client.transport.get_write_buffer_size()
        expect(size <= 32_768, f"{size} bytes held, above high water, and not paused")
        client.transport.write(_BODY)
        written += len(_BODY)
    size = client.transport.get_write_buffer_size()
    expect(32_768 < size <= 32_768 + len(_BODY), f"paused with {size} bytes held")
    server.transport.resume_reading()
    await client.until(lambda: not client.paused)
    await server.until_received(written)
    expect(server.received == _BODY * (written // len(_BODY)), "got other bytes")
    expect(client.pauses == 1, f"pause_writing was called {client.pauses} times")
    expect(client.transport.get_write_buffer_size() == 0, "all arrived, some still held")


async def _pause_reading(bench: Bench) -> None:
    """Nothing is given to a protocol that paused reading; then all of it is."""
    client, server = await bench.connect(Buffered)
    server.on_read = server.transport.pause_reading
    client.transport.write(_BODY)
    await server.until(lambda: server.reads)
    await bench.settle()
    expect(server.reads == 1, "read on after pause_reading in a callback")
    expect(not server.transport.is_reading(), "is_reading() while paused")
    server.transport.pause_reading()
    client.transport.close()
    await bench.settle()
    expect(not server.ended, "told the end while paused")
    server.on_read = None
    server.transport.resume_reading()
    server.transport.resume_reading()
    expect(server.transport.is_reading(), "not is_reading() after resume_reading")
    await server.until_lost()
    expect(server.received == _BODY, "lost bytes over a pause")


async def _close(bench: Bench) -> None:
    """`close` sends what was written, then ends both sides without an error."""
    client, server = await bench.connect()
    client.transport.write(_BODY * 4)
    expect(not client.transport.is_closing(), "is_closing() before close")
    client.transport.close()
    client.transport.close()
    expect(client.transport.is_closing(), "not is_closing() after close")
    expect(not client.lost, "connection_lost inside close")
    await server.until_lost()
    await client.until_lost()
    expect(server.received == _BODY * 4, "close dropped bytes")
    expect(server.ended, "the peer was not told the end")
    expect(client.lost == server.lost == [None], f"lost with {client.lost}, {server.lost}")


async def _close_stops_reading(bench: Bench) -> None:
    """After `close` a protocol is given nothing more, and may still write in vain."""
    client, server = await bench.connect()
    client.transport.write(b"early")
    await server.until_received(5)
    client.transport.write(b"late")
    server.transport.close()
    server.transport.write(b"in vain")
    await server.until_lost()
    await client.until_lost()
    expect(server.received == b"early", f"read {bytes(server.received)!r} after close")
    expect(not client.received, "sent after close")


async def _abort(bench: Bench) -> None:
    """`abort` ends both sides soon, even if the peer never reads."""
    client, server = await bench.connect()
    server.transport.pause_reading()
    while not client.paused:
        client.transport.write(_BODY)
    client.transport.abort()
    client.transport.abort()
    expect(client.transport.is_closing(), "not is_closing() after abort")
    await client.until_lost()
    expect(client.lost == [None], f"abort gave connection_lost {client.lost}")
    server.transport.resume_reading()
    await server.until_lost()


async def _half_close(bench: Bench) -> None:
    """After `write_eof` the other direction still works; a pipe without it says so."""
    client, server = await bench.connect()
    if not client.transport.can_write_eof():  # TLS has no half
        try:
            client.transport.write_eof()
        except NotImplementedError:
            return
        raise AssertionError("can_write_eof() is false, and write_eof() does not raise")
    server.stay_open = True
    client.transport.write(b"question")
    client.transport.write_eof()
    await server.until(lambda: server.ended)
    expect(server.received == b"question", f"got {server.received!r}")
    expect(not client.lost and not server.lost, "a half-close ended the connection")
    server.transport.write(_BODY)
    server.transport.close()
    await client.until_lost()
    expect(client.received == _BODY, "the answer to a half-closed side was lost")


async def _peer_gone(bench: Bench) -> None:
    """A writer learns that its peer is gone, also if it keeps its side open."""
    client, server = await bench.connect()
    client.stay_open = True
    server.transport.abort()
    while not client.lost:
        if not client.paused:
            client.transport.write(_BODY)
        await asyncio.sleep(0)
    error = client.lost[0]
    expect(error is None or isinstance(error, OSError), f"lost with {error!r}")


async def _failing_protocol(bench: Bench) -> None:
    """A protocol that raises loses its connection, and the loop is told why."""
    client, server = await bench.connect()

    def fail() -> None:
        raise LookupError("raised by the check")

    loop = asyncio.get_running_loop()
    told: list[object] = []
    before = loop.get_exception_handler()
    loop.set_exception_handler(lambda _, context: told.append(context.get("exception")))
    try:
        server.on_read = fail
        client.transport.write(b"x")
        await server.until_lost()
        await client.until_lost()
    finally:
        loop.set_exception_handler(before)
    expect(any(isinstance(error, LookupError) for error in told), f"the loop was told {told}")


async def _new_protocol(bench: Bench) -> None:
    """`set_protocol` gives later callbacks to another protocol, of either kind."""
    client, server = await bench.connect()
    client.transport.write(b"old")
    await server.until_received(3)
    heir = Buffered()
    heir.transport = server.transport
    server.transport.set_protocol(heir)
    expect(server.transport.get_protocol() is heir, "get_protocol() is not the new one")
    client.transport.write(b"new")
    client.transport.close()
    await heir.until_lost()
    expect(heir.received == b"new", f"the new protocol got {heir.received!r}")
    expect(server.received == b"old", "the old protocol got more")
    server.lost.append(None)  # the heir saw it; nothing is left to end


async def _apart(bench: Bench) -> None:
    """Connections through one listener don't mix, and one's end is not another's."""
    pairs = [await bench.connect() for _ in range(5)]
    for number, (client, server) in enumerate(pairs):
        client.transport.write(b"%d to server" % number)
        server.transport.write(b"%d to client" % number)
    for number, (client, server) in enumerate(pairs):
        await server.until_received(11)
        await client.until_received(11)
        expect(server.received == b"%d to server" % number, "connections mixed")
        expect(client.received == b"%d to client" % number, "connections mixed")
    pairs[0][0].transport.abort()
    await pairs[0][1].until_lost()
    await bench.settle()
    expect(not any(end.lost for pair in pairs[1:] for end in pair), "ended with another")


async def _names(bench: Bench) -> None:
    """Both ends can tell who their peer is."""
    for end in await bench.connect():
        expect("://" in peer_of(end.transport), f"peer is {peer_of(end.transport)!r}")


async def _stop_listening(bench: Bench) -> None:
    """A closed listener accepts nobody, keeps connections, and waits for none."""
    client, server = await bench.connect()
    bench.listener.close()
    bench.listener.close()
    await bench.listener.wait_closed()
    try:
        await bench.dial()
    except ConnectFailed as error:
        expect(bench.listener.targets[0] in str(error), f"no target in {error}")
    else:
        raise AssertionError("dialled a closed listener")
    client.transport.write(b"still here")
    await server.until_received(10)


async def _cancelled_dial(bench: Bench) -> None:
    """A dial cancelled at any loop step leaves no connection behind."""
    for steps in range(12):
        dialling = asyncio.create_task(bench.dial())
        for _ in range(steps):
            await asyncio.sleep(0)
        dialling.cancel()
        await asyncio.wait([dialling])
        if not dialling.cancelled():
            dialling.result().transport.abort()
    await bench.settle()
    for watch in bench.made():
        await watch.until_lost()


_CHECKS: Final = {
    check.__name__[1:]: check
    for check in (
        _order,
        _many_kinds,
        _buffered,
        _backpressure,
        _pause_reading,
        _close,
        _close_stops_reading,
        _abort,
        _half_close,
        _peer_gone,
        _failing_protocol,
        _new_protocol,
        _apart,
        _names,
        _stop_listening,
        _cancelled_dial,
    )
}

#: Names of the checks, for `check_transport(only=)`.
TRANSPORT_CHECKS: Final = tuple(_CHECKS)


async def check_transport(
    target: str, *, only: str = "", dial: Dial = dial, listen: Listen = listen
) -> None:
    """Run the checks against pipes made at *target*, each with a new listener.

    Args:
        target: Where to listen; with port 0 or a free name.
        only: One name of `TRANSPORT_CHECKS`; all of them by default.
        dial: Makes connections; ours by default.
        listen: Makes listeners; ours by default.

    Raises:
        AssertionError: A check failed; the message names it and says how.
    """
    for name in [only] if only else TRANSPORT_CHECKS:
        try:
            async with asyncio.timeout(PATIENCE), Bench(target, dial, listen) as bench:
                await _CHECKS[name](bench)
        except AssertionError as error:
            raise AssertionError(f"{name} over {target}: {error}") from error
        except TimeoutError as error:
            raise AssertionError(f"{name} over {target}: waited {PATIENCE} s") from error
