"""The text of stub classes is Python that means what the class says."""

import ast
import datetime
import enum
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NewType, TypeVar

import pytest

from fastrpc.cli.stubtext import write_stubs
from fastrpc.errors import ConfigError

T = TypeVar("T")
Number = NewType("Number", int)


class Size(enum.Enum):
    SMALL = 1


@dataclass
class Item:
    class Part:
        pass

    name: str


class Empty:
    def no_doc(self) -> None: ...


class Shop:
    """Sell "things".

    And more.
    """

    def types(
        self,
        a: Annotated[int, "note"],
        b: Sequence[Item] | None,
        c: Literal["x", 1, Size.SMALL],
        d: tuple[()],
        e: tuple[int, ...],
        f: Number,
        g: T,
        h: Any,
        i: dict[str, datetime.datetime],
        j: Item.Part,
    ) -> None: ...

    def defaults(
        self,
        a: int = 1,
        b: str = "x'\"",
        c: Size = Size.SMALL,
        d: float = float("inf"),
        e: list[int] = [],  # noqa: B006
        f: int = None,  # type: ignore[assignment]  # noqa: RUF013
        g: bytes = b"",
    ) -> None: ...

    def shapes(self, a: int, /, b: int, *rest: int, c: int, **more: str) -> None: ...
    def named(self, *, a: int) -> None: ...
    def numbers(self) -> Iterator[int]:
        yield 1

    async def count(self, n: int) -> AsyncIterator[Item]:
        yield Item("")

    async def feed(self, parts: AsyncIterator[bytes]) -> int: ...
    def untyped(self, a, b=None): ...  # type: ignore[no-untyped-def]

    def quotes(self) -> None:
        """Say 'so \\d', and \"\"\"so\"\"\"."""


class Awkward:
    """Methods called like what their annotations need."""

    def list(self) -> None: ...
    def Item(self) -> None: ...
    def datetime(self) -> None: ...
    def use(self, a: "list[int]", b: "Item", c: "datetime.date") -> None: ...


Awkward.use.__annotations__ = {"a": list[int], "b": Item, "c": datetime.date, "return": None}


def written(service: type, kind: str, *, interface: bool = False) -> dict[str, str]:
    """Return the head of each method, in one form."""
    text = write_stubs(service, [kind], interface=interface)
    tree = ast.parse(text)
    compile(text, "stubs", "exec")
    (cls,) = (node for node in tree.body if isinstance(node, ast.ClassDef))
    return {
        node.name: f"({ast.unparse(node.args)}) -> {ast.unparse(node.returns)}"
        for node in cls.body
        if isinstance(node, ast.FunctionDef) and node.returns is not None
    }


@pytest.mark.parametrize(
    ("name", "sync"),
    [
        (
            "types",
            "(self, a: int, b: Sequence[Item] | None, c: Literal['x', 1, Size.SMALL], "
            "d: tuple[()], e: tuple[int, ...], f: Number, g: Any, h: Any, "
            "i: dict[str, datetime], j: Item.Part) -> None",
        ),
        (
            "defaults",
            "(self, a: int=1, b: str='x\\'\"', c: Size=Size.SMALL, d: float=_DEFAULT, "
            "e: list[int]=_DEFAULT, f: int | None=None, g: bytes=b'') -> None",
        ),
        ("shapes", "(self, a: int, /, b: int, *rest: int, c: int, **more: str) -> None"),
        ("named", "(self, *, a: int) -> None"),
        ("numbers", "(self) -> Iterator[int]"),
        ("count", "(self, n: int) -> Iterator[Item]"),
        ("feed", "(self, parts: Iterable[bytes]) -> int"),
        ("untyped", "(self, a: Any, b: Any=None) -> Any"),
    ],
)
def test_blocking_stubs(name: str, sync: str) -> None:
    assert written(Shop, "Sync")[name] == sync


@pytest.mark.parametrize(
    ("name", "result"),
    [
        ("named", "Awaitable[None]"),
        ("numbers", "Stream[int]"),
        ("count", "Stream[Item]"),
        ("feed", "Awaitable[int]"),
        ("untyped", "Awaitable[Any]"),
    ],
)
def test_asyncio_stubs(name: str, result: str) -> None:
    assert written(Shop, "Async")[name].rpartition(" -> ")[2] == result
    assert written(Shop, "Async")["feed"].startswith("(self, parts: AsyncIterable[bytes])")


def test_defaults_of_an_interface_are_not_told() -> None:
    assert "e: list[int]=..." in written(Shop, "Sync", interface=True)["defaults"]
    assert "_DEFAULT" not in write_stubs(Shop, ["Sync"], interface=True)


def test_what_is_written_can_be_imported_and_leads_back() -> None:
    scope: dict[str, Any] = {}
    exec(write_stubs(Shop, ["Async", "Sync"], interface=False), scope)
    assert vars(scope["ShopAsync"])["__fastrpc__"] is Shop
    assert vars(scope["ShopSync"])["__fastrpc__"] is Shop
    assert scope["ShopAsync"].__doc__ == 'Sell "things".'
    with pytest.raises(NotImplementedError):
        scope["ShopSync"]().named(a=1)


def test_methods_hide_no_types() -> None:
    scope: dict[str, Any] = {}
    exec(write_stubs(Awkward, ["Sync"], interface=False), scope)
    assert scope["AwkwardSync"].use.__annotations__ == Awkward.use.__annotations__


def test_types_that_cannot_be_imported_are_refused() -> None:
    @dataclass
    class Local:
        x: int

    class Service:
        def get(self) -> list[Local]: ...

    with pytest.raises(ConfigError, match="the type .*Service can't be imported from"):
        write_stubs(Service, ["Sync"], interface=False)
    with pytest.raises(ConfigError, match=r"Service\.get: the type .*Local can't be imported from"):
        write_stubs(Service, ["Sync"], interface=True)


@pytest.mark.parametrize("name", ["a-b", "class"])
def test_methods_that_python_cannot_call_by_name(name: str) -> None:
    odd = type("Odd", (), {name: lambda self: None})
    with pytest.raises(ConfigError, match=f"Odd.{name}: '{name}' is no name in Python"):
        write_stubs(odd, ["Sync"], interface=True)


def test_what_has_no_name_cannot_be_written() -> None:
    class Odd:
        def get(self) -> int: ...

    Odd.get.__annotations__ = {"return": Nameless()}
    with pytest.raises(ConfigError, match=r"Odd\.get: the type .* has no name"):
        write_stubs(Odd, ["Sync"], interface=True)


class Nameless:
    """A type of which nobody knows where it is from."""

    __module__: Any = None

    def __call__(self) -> None: ...


def test_a_class_without_docs_and_one_without_methods() -> None:
    assert '    """' not in write_stubs(Empty, ["Sync"], interface=False)
    with pytest.raises(ConfigError, match="no public methods"):
        write_stubs(Item, ["Sync"], interface=False)
