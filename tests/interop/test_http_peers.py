"""Programs that nobody here wrote, at our HTTP door and between: curl, Python, Go, nginx, haproxy."""

import asyncio
import contextlib
import http.client
import json
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

import fastrpc
from fastrpc.server.http import HttpOptions
from tests.gateway.asking import Arith, Asker, get
from tests.interop.foreign import free_port, need, running
from tests.interop.programs import finished, go_program
from tests.server.serving import serving, until

pytestmark = pytest.mark.slow


@contextlib.asynccontextmanager
async def served(**options: Any) -> AsyncIterator[tuple[fastrpc.Server, str, Arith]]:
    service = Arith()
    async with serving(service, **options) as server:
        yield server, server.targets[0].removeprefix("tcp://"), service


async def curl(*words: str | Path) -> str:
    """Run curl; return what it says."""
    return await finished(need("curl"), "-sS", "--max-time", "15", *words)


# curl


@pytest.mark.asyncio
async def test_the_line_that_everything_began_with() -> None:
    async with served() as (_, place, _):
        assert await curl("-d", '{"a":1,"b":2}', f"{place}/rpc/Arith.add") == "3"


@pytest.mark.asyncio
@pytest.mark.parametrize("version", ["--http1.0", "--http1.1", "--http2"])
async def test_curl_in_its_versions(version: str) -> None:
    async with served() as (_, place, _):
        url = f"http://{place}/rpc/Arith.add"
        assert await curl(version, "-d", "[1,2]", url) == "3"
        said = await curl(version, "-d", "[1,2]", url, url, "-w", " %{num_connects} ")
        assert said == ("3 1 3 1 " if version == "--http1.0" else "3 1 3 0 "), "kept alive"


@pytest.mark.asyncio
async def test_curl_sees_status_and_errors() -> None:
    async with served(max_body=1000) as (_, place, _):
        said = await curl("-i", "-d", "[1]", f"{place}/rpc/Arith.add")
        assert said.startswith("HTTP/1.1 400 Bad Request\r\n")
        assert json.loads(said.partition("\r\n\r\n")[2])["error"]["name"] == "bad_request"
        said = await curl("-I", f"{place}/rpc/Arith.show?text=a")
        assert said.startswith("HTTP/1.1 200 OK\r\n")
        assert await curl("-G", "--data-urlencode", "text=a b", "--data-urlencode", "n=2",
                          f"{place}/rpc/Arith.show") == "\"'a b' 2 None\""  # fmt: skip


@pytest.mark.asyncio
async def test_an_upload_by_curl_that_is_too_large(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(b" " * 30_000_000)
    async with served() as (_, place, _):
        for more in ((), ("-H", "Transfer-Encoding: chunked"), ("-H", "Expect:")):
            said = await curl("-o", tmp_path / "answer", "-w", "%{http_code}", *more,
                              "--data-binary", f"@{tmp_path}/large", f"{place}/rpc/Arith.echo")  # fmt: skip
            assert said == "413"
            assert "max_body" in (tmp_path / "answer").read_text()


@pytest.mark.asyncio
async def test_a_large_upload_by_curl_that_fits(tmp_path: Path) -> None:
    text = json.dumps(["x" * 5_000_000])
    (tmp_path / "body").write_text(text)
    async with served() as (_, place, _):
        for more in ((), ("-H", "Transfer-Encoding: chunked")):
            said = await curl(
                *more, "--data-binary", f"@{tmp_path}/body", f"{place}/rpc/Arith.echo"
            )
            assert f"[{said}]" == text


@pytest.mark.asyncio
async def test_streams_by_curl(tmp_path: Path) -> None:
    async with served() as (_server, place, _service):
        url = f"{place}/rpc/Arith.count"
        assert await curl("-N", "-d", "[3]", url) == '0\n1\n2\n{"end":true}\n'
        said = await curl("-N", "-H", "Accept: text/event-stream", f"{url}?n=2")
        assert said.split("\n\n") == ["data: 0", "data: 1", "event: end\ndata: {}", ""]
        (tmp_path / "lines").write_text("1\n2\n3\n")
        said = await curl("-H", "Content-Type: application/x-ndjson", "-T", tmp_path / "lines",
                          "-X", "POST", f"{place}/rpc/Arith.total")  # fmt: skip
        assert said == "6"


@pytest.mark.asyncio
async def test_curl_that_is_ended_takes_its_call_along() -> None:
    async with served() as (_server, place, service):
        process = await asyncio.create_subprocess_exec(
            need("curl"), "-sS", "-d", "[]", f"{place}/rpc/Arith.wait",
            stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        await until(lambda: service.ran)
        process.kill()
        await process.wait()
        await until(lambda: service.fate == "cancelled")


@pytest.mark.asyncio
async def test_curl_over_a_unix_socket(tmp_path: Path) -> None:
    async with serving(Arith(), f"unix://{tmp_path}/s"):
        said = await curl("--unix-socket", tmp_path / "s", "-d", "[1,2]",
                          "http://localhost/rpc/Arith.add")  # fmt: skip
        assert said == "3"


# Python's own


@pytest.mark.asyncio
async def test_pythons_own_client() -> None:
    def work(place: str) -> None:
        connection = http.client.HTTPConnection(place, timeout=15)
        for number in range(5):
            body = json.dumps([number, 1])
            connection.request("POST", "/rpc/Arith.add", body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            assert (response.status, json.load(response)) == (200, number + 1)
        connection.request(
            "POST", "/rpc/Arith.count", iter([b"[", b"5", b"]"]), encode_chunked=True
        )
        assert connection.getresponse().read().splitlines()[-1] == b'{"end":true}'
        connection.request("HEAD", "/healthz")
        assert connection.getresponse().read() == b""
        connection.close()
        with urllib.request.urlopen(f"http://{place}/rpc/Arith.add", b"[1,2]", timeout=15) as told:
            assert told.read() == b"3"
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"http://{place}/rpc/Arith.add", b"[1]", timeout=15)
        with refused.value as error:
            assert (error.code, json.load(error)["error"]["status"]) == (400, 40)

    async with served() as (_, place, _):
        await asyncio.to_thread(work, place)


# Go's own

GO = """package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
)

func main() {
	place := "http://" + os.Args[1]
	for i := 0; i < 100; i++ {
		body := strings.NewReader(fmt.Sprintf("[%d,1]", i))
		answer, err := http.Post(place+"/rpc/Arith.add", "application/json", body)
		if err != nil {
			panic(err)
		}
		said, _ := io.ReadAll(answer.Body)
		answer.Body.Close()
		if string(said) != fmt.Sprint(i+1) {
			panic(string(said))
		}
	}
	reader, writer := io.Pipe()
	go func() {
		for i := 0; i < 1000; i++ {
			fmt.Fprintln(writer, i)
		}
		writer.Close()
	}()
	answer, err := http.Post(place+"/rpc/Arith.total", "application/x-ndjson", reader)
	if err != nil {
		panic(err)
	}
	total, _ := io.ReadAll(answer.Body)
	answer.Body.Close()
	ctx, cancel := context.WithCancel(context.Background())
	request, _ := http.NewRequestWithContext(ctx, "POST", place+"/rpc/Arith.tick", nil)
	answer, err = http.DefaultClient.Do(request)
	if err != nil {
		panic(err)
	}
	first, _ := bufio.NewReader(answer.Body).ReadString('\\n')
	cancel()
	fmt.Println(string(total), strings.TrimSpace(first))
}
"""


@pytest.mark.asyncio
@pytest.mark.timeout(240)
async def test_gos_own_client() -> None:
    program = await asyncio.to_thread(go_program, GO)
    async with served() as (server, place, _):
        assert await finished(program, place) == "499500 1\n"
        await until(lambda: not server.stats().running)
        assert server.stats().accepted <= 3, "connections are used again"


# Between: nginx and haproxy


@contextlib.contextmanager
def nginx(folder: Path, place: str) -> Iterator[str]:
    port = free_port()
    folder.chmod(0o777)
    temporary = "".join(
        f"{name}_temp_path {folder}/{name};\n"
        for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(
        f"daemon off;\nmaster_process off;\npid {folder}/pid;\nerror_log stderr;\n"
        f"events {{}}\nhttp {{\naccess_log off;\n{temporary}"
        "map $http_upgrade $upgrading { default upgrade; '' ''; }\n"
        f"upstream rpc {{ server {place}; keepalive 4; }}\n"
        f"server {{\nlisten 127.0.0.1:{port};\nclient_max_body_size 0;\n"
        "location / {\nproxy_pass http://rpc;\nproxy_http_version 1.1;\n"
        "proxy_set_header Host $http_host;\n"
        "proxy_set_header Upgrade $http_upgrade;\n"
        "proxy_set_header Connection $upgrading;\nproxy_read_timeout 60s;\n}\n}\n}\n"
    )
    with running(["nginx", "-p", str(folder), "-c", str(folder / "nginx.conf")], ready=port):
        yield f"127.0.0.1:{port}"


@contextlib.contextmanager
def haproxy(folder: Path, place: str) -> Iterator[str]:
    port = free_port()
    (folder / "haproxy.cfg").write_text(
        "defaults\n mode http\n timeout connect 5s\n timeout client 60s\n timeout server 60s\n"
        " timeout tunnel 60s\n option http-keep-alive\n option abortonclose\n"
        f"frontend f\n bind 127.0.0.1:{port}\n default_backend b\n"
        f"backend b\n server s {place}\n"
    )
    with running(["haproxy", "-db", "-f", str(folder / "haproxy.cfg")], ready=port):
        yield f"127.0.0.1:{port}"


BETWEEN = {"nginx": nginx, "haproxy": haproxy}


@pytest.mark.asyncio
@pytest.mark.parametrize("name", BETWEEN)
async def test_a_reverse_proxy_between(name: str, tmp_path: Path) -> None:
    async with served(max_body=2_000_000) as (server, place, _service):
        with BETWEEN[name](tmp_path, place) as front:
            target = f"tcp://{front}"
            # JSON, streams, errors, uploads
            assert await curl("-d", '{"a":1,"b":2}', f"{front}/rpc/Arith.add") == "3"
            said = await curl("-d", "[1]", "-w", " %{http_code}", f"{front}/rpc/Arith.add")
            assert said.endswith(" 400")
            async with await Asker.connect(target) as asker:
                asker.send(get("/rpc/Arith.count?n=3", host=front, Accept="text/event-stream"))
                assert (await asker.answer()).body.count(b"data: ") == 4
            lines = "".join(f"{n}\n" for n in range(1000))
            (tmp_path / "lines").write_text(lines)
            said = await curl("-H", "Content-Type: application/x-ndjson", "--data-binary",
                              f"@{tmp_path}/lines", f"{front}/rpc/Arith.total")  # fmt: skip
            assert said == "499500"
            (tmp_path / "large").write_bytes(b" " * 3_000_000)
            said = await curl("-o", "/dev/null", "-w", "%{http_code}", "--data-binary",
                              f"@{tmp_path}/large", f"{front}/rpc/Arith.echo")  # fmt: skip
            assert said == "413"
            # Each item of a stream at once, and who hangs up is noticed
            async with await Asker.connect(target) as asker:
                asker.send(get("/rpc/Arith.tick", method="POST", host=front))
                await asker.head()
                assert await asker.chunk() == b"1\n"
            await until(lambda: not server.stats().running)
            # The binary protocol through it
            async with fastrpc.connect(f"http://{front}") as client:
                assert await client.call("Arith.add", 1, 2) == 3
                assert [n async for n in client.stream("Arith.count", 100)] == list(range(100))
                data = bytes(range(256)) * 4000
                assert await client.call("Arith.echo", data) == data


@pytest.mark.asyncio
@pytest.mark.parametrize("name", BETWEEN)
async def test_smuggled_requests_through_a_reverse_proxy(name: str, tmp_path: Path) -> None:
    """Whatever the proxy makes of it: what was a body does not run."""
    hidden = b'POST /rpc/Arith.show HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\n["x"]'
    async with served() as (_, place, service):
        with BETWEEN[name](tmp_path, place) as front:
            host = b"POST /rpc/Arith.echo HTTP/1.1\r\nHost: %b\r\n" % front.encode()
            for head in (
                b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
                b"Content-Length: 5\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
                b"Content-Length: 5\r\nTransfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n",
                b"Content-Length: 0\r\nContent-Length: %d\r\n\r\n" % len(hidden),
                b"Content-Length: %d\r\nX: y\n z\r\n\r\n" % len(hidden),
            ):
                said = b""
                async with await Asker.connect(f"tcp://{front}") as asker:
                    asker.send(host, b"Content-Type: application/json\r\n", head, hidden)
                    asker.send(get("/healthz", host=front, Connection="close"))
                    with contextlib.suppress(ConnectionError):
                        said = await asker.closed()
                # Where the proxy itself saw a second request, its sender got the answer.
                assert said.count(b"'x' 1 None") == len(service.ran)
                service.ran.clear()
            async with await Asker.connect(f"tcp://{front}") as other:
                answer = await other.ask(get("/healthz", host=front))
                assert answer.json == {"status": "alive"}, "nobody gets another's answer"


@pytest.mark.asyncio
async def test_a_proxy_passes_a_public_name_on(tmp_path: Path) -> None:
    """What a private listener needs for it: the name in `hosts`."""
    for hosts, status in (((), 421), (("rpc.example",), 200)):
        async with served(http=HttpOptions(hosts=hosts)) as (_, place, _):
            folder = tmp_path / str(status)
            folder.mkdir()
            with haproxy(folder, place) as front:
                async with await Asker.connect(f"tcp://{front}") as asker:
                    assert (await asker.ask(get("/healthz", host="rpc.example"))).status == status
