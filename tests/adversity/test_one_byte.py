"""A byte that begins nothing buys no place: JSON-RPC counts from its first whole message on."""

import logging

import pytest

import fastrpc
from tests.adversity.conftest import Clock
from tests.gateway.asking import Arith, Asker
from tests.server.serving import serving, until

CALM = logging.getLogger("tests.calm")
ADD = b'{"jsonrpc":"2.0","method":"Arith.add","params":[1,2],"id":1}\n'


def doors(server: fastrpc.Server) -> list[str]:
    return [each.door for each in server._hall.admission.visitors]


@pytest.mark.asyncio
async def test_who_says_one_byte_is_gone_after_a_while(clock: Clock) -> None:
    async with serving(Arith(), log=CALM, hello_timeout=5.0) as server:
        target = server.targets[0]
        async with await Asker.connect(target) as good, await Asker.connect(target) as mute:
            good.send(ADD)
            assert b'"result":3' in await good.reader.readline()
            mute.send(b"\n")
            await until(lambda: doors(server) == ["jsonrpc"] * 2)
            await clock.let_pass(server, 4.0)
            assert len(doors(server)) == 2
            await clock.let_pass(server, 2.0)
            await until(lambda: len(doors(server)) == 1)
            await clock.let_pass(server, 5000.0)
            good.send(ADD)  # who has spoken once may be silent as long as he likes
            assert b'"result":3' in await good.reader.readline()


@pytest.mark.asyncio
async def test_one_byte_is_still_nothing_said() -> None:
    async with serving(Arith(), log=CALM, max_pending=5) as server:
        target = server.targets[0]
        async with await Asker.connect(target) as good:
            good.send(ADD)
            await good.reader.readline()
            mutes = [await Asker.connect(target) for _ in range(20)]
            for each in mutes:
                each.send(b"\n")
            await until(lambda: server.stats().turned_away >= 15)
            await until(lambda: len(doors(server)) <= 6)
            good.send(ADD)
            assert b'"result":3' in await good.reader.readline()
            for each in mutes:
                each.writer.close()
