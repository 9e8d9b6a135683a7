"""Who answers a request, by its path; and what a foreign page may ask."""

import pytest

import fastrpc
from fastrpc.server.http import HttpOptions
from tests.gateway.asking import Arith, Asker, asked, get, post
from tests.server.serving import serving


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "path",
    ["/", "/rpcs", "/rp", "//rpc", "/RPC", "/%72pc", "/rpc%2FArith.add", "/debug/rpcs", "/x"],
)
async def test_there_is_nothing_elsewhere(path: str) -> None:
    async with asked() as (_, service, asker):
        response = await asker.ask(post(path, b"[1,2]"))
        assert (response.status, response.error["status"]) == (404, 44)
        assert not service.ran


@pytest.mark.asyncio
async def test_the_name_of_a_method_is_decoded() -> None:
    async with asked() as (_, _, asker):
        assert (await asker.ask(post("/rpc/Arith%2Eadd", b"[1,2]"))).body == b"3"
        assert (await asker.ask(post("/rpc/%ff", b"[]"))).status == 400
        assert (await asker.ask(post("/rpc/" + "x" * 300, b"[]"))).status == 404


@pytest.mark.asyncio
async def test_a_version_is_called_by_its_name() -> None:
    server = fastrpc.Server()
    server.register(Arith(), version="2", group="eu")
    await server.start("tcp://127.0.0.1:0")
    async with server, await Asker.connect(server.targets[0]) as asker:
        assert (await asker.ask(post("/rpc/Arith.add@2/eu", b"[1,2]"))).body == b"3"
        listed = (await asker.ask(get("/rpc"))).json["methods"][0]
        assert (listed["name"], listed["path"]) == ("Arith.add@2/eu", "/rpc/Arith.add@2/eu")


@pytest.mark.asyncio
async def test_get_calls_what_is_declared_idempotent() -> None:
    async with asked() as (_, service, asker):
        response = await asker.ask(get("/rpc/Arith.show?text=a&n=2&more=1&more=2"))
        assert response.json == "'a' 2 [1, 2]"
        service.ran.clear()
        for path in ("/rpc/Arith.add?a=1&b=2", "/rpc/Arith.total", "/rpc/Arith.tick"):
            response = await asker.ask(get(path))
            assert (response.status, response.headers["allow"]) == (405, "POST, OPTIONS")
        assert (await asker.ask(get("/rpc/Arith.nope?a=1"))).status == 404
        assert (await asker.ask(get("/rpc/Arith.count?n=1", method="HEAD"))).status == 405
        assert (
            await asker.ask(get("/rpc/Arith.show?text=a", Content_Length="2"), b"[]")
        ).status == 400
        assert not service.ran


@pytest.mark.asyncio
async def test_a_post_has_its_arguments_in_its_body() -> None:
    async with asked() as (_, service, asker):
        assert (await asker.ask(post("/rpc/Arith.add?a=1&b=2", b""))).status == 400
        assert not service.ran


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/rpc/Arith.add", "GET, POST, HEAD, OPTIONS"),
        ("DELETE", "/rpc", "GET, HEAD, OPTIONS"),
        ("TRACE", "/healthz", "GET, HEAD, OPTIONS"),
        ("GET", "/jsonrpc", "POST, OPTIONS"),
        ("PATCH", "/rpc/openapi.json", "GET, HEAD, OPTIONS"),
    ],
)
async def test_other_methods_are_not_allowed(method: str, path: str, allowed: str) -> None:
    async with asked() as (_, _, asker):
        response = await asker.ask(get(path, method=method))
        assert (response.status, response.headers["allow"]) == (405, allowed)


@pytest.mark.asyncio
async def test_a_closed_door_does_not_exist() -> None:
    async with asked(doors=("http",)) as (_, _, asker):
        assert (await asker.ask(post("/rpc/Arith.add", b"[1,2]"))).body == b"3"
        for path in ("/healthz", "/metrics", "/debug/rpc"):
            response = await asker.ask(get(path))
            assert (response.status, "closed" in response.error["message"]) == (404, True)
        assert (await asker.ask(post("/jsonrpc", b"{}"))).status == 404
    async with asked(doors=("health",)) as (_, service, asker):
        assert (await asker.ask(get("/healthz"))).status == 200
        assert (await asker.ask(post("/rpc/Arith.add", b"[1,2]"))).status == 404
        assert (await asker.ask(get("/rpc"))).status == 404
        assert not service.ran


@pytest.mark.asyncio
async def test_other_paths_lead_to_other_servers() -> None:
    class Admin:
        def name(self) -> str:
            return "admin"

    inner = fastrpc.Server(max_body=100)
    inner.register(Admin())
    async with asked() as (server, _, asker):
        server.mount("/admin", inner)
        assert (await asker.ask(post("/admin/rpc/Admin.name"))).body == b'"admin"'
        assert (await asker.ask(post("/rpc/Admin.name"))).status == 404
        assert (await asker.ask(post("/admin/rpc/Arith.add", b"[1,2]"))).status == 404
        assert (await asker.ask(post("/rpc/Arith.add", b"[1,2]"))).body == b"3"
        assert (await asker.ask(get("/admin/healthz"))).status == 200
        assert (await asker.ask(get("/admin/rpc"))).json["methods"][0]["name"] == "Admin.name"
        assert (inner.stats().calls, server.stats().calls) == (2, 2)
        response = await asker.ask(post("/admin/rpc/Admin.name", b"[%b]" % (b" " * 100)))
        assert response.status == 413


@pytest.mark.asyncio
async def test_a_server_that_leaves_takes_no_calls() -> None:
    inner = fastrpc.Server()
    inner.register(Arith())
    async with asked() as (server, _, asker):
        server.mount("/inner", inner)
        await inner.aclose(0.0)
        response = await asker.ask(post("/inner/rpc/Arith.add", b"[1,2]"))
        assert (response.status, response.error["ran"]) == (503, "no")
        assert (await asker.ask(get("/inner/readyz"))).status == 503
        assert (await asker.ask(get("/inner/healthz"))).status == 200
        assert (await asker.ask(get("/readyz"))).status == 200


# Foreign pages


CALL = ("/rpc/Arith.add", b"[1,2]")


@pytest.mark.asyncio
@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://localhost:81", "x"])
async def test_a_foreign_page_is_refused_before_anything_runs(origin: str) -> None:
    async with asked() as (_, service, asker):
        for request in (
            post(*CALL, Origin=origin),
            get("/rpc/Arith.show?text=a", Origin=origin),
            get("/rpc/Arith.show?text=a", Sec_Fetch_Site="cross-site"),
            get("/rpc/Arith.show?text=a", Sec_Fetch_Site="same-site"),
            get("/rpc/Arith.show?text=a", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="navigate",
                Sec_Fetch_Dest="document"),
            get("/rpc/Arith.add", method="OPTIONS", Origin=origin),
            get("/healthz", Origin=origin),
            get("/healthz", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="no-cors"),
            post("/jsonrpc", b"{}", Origin=origin),
        ):  # fmt: skip
            response = await asker.ask(request)
            assert (response.status, response.error["name"]) == (403, "forbidden")
            assert not any(name.startswith("access-control") for name in response.headers)
        assert not service.ran


@pytest.mark.asyncio
async def test_our_own_pages_and_links_to_pages_are_let_in() -> None:
    async with asked() as (_, _, asker):
        response = await asker.ask(
            post(*CALL, Origin="http://localhost:7000", host="localhost:7000")
        )
        assert response.body == b"3"
        assert "access-control-allow-origin" not in response.headers
        link = get("/healthz", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="navigate",
                   Sec_Fetch_Dest="document")  # fmt: skip
        assert (await asker.ask(link)).status == 200
        assert (await asker.ask(get("/rpc/Arith.show?text=a", Sec_Fetch_Site="none"))).status == 200


@pytest.mark.asyncio
async def test_a_listed_page_is_let_in_and_may_read_the_answer() -> None:
    origin = "https://app.example"
    async with asked(http=HttpOptions(origins=(origin,))) as (_, _, asker):
        preflight = await asker.ask(
            get("/rpc/Arith.add", method="OPTIONS", Origin=origin,
                Access_Control_Request_Method="POST",
                Access_Control_Request_Headers="content-type, fastrpc-timeout")
        )  # fmt: skip
        assert preflight.status == 204
        assert preflight.headers["access-control-allow-origin"] == origin
        assert preflight.headers["access-control-allow-headers"] == "content-type, fastrpc-timeout"
        assert "POST" in preflight.headers["access-control-allow-methods"]
        response = await asker.ask(post(*CALL, Origin=origin))
        assert response.body == b"3"
        assert response.headers["access-control-allow-origin"] == origin
        assert response.headers["vary"] == "Origin"
        wrong = await asker.ask(post("/rpc/Arith.nope", b"[]", Origin=origin))
        assert wrong.headers["access-control-allow-origin"] == origin
        # What a page can send without a preflight is no call, not even of a listed page.
        for kind in ("text/plain", "application/x-www-form-urlencoded", ""):
            assert (await asker.ask(post(*CALL, Origin=origin, content_type=kind))).status == 415
        assert (await asker.ask(post(*CALL, Origin="https://other.example"))).status == 403


@pytest.mark.asyncio
async def test_any_page_may_be_let_in() -> None:
    async with asked(http=HttpOptions(origins=("*",))) as (_, _, asker):
        response = await asker.ask(post(*CALL, Origin="https://any.example"))
        assert response.headers["access-control-allow-origin"] == "https://any.example"


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("host", "http"),
    [
        ("localhost", 200), ("LocalHost:80", 200), ("a.localhost", 200), ("127.0.0.1:7000", 200),
        ("[::1]:80", 200), ("10.1.2.3", 200), ("evil.example", 421), ("127.0.0.1.evil.example", 421),
        ("localhost.evil.example", 421), ("", 421), ("rpc.example", 421),
    ],
)  # fmt: skip
async def test_a_private_listener_answers_to_no_foreign_name(host: str, http: int) -> None:
    async with asked() as (_, service, asker):
        request = post(*CALL, host="x").replace(b"Host: x", f"Host: {host}".encode())
        assert (await asker.ask(request)).status == http
        assert bool(service.ran) == (http == 200)


@pytest.mark.asyncio
async def test_names_can_be_listed() -> None:
    async with asked(http=HttpOptions(hosts=("rpc.example",))) as (_, _, asker):
        assert (await asker.ask(post(*CALL, host="RPC.example.:80"))).status == 200
        assert (await asker.ask(post(*CALL, host="other.example"))).status == 421
    async with serving(Arith(), "tcp://0.0.0.0:0") as server:
        target = server.targets[0].replace("0.0.0.0", "127.0.0.1")
        async with await Asker.connect(target) as asker:
            assert (await asker.ask(post(*CALL, host="any.example"))).status == 200
            assert (await asker.ask(get("/metrics", host="any.example"))).status == 404
