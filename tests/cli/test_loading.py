import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import fastrpc
from fastrpc.cli.loading import build_server, candidates, load_object, split_spec
from fastrpc.errors import ConfigError

SHOP = '''
import fastrpc

class Orders:
    """Take orders."""
    def place(self, item: str) -> int:
        return 1

class Sized:
    def __init__(self, size: int) -> None: ...
    def get(self) -> int: ...

def total(a: int) -> int:
    return a

server = fastrpc.Server()
server.register(Orders())

def make() -> fastrpc.Server:
    return server

orders = Orders()
nothing = 7
'''


@pytest.fixture(autouse=True)
def _clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    before = set(sys.modules)
    (tmp_path / "shop.py").write_text(SHOP)
    (tmp_path / "bare.py").write_text("def total(a: int) -> int:\n    return a\n")
    (tmp_path / "classy.py").write_text("class Orders:\n    def place(self) -> int: ...\n")
    (tmp_path / "broken.py").write_text("import not_there_at_all\n")
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "__init__.py").touch()
    (tmp_path / "parts" / "shop.py").write_text(SHOP)
    yield
    for name in set(sys.modules) - before:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("spec", "parts"),
    [
        ("shop:server", ("shop", "server")),
        ("shop", ("shop", "")),
        ("a.b:c.d", ("a.b", "c.d")),
        ("dir/shop.py:server", ("dir/shop.py", "server")),
        ("dir/shop.py", ("dir/shop.py", "")),
        (r"C:\dir\shop.py", (r"C:\dir\shop.py", "")),
        (r"C:\dir\shop.py:server", (r"C:\dir\shop.py", "server")),
    ],
)
def test_module_and_name(spec: str, parts: tuple[str, str]) -> None:
    assert split_spec(spec) == parts


@pytest.mark.parametrize("spec", ["", ":server", "shop:"])
def test_what_reads_otherwise_is_refused(spec: str) -> None:
    with pytest.raises(ConfigError, match="should read module:name"):
        split_spec(spec)


@pytest.mark.parametrize("spec", ["shop:server", "shop", "parts.shop:server"])
def test_a_server_is_taken_as_it_is(spec: str) -> None:
    server = build_server(spec)
    assert server is load_object(f"{spec.partition(':')[0]}:server")


@pytest.mark.parametrize(
    "spec",
    [
        "shop:Orders",
        "shop:orders",
        "shop:orders.place",
        "shop:total",
        "bare",
        "math:sqrt",
        "parts/shop.py",
        "parts/shop.py:Orders",
        "bare.py",
    ],
)
def test_there_is_always_a_server(spec: str) -> None:
    assert isinstance(build_server(spec), fastrpc.Server)


def test_a_factory_is_called() -> None:
    assert build_server("shop:make", factory=True) is load_object("shop:server")
    with pytest.raises(ConfigError, match="something to call"):
        build_server("shop:nothing", factory=True)


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        ("shopp", "no module 'shopp'"),
        ("parts.shopp:x", "no module 'parts.shopp'"),
        ("missing.py:x", "no file 'missing.py'"),
        ("shop:serve", "'shop' has no 'serve'; it has server, Orders, Sized, total, make"),
        ("shop:Orders.take", "has no 'Orders.take'"),
        ("shop:Sized", "Sized needs arguments"),
        ("classy", "did you mean one of classy:Orders?"),
    ],
)
def test_what_cannot_be_served_is_refused_with_a_way_out(spec: str, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build_server(spec)
    assert text in str(caught.value)


def test_an_error_inside_the_module_is_not_hidden() -> None:
    with pytest.raises(ModuleNotFoundError, match="not_there_at_all"):
        build_server("broken:server")


def test_a_file_finds_its_neighbours(tmp_path: Path) -> None:
    (tmp_path / "parts" / "late.py").write_text("import shop\nserver = shop.server\n")
    assert isinstance(build_server("parts/late.py:server"), fastrpc.Server)


def test_candidates_leave_out_what_is_imported_or_private() -> None:
    module = load_object("shop")
    assert candidates(module) == ["server", "Orders", "Sized", "total", "make"]  # type: ignore[arg-type]
