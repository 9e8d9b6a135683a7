"""How a server that has the process to itself begins and ends; the signals stand in test_run."""

import asyncio
import os
import signal

import pytest

import fastrpc
from fastrpc.server.runner import run_alone, serve_until_told


def run(*, by_signal: bool) -> list[str]:
    did: list[str] = []
    server = fastrpc.Server()

    async def leaving() -> None:
        did.append(f"leaving {server.stats().state.value}")

    async def serving() -> None:
        loop = asyncio.get_running_loop()

        def ready() -> None:
            did.append("ready")
            if by_signal:
                os.kill(os.getpid(), signal.SIGUSR1)
            else:
                did.append("closed")
                closing.append(loop.create_task(server.aclose(0.0)))

        closing: list[asyncio.Task[None]] = []
        await serve_until_told(
            server,
            lambda: server.start("mem://runner"),
            0.0,
            ready,
            stops=(signal.SIGUSR1,),
            leaving=leaving,
        )

    run_alone(serving)
    return [*did, server.stats().state.value]


def test_what_is_to_be_done_before_the_drain_is_done_after_a_signal_only() -> None:
    assert run(by_signal=True) == ["ready", "leaving serving", "closed"]
    assert run(by_signal=False) == ["ready", "closed", "closed"]


def test_what_the_start_raises_is_raised() -> None:
    async def serving() -> None:
        server = fastrpc.Server()
        await serve_until_told(server, lambda: server.start("nonsense://x"), 0.0, lambda: None)

    with pytest.raises(fastrpc.ConfigError, match="nonsense"):
        run_alone(serving)
