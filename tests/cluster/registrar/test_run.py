import asyncio
import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from fastrpc.cluster import Instance, Put, parse_cluster
from fastrpc.cluster.registrar.run import Registrar, run_registrar
from fastrpc.cluster.registries.embedded import EmbeddedRegistry
from fastrpc.errors import ConfigError, RegistryLost, TransportError

ONE = Instance(id="one", addresses=("tcp://127.0.0.1:7000",))


def at(registrar: Registrar) -> EmbeddedRegistry:
    (target,) = registrar.targets
    return EmbeddedRegistry(parse_cluster(target.replace("tcp", "registry")))


@pytest.mark.asyncio
async def test_what_was_published_is_there_after_a_restart(
    tmp_path: Path, stray_threads: Callable[[], list[str]]
) -> None:
    path = str(tmp_path / "registry.db")
    for turn in range(2):
        registrar = Registrar(path)
        await registrar.start("tcp://127.0.0.1:0")
        registry = at(registrar)
        if not turn:
            await registry.publish("Arith", ONE)
        assert (await registry.list("Arith")).instances == (ONE,)
        await registry.aclose()
        await registrar.aclose()
        await registrar.aclose()
        assert stray_threads() == []


@pytest.mark.asyncio
async def test_watches_end_with_it_and_keep_nobody_waiting() -> None:
    registrar = Registrar()
    await registrar.start("tcp://127.0.0.1:0")
    registry = at(registrar)
    watch = registry.watch("Arith")
    await anext(watch)
    rest = asyncio.ensure_future(anext(watch))
    await asyncio.sleep(0)
    await registrar.aclose(grace=600.0)
    with pytest.raises(RegistryLost):
        await rest
    await registry.aclose()


@pytest.mark.slow
def test_a_signal_ends_it_although_somebody_watches(
    tmp_path: Path, stray_threads: Callable[[], list[str]]
) -> None:
    registrar = Registrar(str(tmp_path / "registry.db"))
    watchers: list[asyncio.Task[None]] = []

    def ready(targets: Sequence[str]) -> None:
        watchers.append(asyncio.ensure_future(watch(targets[0])))

    async def watch(target: str) -> None:
        registry = EmbeddedRegistry(parse_cluster(target.replace("tcp", "registry")))
        try:
            async for change in registry.watch("Arith"):
                if isinstance(change, Put):
                    os.kill(os.getpid(), signal.SIGTERM)
                else:
                    await registry.publish("Arith", ONE)
        finally:
            await registry.aclose()

    run_registrar(registrar, "tcp://127.0.0.1:0", grace=600.0, ready=ready)
    assert watchers[0].done()
    assert stray_threads() == []
    again = Registrar(str(tmp_path / "registry.db"))
    assert again.keeper.leases.count == 1
    again.close()


def test_a_file_that_cannot_be_used_leaves_nothing_behind(
    tmp_path: Path, stray_threads: Callable[[], list[str]]
) -> None:
    with pytest.raises(ConfigError, match="registry file"):
        Registrar(str(tmp_path))
    assert stray_threads() == []


def test_a_target_that_cannot_be_had_leaves_nothing_behind(
    stray_threads: Callable[[], list[str]],
) -> None:
    with pytest.raises(TransportError):
        run_registrar(Registrar(), "unix:///nowhere/at/all.sock")
    assert stray_threads() == []


def test_an_option_that_is_wrong_is_named(stray_threads: Callable[[], list[str]]) -> None:
    with pytest.raises(ConfigError, match="backlog"):
        Registrar(backlog=0)
    assert stray_threads() == []
