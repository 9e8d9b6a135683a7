"""Cancel at every step: whatever is left half done shows up in the counts."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

import fastrpc
from fastrpc.client import link
from fastrpc.client.client import ClientState
from tests.client.served import SCHEMES, Work, address, serving, sessions_of, sockets, turn_until

Act = Callable[[], Awaitable[Any]]


async def cancel_at(step: int, act: Act) -> bool:
    """Run *act* and cancel it after *step* turns of the loop; False if it was done by then."""
    task = asyncio.ensure_future(act())
    for _ in range(step):
        if task.done():
            break
        await asyncio.sleep(0)
    if task.done():
        task.exception()
        return False
    task.cancel()
    try:
        await task
    except asyncio.CancelledError as exc:
        assert type(exc) is asyncio.CancelledError
    return True


async def cancel_at_each(prepare: Callable[[], Awaitable[Act]]) -> int:
    """Prepare, cancel at step 0, prepare again, cancel at step 1 ...; return how many steps."""
    for step in range(2000):
        if not await cancel_at(step, await prepare()):
            return step
    raise AssertionError("it never ends")


class Scene:
    """A server, and whether all is as it was before the first client came."""

    def __init__(self, stack: AsyncExitStack, target: str) -> None:
        self._stack = stack
        self._target = target
        self.clients: list[fastrpc.Client] = []

    async def open(self, **options: Any) -> None:
        self.server, self.work = await self._stack.enter_async_context(
            serving(self._target, **options)
        )
        self.before = sockets()
        self.tasks = len(asyncio.all_tasks())

    def client(self, **options: Any) -> fastrpc.Client:
        client = fastrpc.connect(self.server.targets[0], **options)
        self.clients.append(client)
        return client

    async def connected(self, **options: Any) -> fastrpc.Client:
        client = self.client(**options)
        await client._connected()
        return client

    async def still_works(self, client: fastrpc.Client) -> None:
        """Check that the client's next calls get their own replies, and nothing is left open."""
        for n in range(5):
            assert await client.options(timeout=5).call("Work.echo", f"mine {n}") == f"mine {n}"
        await turn_until(lambda: not any(len(lane.table) for lane in client.lanes))
        assert len(client._room) == 0
        assert not any(lane.crowded for lane in client.lanes)
        assert not client._news._waiters
        await turn_until(lambda: not any(s.running for s in sessions_of(self.server)))

    async def baseline(self) -> None:
        for client in self.clients:
            await client.aclose()
        await turn_until(lambda: not sessions_of(self.server))
        await turn_until(lambda: len(asyncio.all_tasks()) == self.tasks)
        await turn_until(lambda: sockets() <= self.before)


@pytest.fixture(params=SCHEMES)
def target(request: pytest.FixtureRequest) -> Iterator[str]:
    with address(request.param) as target:
        yield target


@pytest.mark.asyncio
@pytest.mark.parametrize("connections", [1, 3])
async def test_connect(target: str, connections: int) -> None:
    async with AsyncExitStack() as stack:
        scene = Scene(stack, target)
        await scene.open()

        async def prepare() -> Act:
            client = scene.client(connections=connections)
            return client.__aenter__

        assert await cancel_at_each(prepare) > 3
        for client in scene.clients[:-1]:
            assert client._state is not ClientState.OPEN
        await scene.baseline()


@pytest.mark.asyncio
async def test_call(target: str) -> None:
    async with AsyncExitStack() as stack:
        scene = Scene(stack, target)
        await scene.open()
        client = await scene.connected()
        numbers = iter(range(10_000))

        async def prepare() -> Act:
            number = next(numbers)

            async def act() -> None:
                assert await client.call("Work.echo", number) == number

            return act

        assert await cancel_at_each(prepare) > 2
        await scene.still_works(client)
        await scene.baseline()


@pytest.mark.asyncio
async def test_call_while_connecting(target: str) -> None:
    async with AsyncExitStack() as stack:
        scene = Scene(stack, target)
        await scene.open()

        async def prepare() -> Act:
            client = scene.client()

            async def act() -> None:
                assert await client.options(timeout=5).call("Work.add", 1, 2) == 3

            return act

        assert await cancel_at_each(prepare) > 5
        for client in scene.clients:
            await scene.still_works(client)
        await scene.baseline()


@pytest.mark.asyncio
async def test_call_while_queued(target: str) -> None:
    async with AsyncExitStack() as stack:
        scene = Scene(stack, target)
        await scene.open(max_calls=1)
        client = await scene.connected()
        line: list[asyncio.Future[Any]] = []

        async def prepare() -> Act:
            assert await asyncio.gather(*line) == ["first", "second"] * bool(line)
            scene.work.gate.clear()
            scene.work.runs.clear()
            line[:] = [asyncio.ensure_future(client.call("Work.wait", "first"))]
            await turn_until(lambda: scene.work.runs)

            async def act() -> None:
                queued = client.call("Work.echo", "queued")
                line.append(asyncio.ensure_future(client.call("Work.echo", "second")))
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                scene.work.gate.set()
                assert await queued == "queued"

            return act

        for step in range(200):
            act = await prepare()
            if not await cancel_at(step, act):
                break
            scene.work.gate.set()
            if len(line) == 1:  # cancelled before it began
                line.append(asyncio.ensure_future(client.call("Work.echo", "second")))
        assert 5 < step < 199
        assert await asyncio.gather(*line) == ["first", "second"]
        await scene.still_works(client)
        await scene.baseline()


@pytest.mark.asyncio
async def test_call_that_reconnects(target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with AsyncExitStack() as stack:
        scene = Scene(stack, target)
        await scene.open()
        client = await scene.connected()

        async def prepare() -> Act:
            await client.options(timeout=5).call("Work.add", 1, 2)
            (lane,) = client.lanes
            for session in sessions_of(scene.server):
                session.abort(fastrpc.ConnectionLost("cut"))
            while lane in client.lanes:
                await asyncio.sleep(0)

            async def act() -> None:
                assert await client.options(timeout=5).call("Work.add", 1, 2) == 3

            return act

        monkeypatch.setattr(link, "STEADY", 0.0)
        assert await cancel_at_each(prepare) > 3
        await scene.still_works(client)
        await scene.baseline()


@pytest.mark.asyncio
async def test_ping(target: str) -> None:
    async with AsyncExitStack() as stack:
        scene = Scene(stack, target)
        await scene.open(ping_interval=1e-6)

        async def prepare() -> Act:
            return scene.client().ping

        assert await cancel_at_each(prepare) > 5
        for client in scene.clients:
            assert await client.ping() < 1
        await scene.baseline()


@pytest.mark.asyncio
@pytest.mark.parametrize("state", ["idle", "connecting", "calling"])
async def test_close(target: str, state: str) -> None:
    async with AsyncExitStack() as stack:
        scene = Scene(stack, target)
        await scene.open()
        calls: list[asyncio.Future[Any]] = []

        async def prepare() -> Act:
            client = scene.client()
            if state == "calling":
                await client._connected()
            if state != "idle":
                calls.append(asyncio.ensure_future(client.call("Work.wait", "x")))
                await asyncio.sleep(0)
            return client.aclose

        await cancel_at_each(prepare)
        await scene.clients[0].aclose()  # cancelled before it began
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(result) for result in results} <= {fastrpc.ConnectionLost}
        for client in scene.clients:
            assert client._state is ClientState.CLOSED or state == "idle"
        await scene.baseline()


@pytest.mark.asyncio
async def test_a_cancel_reaches_the_handler() -> None:
    async with serving() as (server, work), fastrpc.connect(server.targets[0]) as client:
        for key in ("first", "second"):
            call = asyncio.ensure_future(client.call("Work.wait", key))
            await turn_until(lambda key=key: key in work.runs)
            call.cancel()
            await turn_until(lambda key=key: f"{key} cancelled" in work.ended)
            with pytest.raises(asyncio.CancelledError) as caught:
                await call
            assert type(caught.value) is asyncio.CancelledError
        assert client.lanes[0].given_up == 2


@pytest.mark.asyncio
async def test_a_handler_that_ends_as_cancelled_is_no_cancel_of_the_caller() -> None:
    class Odd(Work):
        async def quit(self) -> None:
            raise asyncio.CancelledError("enough")

    async with serving(work=Odd()) as (server, _), fastrpc.connect(server.targets[0]) as client:
        with pytest.raises(fastrpc.Cancelled) as ended:
            await client.call("Odd.quit")
        assert ended.value.ran == "maybe"
        assert await client.call("Odd.add", 1, 2) == 3


@pytest.mark.asyncio
async def test_after_many_cancels_everybody_gets_his_own_reply() -> None:
    """What redis-py got wrong: a reply to a cancelled call must not reach the next one."""
    async with serving() as (server, _), fastrpc.connect(server.targets[0]) as client:
        wrong: list[Any] = []

        async def caller(number: int) -> None:
            for turn in range(100):
                mine = f"{number}/{turn}"
                call = asyncio.ensure_future(client.call("Work.echo", mine))
                for _ in range((number + turn) % 4):
                    await asyncio.sleep(0)
                if turn % 3 == 0:
                    call.cancel()
                try:
                    if (got := await call) != mine:
                        wrong.append((mine, got))
                except asyncio.CancelledError:
                    pass

        await asyncio.gather(*(caller(number) for number in range(50)))
        assert wrong == []
        await turn_until(lambda: len(client.lanes[0].table) == 0)
