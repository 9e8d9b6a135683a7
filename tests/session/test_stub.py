import abc
import enum
from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple, Protocol, TypedDict
from uuid import UUID

import msgspec
import pytest

import fastrpc
from fastrpc.codec import Mismatch
from fastrpc.session.stub import make_stub
from tests.client.served import Background, serving


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Size(NamedTuple):
    width: int
    height: int


class Tag(TypedDict):
    name: str
    weight: float


class Struct(msgspec.Struct):
    id: int
    name: str = "none"


@dataclass
class Item:
    id: UUID
    when: datetime
    colour: Colour
    size: Size
    tags: list[Tag] = field(default_factory=list)
    parent: "Item | None" = None


ITEM = Item(
    UUID(int=7),
    datetime(2026, 11, 21, 1, 2, 3, tzinfo=UTC),
    Colour.BLUE,
    Size(2, 3),
    [{"name": "a", "weight": 0.5}],
    Item(UUID(int=8), datetime(2025, 1, 1, tzinfo=UTC), Colour.RED, Size(0, 0)),
)


class Shop:
    """Gives back what it takes, typed."""

    async def item(self, item: Item) -> Item:
        return item

    async def items(self, items: dict[str, list[Item]]) -> dict[str, list[Item]]:
        return items

    async def struct(self, value: Struct) -> Struct:
        return value

    async def colours(self, colours: set[Colour]) -> set[Colour]:
        return colours

    async def size(self, size: Size) -> Size:
        return size

    async def maybe(self, item: Item | None = None) -> Item | None:
        return item

    async def anything(self, value):  # type: ignore[no-untyped-def]
        return value

    async def nothing(self) -> None:
        return None

    async def lie(self) -> int:
        return "not an int"  # type: ignore[return-value]

    async def many(self, *values: int, **named: int) -> list[int]:
        return [*values, *named.values()]

    async def only(self, a: int, /, *, b: int = 1) -> int:
        return a * b

    @fastrpc.rpc(name="odd-name")
    async def renamed(self) -> str:
        return "renamed"

    @staticmethod
    async def static(a: int) -> int:
        return a

    @classmethod
    async def of_class(cls, a: int) -> int:
        return a

    async def feed(self) -> AsyncIterator[int]:
        yield 1

    async def _hidden(self) -> None: ...


@pytest.mark.asyncio
@pytest.mark.parametrize("codec", ["msgpack", "json"])
async def test_results_have_the_annotated_types(codec: str) -> None:
    async with serving() as (server, _):
        server.register(Shop())
        async with fastrpc.connect(server.targets[0], codec=codec) as client:
            shop = client.stub(Shop)
            assert await shop.item(ITEM) == ITEM
            assert await shop.items({"x": [ITEM]}) == {"x": [ITEM]}
            assert await shop.struct(Struct(1)) == Struct(1)
            assert await shop.colours({Colour.RED}) == {Colour.RED}
            assert await shop.size(Size(1, 2)) == Size(1, 2)
            assert type(await shop.size(Size(1, 2))) is Size
            assert await shop.maybe() is None
            assert await shop.maybe(ITEM) == ITEM
            assert await shop.anything({"a": 1}) == {"a": 1}
            assert await shop.nothing() is None
            assert await shop.many(1, 2, x=3) == [1, 2, 3]
            assert await shop.only(2, b=3) == 6
            assert await shop.renamed() == "renamed"
            assert await shop.static(4) == 4
            assert await shop.of_class(5) == 5
            assert await client.call("Shop.size", [1, 2]) == [1, 2]  # untyped


class Liar:
    """The same methods as `Shop`, with results of other types."""

    async def lie(self) -> Any:
        return "not an int"

    async def struct(self, value: Any) -> Any:
        return {"id": "one"}

    async def items(self, items: Any) -> Any:
        return {"x": [5]}

    async def colours(self, colours: Any) -> Any:
        return ["green"]

    async def size(self, size: Any) -> Any:
        return [1]


LIES = {
    "lie": ((), "result: expected int, got str"),
    "struct": ((1,), "result, field 'id': expected int, got str"),
    "items": ((1,), "result, value of 'x', item 0: expected Item, got int"),
    "colours": ((1,), "result, item 0: expected one of 'red', 'blue', got another str"),
    "size": ((1,), "result: expected 2 items, got 1"),
}


@pytest.mark.asyncio
@pytest.mark.parametrize("codec", ["msgpack", "json"])
@pytest.mark.parametrize("method", LIES)
async def test_a_result_of_another_type_is_told_as_an_argument_is(method: str, codec: str) -> None:
    args, words = LIES[method]
    async with serving() as (server, _):
        server.register(Liar(), name="Shop")
        async with fastrpc.connect(server.targets[0], codec=codec) as client:
            with pytest.raises(fastrpc.CodecError) as e:
                await getattr(client.stub(Shop), method)(*args)
            assert str(e.value) == f"Shop.{method}: {words}"
            assert e.value.ran == "yes"


def test_a_blocking_stub_tells_the_same() -> None:
    with Background() as server, fastrpc.connect_sync(server.target) as client:
        server.do(lambda: server.server.register(Liar(), name="Shop"))
        with pytest.raises(fastrpc.CodecError) as e:
            client.stub(Shop).lie()  # type: ignore[unused-coroutine]
        assert (str(e.value), e.value.ran) == ("Shop.lie: result: expected int, got str", "yes")


class Odd:
    """A codec of somebody's own, which has no `Mismatch`."""

    def decode(self, data: bytes) -> object:
        if data == b"broken":
            raise ValueError("no value")
        return data

    def decoder(self, type: object) -> Any:
        def read(data: bytes) -> object:
            raise KeyError(data)

        return read

    def convert(self, value: object, type: object) -> object:
        if value == b"fits":
            return value
        raise fastrpc.CodecError("not that" if value == b"told" else "")


def test_a_codec_of_ones_own_may_raise_anything() -> None:
    stub: Any = make_stub(Shop, None, lambda bound: bound.decode, Odd())  # type: ignore[arg-type]
    assert stub.lie(b"fits") == b"fits"
    with pytest.raises(Mismatch, match="^not that$"):
        stub.lie(b"told")
    with pytest.raises(Mismatch, match="^CodecError$"):
        stub.lie(b"")
    with pytest.raises(ValueError, match="no value"):  # no value at all: not a mismatch
        stub.lie(b"broken")


@pytest.mark.asyncio
async def test_another_name() -> None:
    async with serving() as (server, _), fastrpc.connect(server.targets[0]) as client:
        server.register(Shop(), name="Corner")
        assert await client.stub(Shop, name="Corner").static(1) == 1
        with pytest.raises(fastrpc.MethodNotFound, match="Shop.static"):
            await client.stub(Shop).static(1)


@pytest.mark.asyncio
async def test_a_stub_of_a_view_keeps_its_options() -> None:
    async with serving() as (server, work), fastrpc.connect(server.targets[0]) as client:
        stub = client.options(timeout=0.02).stub(type(work))
        with pytest.raises(fastrpc.DeadlineExceeded):
            await stub.wait("x")


def test_what_is_not_there_is_told() -> None:
    stub: Any = fastrpc.connect("mem://nobody").stub(Shop)
    assert repr(stub) == "<stub of Shop>"
    with pytest.raises(AttributeError, match="Shop has no method 'missing'"):
        stub.missing()
    with pytest.raises(AttributeError, match="Shop has no method '_hidden'"):
        stub._hidden()


def test_interfaces_make_stubs_too() -> None:
    class Abstract(abc.ABC):
        def __init__(self, needed: int) -> None:
            raise AssertionError("never made")

        @abc.abstractmethod
        async def add(self, a: int) -> int: ...

    class Face(Protocol):
        async def add(self, a: int) -> int: ...

    client = fastrpc.connect("mem://nobody")
    assert callable(client.stub(Abstract).add)  # type: ignore[type-abstract]
    assert callable(client.stub(Face).add)  # type: ignore[type-abstract]


def test_making_a_stub_has_no_side_effects_on_the_class() -> None:
    subclasses: list[str] = []

    class Registered:
        def __init_subclass__(cls) -> None:
            subclasses.append(cls.__name__)

        async def add(self) -> None: ...

    fastrpc.connect("mem://nobody").stub(Registered)
    assert subclasses == []


@pytest.mark.parametrize(
    ("service", "words"),
    [
        (Shop(), "takes a class"),
        (len, "takes a class"),
        (type("Empty", (), {}), "no public methods"),
        (type("Sub", (dict,), {"go": lambda self: None}), "can't be a stub"),
    ],
)
def test_what_can_be_no_stub(service: Any, words: str) -> None:
    for client in (fastrpc.connect("mem://x"), fastrpc.connect_sync("tcp://127.0.0.1:1")):
        with pytest.raises(fastrpc.ConfigError, match=words):
            client.stub(service)


class ShopAsync:
    """What `fastrpc stubs` writes: types for checkers, and the class it is about."""

    __fastrpc__ = Shop

    def size(self, size: Size) -> Awaitable[Size]:
        raise NotImplementedError


@pytest.mark.asyncio
async def test_a_stub_class_stands_for_the_class_it_was_made_from() -> None:
    async with serving() as (server, _):
        server.register(Shop())
        server.register(Shop(), name="Other")
        async with fastrpc.connect(server.targets[0]) as client:
            shop = client.stub(ShopAsync)
            assert repr(shop) == "<stub of Shop>"
            assert await shop.size(Size(1, 2)) == Size(1, 2)
            assert await client.stub(ShopAsync, name="Other").size(Size(3, 4)) == Size(3, 4)


def test_a_blocking_stub_class_does_so_too() -> None:
    class ShopSync:
        __fastrpc__ = Shop

        def size(self, size: Size) -> Size:
            raise NotImplementedError

    with Background() as background:
        background.do(lambda: background.server.register(Shop()))
        with fastrpc.connect_sync(background.target) as client:
            assert client.stub(ShopSync).size(Size(1, 2)) == Size(1, 2)
