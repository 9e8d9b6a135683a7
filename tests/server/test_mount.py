"""Different paths of one port lead to different servers."""

import asyncio
import logging

import pytest

import fastrpc
from fastrpc.server.server import ServerState
from tests.server.serving import assert_nothing_left, until

CALM = logging.getLogger("tests.calm")


class Who:
    def __init__(self, name: str) -> None:
        self.name = name

    def name_(self) -> str:
        return self.name

    async def wait(self) -> str:
        await asyncio.sleep(3600)
        return self.name


def server(name: str, **options: object) -> fastrpc.Server:
    made = fastrpc.Server(log=CALM, **options)  # type: ignore[arg-type]
    made.register(Who(name))
    return made


async def name_at(target: str) -> str:
    async with fastrpc.connect(target) as client:
        found = await client.call("Who.name_")
    assert isinstance(found, str)
    return found


@pytest.mark.asyncio
@pytest.mark.parametrize("scheme", ["ws", "http"])
async def test_the_longest_path_counts(scheme: str) -> None:
    root, admin, deep = server("root"), server("admin"), server("deep")
    root.mount("/admin", admin)
    admin.mount("/deep", deep)
    async with root:
        await root.start("tcp://127.0.0.1:0")
        base = root.targets[0].replace("tcp", scheme)
        paths = {
            "": "root", "/": "root", "/other": "root", "/administration": "root",
            "/admin": "admin", "/admin/": "admin", "/admin/x": "admin",
            "/admin/deep": "deep", "/admin/deep/er": "deep",
        }  # fmt: skip
        assert {path: await name_at(base + path) for path in paths} == paths
        assert admin.stats().state is ServerState.SERVING
        await until(lambda: not admin.stats().connections)
        assert (admin.stats().accepted, deep.stats().accepted) == (3, 2)
        assert admin.stats().calls == 3
    for each in (root, admin, deep):
        assert each.stats().state is ServerState.CLOSED
        assert_nothing_left(each)


@pytest.mark.asyncio
async def test_each_has_limits_of_its_own() -> None:
    root, tight = server("root"), server("tight", max_running=1)
    await root.start("tcp://127.0.0.1:0")
    root.mount("/tight", tight)  # later is fine, too
    async with root:
        target = root.targets[0].replace("tcp", "http")
        async with fastrpc.connect(target + "/tight") as client, fastrpc.connect(target) as other:
            waiting = client.call("Who.wait")
            await until(lambda: tight.stats().running == 1)
            with pytest.raises(fastrpc.Overloaded, match="max_running"):
                await client.call("Who.wait")
            assert await other.call("Who.name_") == "root"
            waiting.cancel()  # type: ignore[attr-defined]
            await until(lambda: tight.stats().running == 0)


@pytest.mark.asyncio
async def test_closing_drains_what_is_mounted() -> None:
    root, admin = server("root"), server("admin")
    root.mount("/admin", admin)
    await root.start("tcp://127.0.0.1:0")
    async with fastrpc.connect(root.targets[0].replace("tcp", "http") + "/admin") as client:
        waiting = asyncio.ensure_future(client.call("Who.wait"))
        await until(lambda: admin.stats().running == 1)
        await root.aclose(0.0)
        with pytest.raises(fastrpc.CallError, match="shutting down"):
            await waiting
    assert_nothing_left(admin)
    assert_nothing_left(root)


AWAITS = ["_drain", "gone", "mounted", "emptied", "wait_closed"]


@pytest.mark.asyncio
@pytest.mark.parametrize("where", AWAITS)
async def test_a_close_that_is_cancelled_closes_what_is_mounted_at_once(
    where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = asyncio.all_tasks()
    root, admin, deep = server("root"), server("admin"), server("deep")
    root.mount("/admin", admin)
    admin.mount("/deep", deep)
    await root.start("tcp://127.0.0.1:0")
    base = root.targets[0].replace("tcp", "http")
    reached = asyncio.Event()

    async def stay(*_: object) -> None:
        reached.set()
        await asyncio.Event().wait()

    stuck = asyncio.ensure_future(asyncio.Event().wait())
    if where == "wait_closed":
        monkeypatch.setattr(root._entrances, "wait_closed", stay)
    elif where == "emptied":
        monkeypatch.setattr(root._hall, "emptied", stay)
    elif where == "gone":
        end = root._end
        monkeypatch.setattr(root, "_end", lambda: (reached.set(), [*end(), stuck])[1])
    elif where == "_drain":
        monkeypatch.setattr(root, "_drain", stay)
    is_late = where in ("emptied", "wait_closed")  # the mounted are closed by then
    path = base + ("" if is_late else "/admin/deep")
    async with fastrpc.connect(path) as client:
        waiting = asyncio.ensure_future(client.call("Who.wait"))
        busy = root if is_late else deep
        await until(lambda: busy.stats().running == 1)
        if where == "emptied":
            monkeypatch.setattr(root, "_drain", lambda _: asyncio.sleep(0))
        closing = asyncio.ensure_future(root.aclose(0.05 if is_late else 600.0))
        if where == "mounted":
            await until(lambda: root.stats().state is ServerState.CLOSED)
        else:
            await reached.wait()
        await asyncio.sleep(0)
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        assert [each.stats().state for each in (root, admin, deep)] == [ServerState.CLOSED] * 3
        with pytest.raises(fastrpc.RpcError):
            await waiting
    stuck.cancel()
    await asyncio.wait([stuck])
    for each in (root, admin, deep):
        await until(lambda each=each: not each.stats().running)  # type: ignore[misc]
        assert_nothing_left(each)
    assert asyncio.all_tasks() <= before


@pytest.mark.asyncio
@pytest.mark.parametrize("cancelled", [False, True])
async def test_what_a_mounted_server_raises_when_it_closes_is_told(
    cancelled: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    root, admin = server("root"), server("admin")
    root.mount("/admin", admin)
    await root.start("tcp://127.0.0.1:0")

    async def fail(_: float) -> None:
        raise OSError("on purpose")

    monkeypatch.setattr(admin, "_drain", fail)
    if cancelled:
        monkeypatch.setattr(root, "_drain", lambda _: asyncio.Event().wait())
    closing = asyncio.ensure_future(root.aclose(600.0))
    if cancelled:
        await until(lambda: admin.stats().state is ServerState.CLOSED)
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        assert [str(each.exc_info[1]) for each in caplog.records if each.exc_info] == ["on purpose"]
    else:
        with pytest.raises(OSError, match="on purpose"):
            await closing
    for each in (root, admin):
        assert_nothing_left(each)


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("admin", "as '/name'"),
        ("/", "as '/name'"),
        ("/a/", "already"),
        ("/rpc", "own"),
        ("/debug/x", "own"),
    ],
)
def test_paths_that_cannot_be_used(path: str, says: str) -> None:
    root = server("root")
    root.mount("/a", server("a"))
    with pytest.raises(fastrpc.ConfigError, match=says):
        root.mount(path, server("b"))


@pytest.mark.asyncio
async def test_what_can_not_be_mounted() -> None:
    root, closed = server("root"), server("closed")
    await closed.aclose()
    with pytest.raises(fastrpc.ConfigError, match="itself"):
        root.mount("/a", root)
    with pytest.raises(fastrpc.ConfigError, match="closed"):
        root.mount("/a", closed)
