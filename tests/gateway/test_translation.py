"""A tongue and its session are one thing: what goes in comes out at the other end."""

import json
from typing import Any

import pytest

import fastrpc
from fastrpc.errors import ProtocolError
from fastrpc.gateway.bridge import greet
from fastrpc.gateway.jsonrpc import JsonRpc
from fastrpc.gateway.msgpackrpc import MsgpackRpc
from fastrpc.gateway.tongue import Tongue
from fastrpc.gateway.translation import Translation
from fastrpc.protocol import State
from fastrpc.session import Session
from fastrpc.wire import Serializer
from tests.gateway.test_bridge import Arith, Outer
from tests.server.serving import serving, until

pytestmark = pytest.mark.asyncio


class Far:
    """Who speaks JSON-RPC, or something else."""

    def __init__(self, server: fastrpc.Server, kind: type[Tongue] = JsonRpc) -> None:
        self.heard: list[Any] = []
        self.closed: list[bool] = []
        hall = server._hall
        self.translation = Translation(
            Session(hall.side, client=False, address="tests://1"), Outer(), kind,
            lambda text: self.heard.append(json.loads(text)), self.closed.append,
        )  # fmt: skip
        greet(hall, self.translation.bridge, "tests", hall.side.limits)

    def ask(self, method: str, *params: object) -> None:
        message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        self.translation.feed(json.dumps(message).encode())


async def test_a_question_goes_in_and_its_answer_comes_out() -> None:
    async with serving(Arith()) as server:
        far = Far(server)
        assert far.translation.is_open
        assert far.translation.session.lane.serializer == Serializer.JSON
        far.ask("Arith.add", 2, 3)
        await until(lambda: far.heard)
        assert far.heard == [{"jsonrpc": "2.0", "id": 1, "result": 5}]
        far.translation.lose(None)


async def test_who_reads_slowly_slows_both_halves_down() -> None:
    async with serving(Arith()) as server:
        translation = Far(server).translation
        translation.pause_writing()
        assert translation.tongue.is_paused
        assert translation.session.lane.paused
        translation.resume_writing()
        assert not translation.tongue.is_paused
        assert not translation.session.lane.paused
        translation.lose(None)


async def test_who_leaves_still_answers_what_was_on_its_way() -> None:
    async with serving(Arith()) as server:
        far = Far(server)
        far.translation.leave()
        assert far.translation.session.state is State.DRAINING
        far.ask("Arith.add", 2, 3)
        await until(lambda: far.heard)
        assert far.heard[-1]["result"] == 5
        far.translation.lose(None)
        far.translation.feed(b"no JSON at all")  # nobody listens any more


async def test_the_end_is_told_once_unless_it_becomes_sudden() -> None:
    async with serving(Arith()) as server:
        far = Far(server)
        bridge = far.translation.bridge
        bridge.close()
        bridge.close()
        assert far.closed == [False]
        bridge.abort()
        bridge.abort()
        bridge.close()
        assert far.closed == [False, True]
        await until(lambda: not server.peers)
        bridge.abort()
        assert far.closed == [False, True]


async def test_a_session_that_is_aborted_ends_at_once() -> None:
    async with serving(Arith()) as server:
        far = Far(server)
        far.translation.abort(fastrpc.ConnectionLost("enough", "maybe"))
        assert far.closed == [True]


async def test_nobody_is_told_of_an_end_he_brought_about() -> None:
    async with serving(Arith()) as server:
        far = Far(server)
        far.translation.lose(None)
        far.translation.bridge.abort()
        assert far.closed == []
        assert not server.peers


async def test_nonsense_is_left_to_who_has_the_connection() -> None:
    async with serving(Arith()) as server:
        far = Far(server, MsgpackRpc)
        with pytest.raises(ProtocolError):
            far.translation.feed(b"\x93\xc1")
        far.translation.lose(None)
