import builtins
import importlib
import sys
from typing import Any

import pytest

from fastrpc.cluster import Registry, open_registry, parse_cluster
from fastrpc.cluster.engines import ENGINES, TTL_MAX
from fastrpc.cluster.target import _PARSERS
from fastrpc.errors import ConfigError

TARGETS = {
    "static": "static:tcp://127.0.0.1:1",
    "file": "file:///nowhere/instances.toml",
    "dns": "dns://localhost:1",
    "registry": "registry://127.0.0.1:1",
    "etcd": "etcd://127.0.0.1:1",
    "zookeeper": "zookeeper://127.0.0.1:1",
    "redis": "redis://127.0.0.1:1",
}


def test_there_is_an_engine_for_every_scheme() -> None:
    assert ENGINES.keys() == _PARSERS.keys() == TARGETS.keys()


@pytest.mark.parametrize("scheme", TARGETS)
@pytest.mark.asyncio(loop_factories=["asyncio"])
async def test_opening_connects_to_nobody_and_closing_is_fine(scheme: str) -> None:
    for target in (TARGETS[scheme], parse_cluster(TARGETS[scheme])):
        registry = open_registry(target, ttl=5.0)
        assert isinstance(registry, Registry)
        if registry.can_publish:
            assert registry.ttl == 5.0
        await registry.aclose()
        await registry.aclose()


@pytest.mark.parametrize("ttl", [0, 0.9, TTL_MAX + 1, float("nan"), float("inf"), True])
def test_a_time_to_live_that_makes_no_sense(ttl: float) -> None:
    with pytest.raises(ConfigError, match=f"ttl must be 1 to {TTL_MAX} seconds"):
        open_registry("static:tcp://a:1", ttl=ttl)


def test_what_is_no_registry() -> None:
    with pytest.raises(ConfigError, match="names no registry"):
        open_registry("tcp://a:1")


@pytest.mark.parametrize("scheme", [name for name, each in ENGINES.items() if each.extra])
def test_a_library_that_is_missing_is_named_with_its_extra(
    scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = ENGINES[scheme]

    def missing(name: str, *_: Any) -> None:
        raise ModuleNotFoundError(f"No module named {scheme!r}", name=f"the{scheme}library")

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(ConfigError) as raised:
        open_registry(TARGETS[scheme])
    assert str(raised.value) == (
        f"{scheme} needs the{scheme}library: pip install 'fastrpc[{engine.extra}]'"
    )


def test_a_module_of_ours_that_is_missing_is_a_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str, *_: Any) -> None:
        raise ModuleNotFoundError("No module", name="fastrpc.cluster.registries.redis")

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(ModuleNotFoundError):
        open_registry(TARGETS["redis"])


def test_dns_without_its_library_reads_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [name for name in sys.modules if name.split(".")[0] == "dns"]
    for name in [*names, "fastrpc.cluster.registries.srv", "fastrpc.cluster.registries.dns"]:
        monkeypatch.delitem(sys.modules, name, raising=False)
    real = builtins.__import__

    def without(name: str, *rest: Any, **options: Any) -> Any:
        if name.split(".")[0] == "dns":
            raise ModuleNotFoundError("No module named 'dns'", name="dns")
        return real(name, *rest, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    open_registry("dns://localhost:1")
    with pytest.raises(ConfigError, match=r"fastrpc\[dns\]"):
        open_registry("dns://_arith._tcp.example.test")
