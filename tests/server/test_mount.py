"""Different paths of one port lead to different servers."""

import asyncio
import contextlib
import json
import logging
import urllib.request
from collections.abc import AsyncIterator
from typing import Any

import pytest

import fastrpc
from fastrpc.server.http import HttpOptions
from fastrpc.server.server import ServerState
from tests.adversity.conftest import Clock, clock  # noqa: F401 - a fixture
from tests.gateway.asking import Asker, get, post
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

    async def silent(self) -> AsyncIterator[int]:
        await asyncio.Event().wait()
        yield 1


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
async def test_documents_name_the_paths_that_lead_there() -> None:
    root, admin = server("root"), server("admin")
    root.mount("/admin", admin)
    async with root:
        await root.start("tcp://127.0.0.1:0")
        base = root.targets[0].replace("tcp", "http")

        def read(path: str) -> Any:
            with urllib.request.urlopen(base + path) as answer:
                return json.load(answer)

        listed = await asyncio.to_thread(read, "/admin/rpc")
        paths = {method["path"] for method in listed["methods"]}
        assert {"/admin/rpc/Who.name_", "/admin/rpc/Who.wait"} < paths
        assert all(path.startswith("/admin/rpc/Who.") for path in paths)
        document = await asyncio.to_thread(read, listed["openapi"])
        assert document["servers"] == [{"url": "/admin"}]
        assert (await asyncio.to_thread(read, "/rpc/openapi.json"))["servers"] == [{"url": "/"}]


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

        def ended() -> list[object]:
            reached.set()
            return [*end(), stuck]

        monkeypatch.setattr(root, "_end", ended)
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
        with pytest.raises((fastrpc.CallError, fastrpc.TransportError)):
            await waiting
    stuck.cancel()
    await asyncio.wait([stuck])
    for each in (root, admin, deep):
        await until(lambda each=each: not each.stats().running)
        assert_nothing_left(each)
    assert asyncio.all_tasks() <= before


@pytest.mark.asyncio
@pytest.mark.parametrize("cancelled", [False, True])
async def test_what_a_mounted_server_raises_when_it_closes_is_told(
    cancelled: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    root, admin = fastrpc.Server(log=logging.getLogger("tests.mount")), server("admin")
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


# Who may ask below the path, and for what

APP = "https://app.example"
NAME = "/rpc/Who.name_"


def websocket(path: str, subprotocol: str = "jsonrpc", **headers: str) -> bytes:
    return get(path, Connection="Upgrade", Upgrade="websocket", Sec_WebSocket_Version="13",
               Sec_WebSocket_Key="dGhlIHNhbXBsZSBub25jZQ==",
               Sec_WebSocket_Protocol=subprotocol, **headers)  # fmt: skip


@contextlib.asynccontextmanager
async def mounted(
    root: fastrpc.Server, admin: fastrpc.Server, *targets: str, doors: tuple[str, ...] | None = None
) -> AsyncIterator[str]:
    """Serve *root* with *admin* below /admin; give the target."""
    root.mount("/admin", admin)
    async with root:
        await root.start(*(targets or ("tcp://127.0.0.1:0",)), doors=doors)
        yield root.targets[0]
    assert_nothing_left(root)
    assert_nothing_left(admin)


async def status(target: str, request: bytes) -> int:
    """Ask on a connection of its own; return the status."""
    async with await Asker.connect(target) as asker:
        asker.send(request)
        return (await asker.head()).status


REQUESTS = {
    "http": post(f"/admin{NAME}"),
    "jsonrpc": post("/admin/jsonrpc", b'{"jsonrpc":"2.0","method":"Who.name_","id":1}'),
    "debug": get("/admin/debug/rpc"),
    "health": get("/admin/healthz"),
    "upgrade": get("/admin", Connection="Upgrade", Upgrade="fastrpc"),
    "CONNECT": get("/admin", method="CONNECT"),
    "websocket": websocket("/admin", "fastrpc.1"),
}
ALL_OPEN = {"http": 200, "jsonrpc": 200, "debug": 200, "health": 200, "upgrade": 101,
            "CONNECT": 200, "websocket": 101}  # fmt: skip
ALL_CLOSED = {"http": 404, "jsonrpc": 404, "debug": 404, "health": 404, "upgrade": 403,
              "CONNECT": 403, "websocket": 403}  # fmt: skip


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("outer", "inner", "open_"),
    [
        (None, None, set(ALL_OPEN)),
        (None, ("fastrpc",), set()),
        (None, ("http", "health"), {"http", "health"}),
        (("http", "upgrade"), ("http", "debug", "websocket"), {"http"}),
        (("http", "upgrade"), None, {"http", "upgrade", "CONNECT"}),
        (("http",), ("upgrade", "websocket"), set()),
    ],
)
async def test_a_mount_closes_doors_and_opens_none(
    outer: tuple[str, ...] | None, inner: tuple[str, ...] | None, open_: set[str]
) -> None:
    async with mounted(server("root"), server("admin", doors=inner), doors=outer) as target:
        found = {name: await status(target, request) for name, request in REQUESTS.items()}
        assert found == {
            name: (ALL_OPEN if name in open_ else ALL_CLOSED)[name] for name in REQUESTS
        }


@pytest.mark.asyncio
async def test_the_raw_tongues_behind_connect_are_doors_of_the_mounted_one() -> None:
    line = b'{"jsonrpc":"2.0","method":"Who.name_","id":1}\n'
    for inner, says in ((("upgrade",), b"does not speak"), (("upgrade", "jsonrpc"), b"admin")):
        async with mounted(server("root"), server("admin", doors=inner)) as target:
            async with await Asker.connect(target) as asker:
                asker.send(REQUESTS["CONNECT"])
                assert (await asker.head()).status == 200
                asker.send(line)
                async with asyncio.timeout(10):
                    assert says in await asker.reader.readline()


@pytest.mark.asyncio
async def test_texts_need_the_door_at_the_mounted_one_too() -> None:
    async with mounted(server("root"), server("admin", doors=("websocket",))) as target:
        assert await status(target, websocket("/")) == 101
        assert await status(target, websocket("/admin")) == 400


@pytest.mark.asyncio
async def test_each_says_which_pages_may_ask() -> None:
    listed = HttpOptions(origins=(APP,))
    for outer, inner, path in ((listed, None, ""), (None, listed, "/admin")):
        root = server("root", **({"http": outer} if outer else {}))
        admin = server("admin", **({"http": inner} if inner else {}))
        async with mounted(root, admin) as target:
            for at in ("", "/admin"):
                may = at == path
                async with await Asker.connect(target) as asker:
                    answer = await asker.ask(post(f"{at}{NAME}", Origin=APP))
                    assert answer.status == (200 if may else 403)
                    assert ("access-control-allow-origin" in answer.headers) is may
                    preflight = await asker.ask(get(f"{at}{NAME}", method="OPTIONS", Origin=APP))
                    assert preflight.status == (204 if may else 403)
                hello = websocket(at or "/", Origin=APP)
                assert await status(target, hello) == (101 if may else 403)


@pytest.mark.asyncio
async def test_each_has_names_of_its_own() -> None:
    root = server("root", http=HttpOptions(hosts=("root.example",)))
    admin = server("admin", http=HttpOptions(hosts=("admin.example",)))
    async with mounted(root, admin) as target:
        for path, name in (("", "root"), ("/admin", "admin")):
            for host in ("root", "admin"):
                request = post(f"{path}{NAME}", host=f"{host}.example")
                assert await status(target, request) == (200 if host == name else 421)


@pytest.mark.asyncio
async def test_each_has_a_silence_of_its_own(clock: Clock) -> None:  # noqa: F811
    admin = server("admin", http=HttpOptions(silence=10.0))
    root = server("root", http=HttpOptions(silence=1000.0))
    async with mounted(root, admin) as target, await Asker.connect(target) as asker:
        asker.send(post("/admin/rpc/Who.silent"))
        await until(lambda: admin.stats().running)
        await clock.let_pass(root, 2.0)
        assert (await asker.head()).status == 200
        await clock.let_pass(root, 11.0)
        assert await asker.chunk() == b"\n"


@pytest.mark.asyncio
async def test_the_connection_has_the_limits_of_the_outer_one() -> None:
    root = server("root", http=HttpOptions(max_requests=2, max_target=200))
    admin = server("admin", http=HttpOptions(max_requests=1, max_target=20))
    async with mounted(root, admin) as target, await Asker.connect(target) as asker:
        request = post(f"/admin{NAME}")
        assert [(await asker.ask(request)).closes for _ in range(2)] == [False, True]


# Whom it counts


@pytest.mark.asyncio
async def test_requests_are_no_connections_of_the_mounted_one() -> None:
    root, admin = server("root"), server("admin", max_connections=1)
    async with mounted(root, admin) as target, contextlib.AsyncExitStack() as stack:
        for _ in range(3):
            asker = await stack.enter_async_context(await Asker.connect(target))
            assert (await asker.ask(post(f"/admin{NAME}"))).body == b'"admin"'
        stats = admin.stats()
        assert (stats.accepted, stats.connections, stats.turned_away) == (0, 0, 0)
        assert (root.stats().accepted, root.stats().connections) == (3, 3)


GOING_ON = {name: REQUESTS[name] for name in ("upgrade", "CONNECT", "websocket")} | {
    "text": websocket("/admin")
}


@pytest.mark.asyncio
@pytest.mark.parametrize("how", GOING_ON)
async def test_what_goes_on_is_a_connection_of_the_mounted_one_and_of_no_other(how: str) -> None:
    root, admin = server("root"), server("admin", max_connections=1)
    async with mounted(root, admin) as target, fastrpc.connect(
        target.replace("tcp", "ws") + "/admin"
    ) as client:  # fmt: skip
        assert await client.call("Who.name_") == "admin"
        async with await Asker.connect(target) as asker:
            asker.send(GOING_ON[how])
            await until(lambda: admin.stats().turned_away)
            with contextlib.suppress(ConnectionResetError):
                await asker.closed()
        await until(lambda: not root.stats().connections)
        stats = admin.stats()
        assert (stats.accepted, stats.connections, stats.turned_away) == (2, 1, 1)
        assert (root.stats().accepted, root.stats().turned_away) == (2, 0)
        assert len(admin._hall.sessions) == 1
        assert await client.call("Who.name_") == "admin"
