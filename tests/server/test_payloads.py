"""Compressed payloads and buffers beside them, over real connections."""

from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import fastrpc
from fastrpc.wire import BIG_BODY
from tests.server.serving import target_of, use_twin

pytestmark = pytest.mark.asyncio
TEXT = "the same again and " * 500


class Work:
    def echo(self, value: Any) -> Any:
        return value

    def double(self, array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        array *= 2  # it belongs to the handler
        return array

    def put(self, name: str, data: bytes, *, more: bytes = b"") -> list[Any]:
        return [name, type(data).__name__, len(data), len(more)]

    def view(self, data: memoryview) -> memoryview:
        return data

    async def items(self, items: AsyncIterator[Any]) -> AsyncIterator[Any]:
        async for item in items:
            yield item

    def fail(self, text: str) -> None:
        raise ValueError(text)


async def talk(client: fastrpc.Client, codec: str) -> None:
    stub = client.stub(Work)
    assert await client.call("Work.echo", TEXT) == TEXT
    array = np.arange(BIG_BODY, dtype="f8" if codec != "json" else "i8").reshape(64, -1)
    doubled = await stub.double(array)  # type: ignore[misc]
    assert (doubled == 2 * array).all()
    assert doubled.dtype == array.dtype
    big = b"\xff" * (3 * BIG_BODY)
    assert await stub.put("x", big, more=big) == ["x", "bytes", len(big), len(big)]  # type: ignore[misc]
    if codec != "pickle":
        assert bytes(await stub.view(memoryview(big))) == big  # type: ignore[misc]

    async def several() -> AsyncIterator[Any]:
        for item in (1, TEXT, [array], "x"):
            yield item

    got = [item async for item in stub.items(several())]
    assert (got[0], got[1], got[3]) == (1, TEXT, "x")
    assert np.array_equal(got[2][0], array)
    with pytest.raises(fastrpc.RemoteError, match="the same again"):
        await client.call("Work.fail", TEXT)


@pytest.mark.parametrize("compression", [(), ("zlib",), ("zstd", "zlib"), ("lz4",)], ids=str)
@pytest.mark.parametrize("codec", ["msgpack", "json", "cbor", "pickle"])
@pytest.mark.parametrize("scheme", ["tcp", "mem"])
async def test_whatever_was_agreed_on(
    twin: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, tmp_path: Any, scheme: str, codec: str,
    compression: tuple[str, ...],
) -> None:  # fmt: skip
    use_twin(monkeypatch, twin)
    async with fastrpc.Server(compression=compression, codecs=["cbor"], pickle=True) as server:
        server.register(Work())
        await server.start(target_of(scheme, tmp_path))
        async with fastrpc.connect(
            server.targets[0], compression=compression, codec=codec, codecs=["cbor"], pickle=True
        ) as client:
            await talk(client, codec)
            lane = client.lanes[0]
            assert lane.has_segments
            assert bool(lane.zip_from) is bool(compression)
        await server.aclose(1.0)


@pytest.mark.parametrize(
    ("server", "client", "smaller"),
    [(("zlib",), ("zlib",), True), (("zlib",), (), False), ((), ("zlib",), False)],
)
async def test_only_what_both_name(
    server: tuple[str, ...], client: tuple[str, ...], smaller: bool
) -> None:
    async with fastrpc.Server(compression=server) as serving:
        serving.register(Work())
        await serving.start("mem://payloads-named")
        async with fastrpc.connect("mem://payloads-named", compression=client) as caller:
            await caller.call("Work.echo", TEXT)
            assert (caller.lanes[0].bytes_out < len(TEXT)) is smaller
            assert (caller.lanes[0].bytes_in < len(TEXT)) is smaller


async def test_the_order_of_the_client_counts() -> None:
    async with fastrpc.Server(compression=("zlib", "zstd", "lz4")) as server:
        server.register(Work())
        await server.start("mem://payloads-order")
        async with fastrpc.connect("mem://payloads-order", compression=("lz4", "zlib")) as client:
            await client.call("Work.echo", TEXT)
            pack: Any = client.lanes[0].pack
            assert pack.__self__.compressor.name == "lz4"


async def test_below_the_threshold_nothing_is_done() -> None:
    async with fastrpc.Server(compression=["zlib"], compress_from=20_000) as server:
        server.register(Work())
        await server.start("mem://payloads-threshold")
        async with fastrpc.connect(
            "mem://payloads-threshold", compression=["zlib"], compress_from=len(TEXT) + 100
        ) as client:
            await client.call("Work.echo", TEXT)
            assert client.lanes[0].bytes_out > len(TEXT)
            assert client.lanes[0].bytes_in > len(TEXT)
            await client.call("Work.echo", TEXT * 3)
            assert client.lanes[0].bytes_out < 2 * len(TEXT)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"compression": ["nope"]}, "no compressor is called 'nope'"),
        ({"compression": "zlib"}, "compression must be a list of names"),
        ({"compress_from": -1}, "compress_from must be"),
        ({"compress_from": 1.5}, "compress_from must be"),
        ({"compression": ["zlib", "zlib"]}, "zlib"),
    ],
)
async def test_options_that_make_no_sense(options: dict[str, Any], words: str) -> None:
    with pytest.raises(fastrpc.ConfigError, match=words):
        fastrpc.Server(**options)
    with pytest.raises(fastrpc.ConfigError, match=words):
        fastrpc.connect("mem://nobody", **options)


async def test_a_handler_owns_its_array_and_the_caller_keeps_his() -> None:
    async with fastrpc.Server() as server:
        server.register(Work())
        await server.start("tcp://127.0.0.1:0")
        async with fastrpc.connect(server.targets[0]) as client:
            array = np.ones(BIG_BODY)
            results = await client.gather([("Work.double", array)] * 3)
            assert (array == 1).all()
            assert all((each == 2).all() for each in results)
