"""Every line of the table of types is sent, typed and bare, over msgpack and over JSON."""

import sys
import types
from typing import Any

import pytest

import fastrpc
from tests.docs.pages import ROOT, blocks, table

PAGE = (ROOT / "docs" / "guide" / "types.md").read_text(encoding="utf-8")
ROWS = [[cell.replace("\\|", "|").strip("`") for cell in row] for row in table(PAGE, "types")]


def names() -> dict[str, Any]:
    """Return what the block below the table defines."""
    module = types.ModuleType("types_page")
    sys.modules["types_page"] = module  # where annotations of its classes are looked up
    exec(next(b.text for b in blocks(PAGE) if b.language == "python"), module.__dict__)
    return module.__dict__


NAMES = names()


def value_of(cell: str) -> Any:
    return eval(cell, NAMES)


def service(annotation: Any) -> type:
    """Return a class with a method that gives back what it got."""

    class Echo:
        async def echo(self, value: Any) -> Any:
            assert repr(type(value))  # a handler saw it
            return value

    Echo.echo.__annotations__ = {"value": annotation, "return": annotation}
    return Echo


@pytest.mark.asyncio(loop_factories=["asyncio"])
@pytest.mark.parametrize("codec", ["msgpack", "json"])
@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row[0]}={row[1]}")
async def test_the_line_is_true(row: list[str], codec: str) -> None:
    annotation, example = value_of(row[0]), value_of(row[1])
    bare = value_of(row[2] if codec == "msgpack" else row[3])
    echo = service(annotation)
    async with fastrpc.Server() as server:
        server.register(echo)
        await server.start("mem://types")
        async with fastrpc.connect("mem://types", codec=codec) as client:
            typed = await client.stub(echo).echo(example)
            assert (typed, type(typed)) == (example, type(example))
            plain = await client.call("Echo.echo", example)
            assert (plain, type(plain)) == (bare, type(bare))


@pytest.mark.asyncio(loop_factories=["asyncio"])
@pytest.mark.parametrize("codec", ["cbor", "xml"])
@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row[0]}={row[1]}")
async def test_the_line_is_true_of_extras_that_describe_themselves(
    row: list[str], codec: str
) -> None:
    annotation, example = value_of(row[0]), value_of(row[1])
    echo = service(annotation)
    async with fastrpc.Server(codecs=[codec]) as server:
        server.register(echo)
        await server.start("mem://types")
        async with fastrpc.connect("mem://types", codec=codec) as client:
            typed = await client.stub(echo).echo(example)
            assert (typed, type(typed)) == (example, type(example))
            by_name = await client.stub(echo).echo(value=example)
            assert (by_name, type(by_name)) == (example, type(example))


@pytest.mark.parametrize(
    "annotation",
    [
        "Point | Options",
        "str | UUID",
        "dict[tuple[int, int], str]",
        "complex",
        "int | float | Level",
    ],
)
def test_what_the_fine_print_refuses_is_refused(annotation: str) -> None:
    with pytest.raises(fastrpc.ConfigError, match=r"^Echo\.echo: "):
        fastrpc.Server().register(service(value_of(annotation))())


@pytest.mark.asyncio(loop_factories=["asyncio"])
@pytest.mark.parametrize("codec", ["msgpack", "json"])
async def test_fine_print_of_values(codec: str) -> None:
    taken: dict[str, Any] = {
        "float": 2,
        "dict[UUID, int]": {NAMES["UUID"](int=5): 1},
        "Struct | None": None,
    }
    refused: dict[str, Any] = {"int": "1", "bool": 1, "Kelvin": {"degrees": -1.0}}
    exec(
        "@dataclass\nclass Kelvin:\n    degrees: float\n"
        "    def __post_init__(self):\n"
        "        if self.degrees < 0: raise ValueError('below zero')\n",
        NAMES,
    )
    for annotation, value in (taken | refused).items():
        echo = service(value_of(annotation))
        async with fastrpc.Server() as server:
            server.register(echo)
            await server.start("mem://types")
            async with fastrpc.connect("mem://types", codec=codec) as client:
                call: Any = client.stub(echo).echo(value)
                if annotation in taken:
                    assert await call == value
                else:
                    with pytest.raises(fastrpc.InvalidArgument, match="'value'"):
                        await call


@pytest.mark.asyncio(loop_factories=["asyncio"])
async def test_how_large_integers_are() -> None:
    async with fastrpc.Server() as server:
        server.register(lambda value: value, name="echo")
        await server.start("mem://types")
        async with fastrpc.connect("mem://types") as client:
            for number in (-(2**63), 2**64 - 1):
                assert await client.call("echo", number) == number
            for number in (-(2**63) - 1, 2**64):
                with pytest.raises(fastrpc.CodecError):
                    await client.call("echo", number)
        async with fastrpc.connect("mem://types", codec="json") as client:
            assert await client.call("echo", 2**70) == 2**70
            assert await client.call("echo", float("inf")) is None
