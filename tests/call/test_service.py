"""Plain classes, functions and modules become services, or are refused by name."""

import asyncio
import enum
import functools
import sys
import threading
import types
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from fastrpc.call import MethodInfo, Mode, ServiceInfo, describe_service, rpc
from fastrpc.errors import ConfigError


class Arith:
    """Small sums."""

    limit = 5

    def __init__(self) -> None:
        self.calls = 0

    def add(self, a: int, b: int = 2) -> int:
        """Add two numbers.

        And no more.
        """
        self.calls += 1
        return a + b

    async def mul(self, a: int, b: int) -> int:
        return a * b

    async def nap(self) -> None:
        await asyncio.sleep(0)

    @staticmethod
    def double(x: int) -> int:
        return 2 * x

    @classmethod
    def make(cls, n: int) -> list[int]:
        return [n]

    @property
    def secret(self) -> int:
        raise AssertionError("a property was read")

    @functools.cached_property
    def also_secret(self) -> int:
        raise AssertionError("a property was read")

    def _private(self) -> None: ...

    def __call__(self) -> None: ...

    class Inner: ...

    @rpc(blocking=True, idempotent=True)
    def slow(self, path: str) -> bytes:
        return path.encode()

    @rpc(name="renamed")
    def original(self) -> None: ...

    async def count(self, n: int) -> AsyncIterator[int]:
        for i in range(n):
            yield i

    async def total(self, items: AsyncIterator[int]) -> int:
        return sum([x async for x in items])

    def numbers(self) -> Iterator[int]:
        yield 1

    def later(self) -> AsyncIterator[int]:
        return self.count(3)


def method(obj: Any, name: str = "") -> MethodInfo:
    methods = describe_service(obj).methods
    return methods[name] if name else next(iter(methods.values()))


def test_methods_of_an_instance() -> None:
    service = describe_service(Arith())
    assert isinstance(service, ServiceInfo)
    assert (service.name, service.doc) == ("Arith", "Small sums.")
    modes = {name: info.mode for name, info in service.methods.items()}
    assert modes == {
        "Arith.add": Mode.SYNC,
        "Arith.mul": Mode.INLINE,
        "Arith.nap": Mode.TASK,
        "Arith.double": Mode.SYNC,
        "Arith.make": Mode.SYNC,
        "Arith.slow": Mode.THREAD,
        "Arith.renamed": Mode.SYNC,
        "Arith.count": Mode.STREAM,
        "Arith.total": Mode.STREAM,
        "Arith.numbers": Mode.STREAM,
        "Arith.later": Mode.STREAM,
    }
    assert list(modes)[:2] == ["Arith.add", "Arith.mul"]


def test_a_method() -> None:
    arith = Arith()
    info = describe_service(arith).methods["Arith.add"]
    assert info.handler(1, b=3) == 4
    assert arith.calls == 1
    assert info.doc == "Add two numbers.\n\nAnd no more."
    assert info.returns is int
    assert [p.name for p in info.parameters] == ["a", "b"]
    slow = describe_service(arith).methods["Arith.slow"].traits
    assert (slow.blocking, slow.idempotent, slow.name) == (True, True, None)


def test_another_name() -> None:
    assert next(iter(describe_service(Arith(), "Sums").methods)) == "Sums.add"
    assert describe_service(Arith(), "a.b").name == "a.b"


def test_a_class_is_instantiated() -> None:
    assert method(Arith, "Arith.add").handler(1) == 3

    class Store:
        def __init__(self, path: str, *args: int, size: int = 3, **kwargs: int) -> None: ...

        def get(self) -> None: ...

    with pytest.raises(ConfigError, match=r"Store needs arguments \(path\); register an instance"):
        describe_service(Store)


def test_functions() -> None:
    def plain(x: int) -> int:
        """Say it."""
        return x

    service = describe_service(plain)
    assert (service.name, service.doc) == ("plain", "Say it.")
    assert list(service.methods) == ["plain"]
    assert list(describe_service(plain, "other.name").methods) == ["other.name"]
    assert method(Arith().add).name == "add"
    assert method(len).signature() == "len(obj, /)"

    @rpc(name="better")
    def worse() -> None: ...

    assert method(worse).name == "better"
    assert describe_service(worse, "best").name == "best"
    with pytest.raises(ConfigError, match=r"function named '<lambda>' needs a name"):
        describe_service(lambda: None)
    assert describe_service(lambda: None, "quiet").name == "quiet"


def test_partials() -> None:
    async def scale(factor: int, x: int, y: int = 5) -> int:
        """Scale."""
        return factor * x

    info = method(functools.partial(functools.partial(scale, 3), y=7))
    assert info.name == "scale"
    assert info.doc == "Scale."
    assert info.mode is Mode.INLINE
    assert info.signature() == "scale(x: int, *, y: int = 7) -> int"

    class Holder:
        def run(self, n: int, m: str) -> None:
            """Run."""

        run_three = functools.partialmethod(run, 3)

    info = method(Holder(), "Holder.run_three")
    assert info.doc == "Run."
    assert info.signature() == "run_three(m: str) -> None"


def test_callable_objects() -> None:
    class Adder:
        """Add."""

        async def __call__(self, a: int) -> int:
            await asyncio.sleep(0)
            return a

    info = method(Adder())
    assert (info.name, info.mode) == ("Adder", Mode.TASK)
    assert info.signature() == "Adder(a: int) -> int"
    assert describe_service(Adder(), "add").methods["add"].parameters[0].annotation is int


def logged(fn: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(fn)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return fn(*args, **kwargs)

    return wrapper


def test_decorated_methods() -> None:
    class Shop:
        @logged
        @rpc(idempotent=True)
        def price(self, name: "str") -> float:
            """Tell."""
            return 1.5

        @logged
        async def order(self, n: int) -> int:
            return n

        @logged
        async def items(self) -> Any:
            yield 1

        @functools.lru_cache  # noqa: B019
        def cached(self, n: int) -> int:
            return n

        @rpc
        @classmethod
        def kind(cls) -> str:
            return cls.__name__

    methods = describe_service(Shop()).methods
    price = methods["Shop.price"]
    assert price.signature() == "price(name: str) -> float"
    assert price.doc == "Tell."
    assert price.traits.idempotent
    assert methods["Shop.items"].mode is Mode.STREAM
    assert methods["Shop.cached"].signature() == "cached(n: int) -> int"
    assert methods["Shop.cached"].handler(5) == 5
    assert methods["Shop.kind"].handler() == "Shop"
    # A plain wrapper hides that there is something to await.
    order = methods["Shop.order"]
    assert order.mode is Mode.TASK
    assert asyncio.run(order.handler(5)) == 5


def test_a_wrapper_may_have_waited_already() -> None:
    async def inner() -> int:
        return 5

    @functools.wraps(inner)
    def wrapper() -> int:
        return 6

    assert asyncio.run(method(wrapper).handler()) == 6


def test_inherited_methods() -> None:
    class Base:
        def first(self) -> int:
            return 1

        def second(self) -> int:
            return 2

        def third(self) -> int:
            return 3

    class Derived(Base):
        third = None  # type: ignore[assignment]

        def first(self) -> int:
            return 10

        def fourth(self) -> None: ...

    service = describe_service(Derived())
    assert list(service.methods) == ["Derived.first", "Derived.second", "Derived.fourth"]
    assert service.methods["Derived.first"].handler() == 10
    assert service.doc == ""


def test_what_python_brings_along_is_not_served() -> None:
    class Table(dict[str, int]):
        def size(self) -> int:
            return len(self)

    class Worker(threading.Thread):
        def status(self) -> str:
            return "fine"

    class Color(enum.Enum):
        RED = 1

        def shade(self) -> str:
            return "dark"

    assert list(describe_service(Table()).methods) == ["Table.size"]
    assert list(describe_service(Worker()).methods) == ["Worker.status"]
    assert list(describe_service(Color.RED).methods) == ["Color.shade"]


def test_data_is_not_served() -> None:
    class Lazy:
        def __get__(self, obj: object, cls: type) -> int:
            raise AssertionError("a descriptor was read")

    class Called:
        def __call__(self) -> None: ...

    @dataclass
    class Config:
        size: int = 3
        lazy = Lazy()
        called = Called()
        number = int

        def get(self) -> int:
            return self.size

    service = describe_service(Config())
    assert list(service.methods) == ["Config.get"]
    assert service.doc == ""


def test_modules() -> None:
    module = types.ModuleType("shop.stock")
    source = """
'''Things to sell.'''
from textwrap import dedent
def count(x: int) -> int: return x
async def later(): ...
def _hidden(): ...
class Thing: ...
"""
    exec(source, vars(module))
    module.__doc__ = "Things to sell."
    service = describe_service(module)
    assert (service.name, service.doc) == ("stock", "Things to sell.")
    assert list(service.methods) == ["stock.count", "stock.later"]
    vars(module)["__all__"] = ["dedent", "count", "Thing"]
    assert list(describe_service(module, "s").methods) == ["s.dedent", "s.count"]


@pytest.mark.parametrize("obj", [5, "text", None, object(), types.ModuleType("empty"), type])
def test_nothing_to_serve(obj: Any) -> None:
    with pytest.raises(ConfigError):
        describe_service(obj)


@pytest.mark.parametrize(
    "name", ["", "a b", "x\n", "a\x00", "_a", "A._b", "*", "ä" * 128, "n" * 256, "\ud800"]
)
def test_names_that_cannot_be_called(name: str) -> None:
    for use in (lambda: describe_service(Arith(), name), lambda: rpc(name=name)):
        with pytest.raises(ConfigError, match="name"):
            use()


def test_the_longest_name() -> None:
    class S:
        def f(self) -> None: ...

    assert list(describe_service(S(), "n" * 253).methods) == ["n" * 253 + ".f"]
    with pytest.raises(ConfigError, match="at most 255 bytes, got 256"):
        describe_service(S(), "n" * 254)


def test_two_methods_of_one_name() -> None:
    class Twice:
        def one(self) -> None: ...

        @rpc(name="one")
        def two(self) -> None: ...

    with pytest.raises(ConfigError, match=r"Twice has two methods called Twice\.one"):
        describe_service(Twice())


def test_blocking_is_for_plain_functions() -> None:
    async def coroutine() -> None: ...

    async def generator() -> AsyncIterator[int]:
        yield 1

    for fn in (coroutine, generator, logged(coroutine)):
        with pytest.raises(ConfigError, match=r"blocking=True is for plain functions"):
            describe_service(rpc(blocking=True)(fn))


def test_a_signature_that_cannot_be_read() -> None:
    class Odd:
        def run(self) -> None: ...

    Odd.run.__signature__ = 5  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match=r"Odd\.run: its signature can't be read"):
        describe_service(Odd())


def test_rpc_leaves_the_function_as_it_is() -> None:
    def fn(x: int) -> int:
        return x

    assert rpc(fn) is fn
    assert rpc()(fn) is fn
    assert fn(5) == 5


def test_describe() -> None:
    told = describe_service(Arith()).describe()
    assert (told["name"], told["doc"]) == ("Arith", "Small sums.")
    assert told["methods"][0] == {
        "name": "Arith.add",
        "signature": "add(a: int, b: int = 2) -> int",
        "doc": "Add two numbers.\n\nAnd no more.",
        "fingerprint": "72c376d5737737d5",
        "mode": "sync",
        "idempotent": False,
        "cancel": "propagate",
        "cost": 1,
        "parameters": [
            {"name": "a", "type": "int", "kind": "positional", "required": True},
            {"name": "b", "type": "int", "kind": "positional", "required": False, "default": 2},
        ],
        "returns": "int",
    }


def test_nothing_happens_to_the_module_list() -> None:
    before = set(sys.modules)
    describe_service(Arith())
    assert set(sys.modules) == before
