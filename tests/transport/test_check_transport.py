"""Check the checks: a transport with a fault must fail the one made for it."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from fastrpc.testing import TRANSPORT_CHECKS, check_transport
from fastrpc.testing import watch as watching
from fastrpc.transport import MemoryTransport


def skip(*_: object) -> None:
    """Do nothing where something should be done."""


def loses_a_byte(self: Any) -> bytes:
    return TAKE(self)[:-1]


def never_calls_back(self: Any) -> None:
    self._writer_paused = self._out_size > self._high


def lost_twice(self: Any, error: BaseException | None) -> None:
    protocol = self._protocol
    LOSE(self, error)
    protocol.connection_lost(error)


def lost_at_once(self: Any, error: BaseException | None) -> None:
    if not self.is_closing():
        END(self, error)
        self._protocol.connection_lost(error)


def drops_on_close(self: Any) -> None:
    self.abort()


def reads_on(self: Any) -> None:
    self._reading = True


def only_the_first(self: Any, protocol: asyncio.BaseProtocol) -> None:
    self._protocol = self._protocol or protocol


TAKE = MemoryTransport._take
LOSE = MemoryTransport._lose
END = MemoryTransport._end

FAULTS: list[tuple[str, Callable[..., object], str, str]] = [
    ("_take", loses_a_byte, "order", "got other bytes|waited"),
    ("_pause_writer", never_calls_back, "backpressure", "and not paused"),
    ("_resume_writer", skip, "backpressure", "waited"),
    ("pause_reading", reads_on, "pause_reading", "read on after pause_reading"),
    ("resume_reading", skip, "pause_reading", "not is_reading"),
    ("close", drops_on_close, "close", "close dropped bytes"),
    ("_lose", lost_twice, "close", "after connection_lost|out of turn|lost with"),
    ("_end", lost_at_once, "close", "connection_lost inside close"),
    ("_lose", skip, "abort", "waited"),
    ("_receive_end", skip, "half_close", "waited"),
    ("can_write_eof", skip, "half_close", "can_write_eof"),
    ("_fail", skip, "failing_protocol", "waited"),
    ("set_protocol", only_the_first, "new_protocol", "not the new one|waited"),
    ("get_extra_info", skip, "names", "peer is 'unknown peer'"),
]


@pytest.mark.asyncio
@pytest.mark.parametrize(("method", "fault", "check", "says"), FAULTS)
async def test_fault_is_found(
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    fault: Callable[..., object],
    check: str,
    says: str,
) -> None:
    monkeypatch.setattr(watching, "PATIENCE", 0.1)
    monkeypatch.setattr("fastrpc.testing.transport.PATIENCE", 0.1)
    with monkeypatch.context() as broken:
        broken.setattr(MemoryTransport, method, fault)
        with pytest.raises(AssertionError, match=rf"^{check} over mem://broken: .*({says})"):
            await check_transport("mem://broken", only=check)


@pytest.mark.asyncio
async def test_all_checks_in_one() -> None:
    await check_transport("mem://all")
    assert len(TRANSPORT_CHECKS) == 16
