"""What all tongues have in common, and what hostile peers try on each of them."""

import json
from typing import Any

import msgpack
import pytest

from fastrpc.errors import ProtocolError
from fastrpc.frame import Frame, FrameDecoder
from fastrpc.gateway.jsonrpc import JsonRpc
from fastrpc.gateway.msgpackrpc import MsgpackRpc
from fastrpc.gateway.tongue import ENVELOPE, Shape, Tongue, shapes_of
from fastrpc.protocol import Option, decode_option, encode_option
from fastrpc.wire import Kind, Limits, Serializer
from tests.gateway.party import JsonParty, PackParty, request

pytestmark = pytest.mark.asyncio
TONGUES: list[type[Tongue]] = [JsonRpc, MsgpackRpc]


@pytest.mark.parametrize("tongue", TONGUES)
async def test_answers_hello_for_a_foreign_server(tongue: type[Tongue]) -> None:
    out: list[bytes] = []
    made = tongue(out.append, out.append, dialled=True, limits=Limits(max_body=5000))
    asked = encode_option(Option(zips=("zlib",), features=("seg",), nonce="n"), False)
    made.take(Frame(Kind.HELLO, 0, payload=asked, serializer=int(Serializer.JSON)))
    (frame,) = FrameDecoder().feed(out[0])
    assert (frame.kind, frame.reply, frame.status) == (Kind.HELLO, True, 0)
    answer = decode_option(frame.payload, True)
    assert (answer.max_body, answer.nonce) == (5000, "n")
    assert (answer.zips, answer.features) == ((), ())
    assert made.name in answer.agent


@pytest.mark.parametrize("tongue", TONGUES)
async def test_knows_methods_by_number(tongue: type[Tongue]) -> None:
    said: list[bytes] = []
    made = tongue(said.append, said.append)
    empty = b"[]" if tongue is JsonRpc else b"\x90"
    serializer = int(tongue.serializer)
    for name, arg in ((b"one", 1), (b"two", 2), (b"", 1), (b"", 2)):
        made.take(
            Frame(
                Kind.CALL,
                arg,
                name=name,
                arg=arg,
                oneway=True,
                payload=empty,
                serializer=serializer,
            )
        )
    assert [b"one" in text for text in said] == [True, False, True, False]
    assert [b"two" in text for text in said] == [False, True, False, True]


async def test_tells_the_shapes_of_methods() -> None:
    router = JsonParty().rig.side.router
    shape = shapes_of(router)
    names = (b"Arith.add", b"Arith.count", b"Arith.total", b"nothing")
    assert [shape(name) for name in names] == [Shape.CALL, Shape.GIVES, Shape.TAKES, Shape.CALL]
    assert shapes_of(None)(b"Arith.count") is Shape.CALL


async def test_says_goodbye_where_there_is_a_word_for_it() -> None:
    body = msgpack.packb({"message": "no more"})
    for status, told in ((45, True), (53, False)):
        party = JsonParty()
        party.tongue.take(Frame(Kind.GOAWAY, 5, status=status, serializer=1, payload=body))
        values = party.values()
        assert bool(values) is told
        if told:
            error = {"code": -32045, "message": "no more"}
            assert values == [{"jsonrpc": "2.0", "id": None, "error": error}]
    silent = PackParty()
    silent.tongue.take(Frame(Kind.GOAWAY, 5, status=45, serializer=1, payload=body))
    assert silent.said == []


async def test_says_why_the_server_will_not_have_it() -> None:
    party = JsonParty()
    party.tongue.take(Frame(Kind.HELLO, 0, reply=True, status=53, serializer=2, payload=b"{}"))
    (value,) = party.values()
    assert (value["id"], value["error"]["code"]) == (None, -32053)


# Hostile peers: deep, many, colliding, long (T12 to T15 of the threats)


def deep_json(depth: int) -> bytes:
    return (
        json.dumps(request("Arith.echo", ["@"]))
        .encode()
        .replace(b'"@"', b"[" * depth + b"]" * depth)
    )


def deep_pack(depth: int) -> bytes:
    return b"\x94\x00\x01\xaaArith.echo\x91" + b"\x91" * depth + b"\x90"


@pytest.mark.parametrize("depth", [70, 10**5, 10**6])
async def test_deep_nesting_costs_an_error(depth: int) -> None:
    party = JsonParty()
    (answer,) = party.hear(deep_json(depth))
    assert json.loads(answer)["error"]["code"] == -32046
    assert party.ask(request("Arith.add", [1, 2]))["result"] == 3
    pack = PackParty()
    try:
        (packed,) = pack.hear(deep_pack(depth))
        assert "max_depth" in msgpack.unpackb(packed)[2][1]
    except ProtocolError:  # over what is walked through: nobody knows where it ends
        assert depth > 1000


async def test_the_depth_that_may_be_is() -> None:
    assert JsonParty().ask(deep_json(62).decode())["id"] == 1
    (packed,) = PackParty().hear(deep_pack(62))
    assert msgpack.unpackb(packed)[2] is None


async def test_what_a_container_claims_takes_no_memory() -> None:
    pack = PackParty()
    assert pack.hear(b"\x94\x00\x01\xaaArith.echo\x91\xdd\xff\xff\xff\xff" + b"\xc0" * 1000) == []
    items = {"max_items": 1000}
    many = [[]] * 2000
    pack = PackParty(limits=items)
    assert "max_items" in pack.ask(0, 1, "Arith.echo", [many])[2][1]
    assert pack.ask(0, 1, "Arith.add", [1, 2])[3] == 3
    party = JsonParty(limits=items)
    assert party.ask(request("Arith.echo", [many]))["error"]["code"] == -32046
    assert party.ask([request("Arith.echo", [many[:900]], id) for id in range(9)])[5]["id"] == 5
    batch = [request("Arith.echo", [many[:900]], id) for id in range(20)]  # too many together
    assert party.ask(batch)["error"]["code"] == -32046


async def test_keys_can_not_be_made_to_collide() -> None:
    pack = PackParty()
    # Whole numbers have 64 bits here, and those can't be chosen to collide; containers could.
    assert pack.hear(msgpack.packb([0, 1, "Arith.echo", [{2**61 - 1: 0, 2 * (2**61 - 1): 1}]]))
    pairs = b"".join(b"\x91" + bytes([number]) + b"\x00" for number in range(100))
    message = b"\x94\x00\x02\xaaArith.echo\x91\xde\x00\x64" + pairs
    assert "key" in msgpack.unpackb(pack.hear(message)[0])[2][1]


async def test_a_number_of_many_digits_costs_an_error() -> None:
    party = JsonParty()
    digits = b"9" * 5000
    (answer,) = party.hear(b'{"jsonrpc":"2.0","method":"Arith.echo","params":[%b],"id":1}' % digits)
    assert "digits" in json.loads(answer)["error"]["message"]
    (answer,) = party.hear(
        b'{"jsonrpc":"2.0","method":"Arith.add","params":[1,2],"id":%b}' % digits
    )
    assert "error" in json.loads(answer)


@pytest.mark.parametrize("kind", [JsonParty, PackParty])
async def test_a_message_may_be_as_long_as_a_body_and_what_is_around_it(kind: Any) -> None:
    party = kind(limits={"max_body": 50_000})
    assert party.tongue.longest == 50_000 + ENVELOPE
    text = "x" * 60_000
    if kind is JsonParty:
        answer = party.ask(request("Arith.echo", [text]))
        assert answer["error"]["code"] == -32046
        (answer,) = party.hear(b" " * (party.tongue.longest + 1))
        assert json.loads(answer)["error"]["code"] == -32046
    else:
        assert "max_body" in party.ask(0, 1, "Arith.echo", [text])[2][1]
        with pytest.raises(ProtocolError, match="over"):
            party.hear(b"\xc6\x7f\xff\xff\xff" + b"x" * party.tongue.longest)


@pytest.mark.parametrize("kind", [JsonParty, PackParty])
async def test_nothing_is_left_of_calls_that_are_over(kind: Any) -> None:
    party = kind()
    for id in range(1, 50):
        if kind is JsonParty:
            party.ask(request("Arith.add", [1, 2], id))
            party.ask(request("nothing", [1, 2], id))
        else:
            party.ask(0, id, "Arith.add", [1, 2])
            party.ask(0, id, "nothing", [1, 2])
    kept = vars(party.tongue)
    assert {name for name in ("_open", "_ids", "_asked") if kept[name]} == set()
