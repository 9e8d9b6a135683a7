"""JSON-RPC as a peer sees it: a real session behind the tongue, values in and out."""

import asyncio
import json
from typing import Any

import pytest

from fastrpc import errors
from fastrpc.frame import Frame, FrameDecoder, encode_frame
from fastrpc.gateway.jsonrpc import BATCH_MAX, JsonRpc
from fastrpc.wire import BIT_END, Kind, StatusCode
from tests.gateway.party import JsonParty, request

pytestmark = pytest.mark.asyncio


def code_of(answer: dict[str, Any]) -> tuple[int, Any]:
    return answer["error"]["code"], answer["id"]


# The fifteen exchanges that the specification shows, in words and methods of our own.
EXCHANGES: dict[str, tuple[str, Any]] = {
    "by position": (
        '{"jsonrpc":"2.0","method":"Arith.subtract","params":[42,23],"id":1}',
        {"jsonrpc": "2.0", "result": 19, "id": 1},
    ),
    "by position, the other way round": (
        '{"jsonrpc":"2.0","method":"Arith.subtract","params":[23,42],"id":2}',
        {"jsonrpc": "2.0", "result": -19, "id": 2},
    ),
    "by name": (
        '{"jsonrpc":"2.0","method":"Arith.subtract","params":{"subtrahend":23,"minuend":42},"id":3}',
        {"jsonrpc": "2.0", "result": 19, "id": 3},
    ),
    "by name, in the other order": (
        '{"jsonrpc":"2.0","method":"Arith.subtract","params":{"minuend":42,"subtrahend":23},"id":4}',
        {"jsonrpc": "2.0", "result": 19, "id": 4},
    ),
    "a notification": ('{"jsonrpc":"2.0","method":"Arith.note","params":[[1,2]]}', None),
    "a notification of nothing that is there": ('{"jsonrpc":"2.0","method":"nothing"}', None),
    "no such method": ('{"jsonrpc":"2.0","method":"nothing","id":"1"}', (-32601, "1")),
    "broken off": ('{"jsonrpc":"2.0","method":"nothing, "params":"bar","baz]', (-32700, None)),
    "a method that is a number": ('{"jsonrpc":"2.0","method":1,"params":"bar"}', (-32600, None)),
    "a batch that is broken off": (
        '[{"jsonrpc":"2.0","method":"Arith.add","params":[1,2],"id":"1"},{"jsonrpc":"2.0","method"]',
        (-32700, None),
    ),
    "an empty batch": ("[]", (-32600, None)),
    "a batch of one that is none": ("[1]", [(-32600, None)]),
    "a batch of three that are none": ("[1,2,3]", [(-32600, None)] * 3),
    "a batch of all kinds": (
        json.dumps(
            [
                request("Arith.add", [2, 3], "1"),
                request("Arith.note", [7], None),
                request("Arith.subtract", [42, 23], "2"),
                {"foo": "boo"},
                request("nothing.get", {"name": "myself"}, "5"),
                request("Arith.echo", [["hello", 5]], "9"),
            ]
        ),
        [
            {"jsonrpc": "2.0", "result": 5, "id": "1"},
            {"jsonrpc": "2.0", "result": 19, "id": "2"},
            (-32600, None),
            (-32601, "5"),
            {"jsonrpc": "2.0", "result": ["hello", 5], "id": "9"},
        ],
    ),
    "a batch of notifications": (
        json.dumps([request("Arith.note", [1], None), request("Arith.note", [2], None)]),
        None,
    ),
}


@pytest.mark.parametrize("name", EXCHANGES)
async def test_answers_as_the_specification_shows(name: str) -> None:
    sent, wanted = EXCHANGES[name]
    answer = JsonParty().ask(sent)

    def plain(got: Any, like: Any) -> Any:
        return code_of(got) if isinstance(like, tuple) else got

    if isinstance(wanted, list):
        # A batch may be answered in any order.
        given = {json.dumps(item["id"]): item for item in answer if item["id"] is not None}
        for like in wanted:
            id = like[1] if isinstance(like, tuple) else like["id"]
            if id is not None:
                assert plain(given[json.dumps(id)], like) == like
        nameless = [code_of(item) for item in answer if item["id"] is None]
        assert nameless == [like for like in wanted if isinstance(like, tuple) and like[1] is None]
        assert len(answer) == len(wanted)
    else:
        assert plain(answer, wanted) == wanted


async def test_runs_notifications() -> None:
    party = JsonParty()
    party.ask(request("Arith.note", ["x"], None))
    party.ask([request("Arith.note", [1], None), request("Arith.note", {"value": 2}, None)])
    assert party.arith.noted == ["x", 1, 2]
    assert party.said == []


@pytest.mark.parametrize("id", [0, -1, 1.5, 10**30, "", "é\n", "x" * 1000, 1e300])
async def test_gives_an_id_back_as_it_came(id: Any) -> None:
    party = JsonParty()
    for text in (json.dumps(id), json.dumps(id, ensure_ascii=False)):
        raw = b'{"jsonrpc":"2.0","method":"Arith.add","params":[1,2],"id": %b }' % text.encode()
        assert party.hear(raw) == [b'{"jsonrpc":"2.0","id":%b,"result":3}' % text.encode()]


@pytest.mark.parametrize("id", ["true", "false", "[1]", "{}", json.dumps("x" * 1023)])
async def test_refuses_an_id_of_another_kind_or_length(id: str) -> None:
    text = f'{{"jsonrpc":"2.0","method":"Arith.add","params":[1,2],"id":{id}}}'
    assert code_of(JsonParty().ask(text)) == (-32600, None)


async def test_takes_the_longest_id() -> None:
    id = "x" * 1022
    assert JsonParty().ask(request("Arith.add", [1, 2], id))["id"] == id


async def test_answers_requests_whose_id_is_null() -> None:
    party = JsonParty()
    text = '{"jsonrpc":"2.0","method":"Arith.add","params":[1,2],"id":null}'
    assert party.ask(text) == {"jsonrpc": "2.0", "id": None, "result": 3}
    party.hear(text.replace("Arith.add", "Arith.wait").replace("[1,2]", "[]").encode())
    assert party.ask(text)["result"] == 3


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"jsonrpc": "3.0"}, "jsonrpc must be"),
        ({"jsonrpc": 2.0}, "jsonrpc must be"),
        ({"method": None}, "method must be a text"),
        ({"method": "m" * 1023}, "method must be a text"),
        ({"method": "\ud800"}, ""),
        ({"params": 5}, "params must be"),
        ({"params": "x"}, "params must be"),
        ({"params": None}, "params must be"),
    ],
)
async def test_says_what_is_wrong_with_a_request(change: dict[str, Any], words: str) -> None:
    answer = JsonParty().ask(request("Arith.add", [1, 2], 7) | change)
    assert answer["error"]["code"] in (-32600, -32700)
    assert answer["id"] in (7, None)
    assert words in answer["error"]["message"]


async def test_reads_method_names_with_escapes() -> None:
    text = '{"jsonrpc":"2.0","method":"Arith.\\u0061dd","params":[1,2],"id":1}'
    assert JsonParty().ask(text)["result"] == 3


async def test_ignores_members_it_does_not_know_and_takes_the_last_of_two() -> None:
    text = '{"x":[{}],"jsonrpc":"2.0","method":"no","method":"Arith.add","params":[1,2],"id":1}'
    assert JsonParty().ask(text)["result"] == 3


async def test_has_a_method_with_a_long_name_refused() -> None:
    assert code_of(JsonParty().ask(request("m" * 300, [], 1))) == (-32601, 1)


async def test_passes_arguments_and_results_unread() -> None:
    party = JsonParty()
    value = '[1.0,  1e2, "\\u00e9", 123456789012345678]'
    text = f'{{"jsonrpc":"2.0","method":"Arith.echo","params":[{value}],"id":1}}'
    assert party.ask(text)["result"] == json.loads(value)


async def test_does_not_take_an_id_twice_while_it_is_open() -> None:
    party = JsonParty()
    assert party.ask(request("Arith.wait", [], "a")) is None
    await party.settle()
    twice = party.ask(request("Arith.add", [1, 2], "a"))
    assert code_of(twice) == (-32600, None)
    assert party.ask(request("Arith.add", [1, 2], "b"))["result"] == 3
    party.said.clear()
    party.arith.gate.set()
    await party.settle()
    assert party.values() == [{"jsonrpc": "2.0", "id": "a", "result": "done"}]
    assert party.ask(request("Arith.add", [1, 2], "a"))["result"] == 3


async def test_holds_a_batch_until_all_of_it_is_answered() -> None:
    party = JsonParty()
    batch = [request("Arith.wait", [], 1), request("Arith.add", [1, 2], 2), request("nope", [], 3)]
    assert party.ask(batch) is None
    assert (await party.settle()).said == []
    party.arith.gate.set()
    await party.settle()
    (answer,) = party.values()
    assert [item["id"] for item in answer] == [2, 3, 1]


async def test_what_waits_in_all_batches_together_is_bounded() -> None:
    party = JsonParty(limits={"max_unsent": 100_000, "max_body": 10_000})
    held = party.tongue.held  # type: ignore[attr-defined]
    for number in range(60):
        blob = request("Arith.blob", [6_750], f"b{number}")  # 9000 in base64
        party.hear(json.dumps([blob, request("Arith.wait", [], f"w{number}")]).encode())
        await party.settle()
        assert held.size < 101_000  # of half a million: results first, then errors
    refused = party.values()  # nothing is called any more
    assert refused
    assert {code_of(one)[0] for batch in refused for one in batch} == {-32052}
    assert code_of(refused[-1][1]) == (-32052, "w59")
    assert party.ask(request("Arith.add", [1, 2], "one"))["result"] == 3  # alone, it holds nothing
    party.told()
    party.hear(json.dumps(request("rpc.cancel", ["w0"], "c")).encode())
    assert [len(each) for each in party.values() if isinstance(each, list)] == [2]
    party.arith.gate.set()
    await party.settle()
    firsts = [batch[0] for batch in party.values()]
    assert len(firsts) == 60 - len(refused) - 1
    assert sum("result" in one for one in firsts) == 10  # and one in the batch that was given up
    assert {one["error"]["code"] for one in firsts if "error" in one} == {-32603}
    assert held.size == 0
    party.hear(json.dumps([request("Arith.blob", [6_000], id) for id in "ab"]).encode())
    await party.settle()
    assert ["result" in one for one in party.values()[0]] == [True, True]


async def test_a_large_error_waits_no_more_than_a_large_result() -> None:
    party = JsonParty(limits={"max_unsent": 20_000, "max_body": 10_000})
    for number in range(30):
        fail = request("Arith.fail", ["x" * 8000], f"f{number}")
        party.hear(json.dumps([fail, request("Arith.wait", [], f"w{number}")]).encode())
        await party.settle()
    assert party.tongue.held.size < 90_000  # type: ignore[attr-defined]


async def test_limits_the_length_of_a_batch() -> None:
    party = JsonParty()
    one = json.dumps(request("Arith.note", [1], None))
    assert party.ask(f"[{','.join([one] * BATCH_MAX)}]") is None
    assert len(party.arith.noted) == BATCH_MAX
    answer = party.ask(f"[{','.join([one] * (BATCH_MAX + 1))}]")
    assert code_of(answer) == (-32600, None)
    assert "1001" in answer["error"]["message"]
    assert len(party.arith.noted) == BATCH_MAX


async def test_limits_what_waits_for_the_rest_of_a_batch() -> None:
    party = JsonParty(limits={"max_body": 10_000})
    batch = [request("Arith.echo", ["x" * 8_000], id) for id in range(9)]
    assert len(json.dumps(batch)) < party.tongue.longest
    assert all("result" in answer for answer in party.ask(batch))
    batch = [request("Arith.blob", [7_000], id) for id in range(30)]
    answers = party.ask(batch)
    assert sorted(answer["id"] for answer in answers) == list(range(30))
    refused = [answer for answer in answers if "error" in answer]
    assert 0 < len(refused) < 30
    assert "of a batch" in refused[0]["error"]["message"]
    assert len(json.dumps(answers)) < party.tongue.longest + 30 * 200


async def test_answers_old_requests_in_the_old_shape() -> None:
    party = JsonParty()
    old = {"method": "Arith.add", "params": [1, 2], "id": 0}
    assert party.ask(old) == {"id": 0, "result": 3, "error": None}
    assert party.ask(old | {"jsonrpc": "1.0"}) == {"id": 0, "result": 3, "error": None}
    refused = party.ask(old | {"method": "nothing"})
    assert (refused["id"], refused["result"]) == (0, None)
    assert "nothing" in refused["error"]
    failed = party.ask(old | {"method": "Arith.fail", "params": ["no"]})
    assert failed == {"id": 0, "result": None, "error": "no"}
    assert party.ask({"method": "Arith.note", "params": [5], "id": None}) is None
    assert party.arith.noted == [5]


# Errors


async def test_tells_errors_by_the_table() -> None:
    party = JsonParty()
    failed = party.ask(request("Arith.fail", ["negative"]))["error"]
    assert failed["code"] == 1001
    assert failed["message"] == "negative"
    assert failed["data"]["type"] == "RpcError"
    assert failed["data"]["status"] == 60
    assert failed["data"]["data"] == {"seen": [1, 2]}
    assert "ran" not in failed["data"]
    crashed = party.ask(request("Arith.crash"))["error"]
    assert (crashed["code"], crashed["message"]) == (-32603, "by nothing")
    assert crashed["data"] == {"type": "ZeroDivisionError", "status": 50}
    refused = party.ask(request("Arith.add", [1, "x"]))["error"]
    assert refused["code"] == -32602
    assert refused["data"]["ran"] == "no"
    assert "b" in refused["message"]


async def test_leaves_out_data_that_json_can_not_say() -> None:
    class Odd:
        def fail(self) -> None:
            raise errors.RpcError(5, "odd", {b"\xff": 1})

    answer = JsonParty(services=(Odd(),)).ask(request("Odd.fail"))
    assert answer["error"]["code"] == 5
    assert answer["error"]["message"] == "odd"


async def test_refuses_calls_over_the_sessions_limit() -> None:
    party = JsonParty(limits={"max_calls": 2})
    for id in (1, 2):
        party.ask(request("Arith.wait", [], id))
    await party.settle()
    assert code_of(party.ask(request("Arith.wait", [], 3))) == (-32052, 3)


# Streams


async def test_sends_items_as_notifications_and_the_end_as_the_response() -> None:
    party = JsonParty()
    party.ask(request("Arith.count", [3], "s"))
    await party.settle()
    items = [
        {"jsonrpc": "2.0", "method": "rpc.item", "params": {"id": "s", "item": number}}
        for number in range(3)
    ]
    assert party.values() == [*items, {"jsonrpc": "2.0", "id": "s", "result": None}]


async def test_gives_credit_as_items_are_taken_and_none_while_the_peer_does_not_read() -> None:
    party = JsonParty(limits={"window": 200})
    party.tongue.pause_writing()
    party.ask(request("Arith.count", [100], 1))
    await party.settle()
    held = len(party.told())
    assert 5 < held < 15  # a window, and one frame
    party.tongue.resume_writing()
    for _ in range(10):
        await party.settle()
    assert len(party.told()) == 101 - held


async def test_refuses_methods_that_take_items() -> None:
    answer = JsonParty().ask(request("Arith.total", [], 4))
    assert code_of(answer) == (-32047, 4)
    assert "takes items" in answer["error"]["message"]


async def test_refuses_a_stream_that_nobody_could_tell_apart() -> None:
    party = JsonParty()
    assert party.ask(request("Arith.count", [3], None)) is None
    await party.settle()
    assert party.said == []


async def test_gives_calls_up() -> None:
    party = JsonParty()
    party.ask(request("Arith.wait", [], "w"))
    party.ask(request("Arith.wait", [], 2))
    await party.settle()
    answer = party.ask(request("rpc.cancel", {"id": "w"}, None))
    assert code_of(answer) == (-32042, "w")
    party.hear(json.dumps(request("rpc.cancel", [2], 9)).encode())
    await party.settle()
    assert party.arith.given_up == 2
    values = party.values()
    assert {json.dumps(value["id"]) for value in values} == {'"w"', "2", "9"}
    assert values[-1] == {"jsonrpc": "2.0", "id": 9, "result": True}
    assert party.ask(request("rpc.cancel", [2], 10))["result"] is False
    assert party.ask(request("rpc.cancel", [], 11))["result"] is False


# Our side calls


async def test_calls_the_peer_and_takes_its_answer() -> None:
    party = JsonParty()
    party.ask(request("Arith.ask", ["client.double", 21], 1))
    await party.settle()
    (asked,) = party.values()
    assert asked == {"jsonrpc": "2.0", "method": "client.double", "params": [21], "id": asked["id"]}
    party.ask({"jsonrpc": "2.0", "id": asked["id"], "result": 42})
    await party.settle()
    assert party.values() == [{"jsonrpc": "2.0", "id": 1, "result": 42}]


async def test_notifies_the_peer() -> None:
    party = JsonParty()
    party.ask(request("Arith.tell", ["client.note", "é"], None))
    await party.settle()
    note = {"jsonrpc": "2.0", "method": "client.note", "params": ["é"]}
    assert party.values() == [note]


async def test_counts_answers_that_nobody_asked_for() -> None:
    party = JsonParty()
    for id in (77, "x", 10**40, None):
        party.ask({"jsonrpc": "2.0", "id": id, "result": 1})
    assert party.rig.session.lane.unknown == 4
    assert party.said == []


async def test_can_not_push_where_there_is_no_way() -> None:
    party = JsonParty()
    answers: list[bytes | None] = []
    alone = JsonRpc(None, party.rig.feed, limits=party.rig.limits)
    party.tongue = alone
    alone.message(json.dumps(request("Arith.ask", ["x", 1], 1)).encode(), answers.append)
    await party.settle()
    (answer,) = answers
    assert answer is not None
    assert "HTTP" in json.loads(answer)["error"]["message"]


async def test_answers_each_message_once() -> None:
    party = JsonParty()
    answers: list[tuple[int, bytes | None]] = []
    tongue = JsonRpc(None, party.rig.feed, limits=party.rig.limits)
    party.tongue = tongue
    texts = [
        request("Arith.wait", [], 1), request("Arith.add", [1, 2], 2), [request("Arith.note", [1], None)],
        request("Arith.note", [1], None), [], [1],
    ]  # fmt: skip
    for number, text in enumerate(texts):
        tongue.message(json.dumps(text).encode(), lambda told, n=number: answers.append((n, told)))
    await party.settle()
    assert sorted(number for number, _ in answers) == [1, 2, 3, 4, 5]
    assert dict(answers)[2] is None
    assert dict(answers)[3] is None
    party.arith.gate.set()
    await party.settle()
    assert [number for number, _ in answers].count(0) == 1
    assert len(answers) == 6


# The other role: a foreign server


async def dialled() -> JsonParty:
    party = JsonParty(dialled=True)
    await party.settle()
    assert "open" in party.rig.told
    assert party.said == []  # HELLO is between us
    return party


async def call(party: JsonParty, *given: Any, **named: Any) -> tuple[Any, dict[str, Any]]:
    """Begin a call; return its future and what the peer got of it."""
    lane = party.rig.session.lane
    waiter = asyncio.ensure_future(lane.call("far.sum", given, named or None, 0.0, b"", None))
    await party.settle()
    (asked,) = party.values()
    return waiter, asked


async def test_asks_a_foreign_server() -> None:
    party = await dialled()
    waiter, asked = await call(party, 1, 2)
    assert asked == {"jsonrpc": "2.0", "method": "far.sum", "params": [1, 2], "id": 1}
    party.ask({"jsonrpc": "2.0", "id": 1, "result": {"x": [3]}})
    assert await waiter == {"x": [3]}
    waiter, asked = await call(party, a=1)
    assert asked["params"] == {"a": 1}
    party.ask({"id": 2, "result": None, "error": None})
    assert await waiter is None


async def test_translates_for_a_client_that_speaks_msgpack() -> None:
    party = await dialled()
    party.rig.session.lane.serializer = 1
    waiter, asked = await call(party, b"\x01", {"k": [1.5, None]})
    assert asked["params"] == ["AQ==", {"k": [1.5, None]}]
    party.ask({"jsonrpc": "2.0", "id": 1, "result": ["é", 2**63]})
    assert await waiter == ["é", 2**63]


async def test_has_arguments_by_position_or_by_name() -> None:
    party = await dialled()
    for serializer in (1, 2):
        party.rig.session.lane.serializer = serializer
        waiter = asyncio.ensure_future(
            party.rig.session.lane.call("f", (1,), {"a": 2}, 0.0, b"", None)
        )
        await party.settle()
        with pytest.raises(errors.Unsupported, match="by position or by name"):
            await waiter
    waiter, asked = await call(party, '"*"')
    assert asked["params"] == ['"*"']
    waiter.cancel()


@pytest.mark.parametrize(
    ("error", "kind", "fields"),
    [
        ({"code": -32601, "message": "no"}, errors.MethodNotFound, {"ran": "no"}),
        ({"code": -32602, "message": "no"}, errors.InvalidArgument, {"ran": "no"}),
        ({"code": -32603, "message": "no"}, errors.RemoteError, {"status": 50}),
        ({"code": -32600, "message": "no"}, errors.InvalidArgument, {}),
        ({"code": -32052, "message": "no"}, errors.Overloaded, {"ran": "no"}),
        ({"code": 17, "message": "no"}, errors.RpcError, {"code": 17, "data": None}),
        ({"code": 17, "message": "no", "data": [1]}, errors.RpcError, {"code": 17, "data": [1]}),
        (
            {"code": -32000, "message": "no", "data": "x"},
            errors.RpcError,
            {"code": 0, "data": {"code": -32000, "data": "x"}},
        ),
        ({"code": "E1", "message": "no"}, errors.RpcError, {"data": {"code": "E1", "data": None}}),
        ("no", errors.RpcError, {"code": 0}),
        ([1, "no"], errors.RpcError, {}),
        (
            {"code": -32603, "message": "no", "data": {"type": "Odd", "status": 54}},
            errors.CallError,
            {"status": 54},
        ),
        (
            {"code": 5, "message": "no", "data": {"type": "Mine", "status": 60, "data": 1}},
            errors.RpcError,
            {"code": 5, "data": 1, "type": "Mine"},
        ),
        (
            {"code": -32601, "message": "no", "data": {"type": "x", "status": 52}},
            errors.MethodNotFound,
            {},
        ),
    ],
)
async def test_makes_exceptions_of_foreign_errors(
    error: Any, kind: type[errors.CallError], fields: dict[str, Any]
) -> None:
    party = await dialled()
    waiter, asked = await call(party)
    party.ask({"jsonrpc": "2.0", "id": asked["id"], "error": error})
    with pytest.raises(kind, match="no") as caught:
        await waiter
    for name, value in fields.items():
        assert getattr(caught.value, name) == value


async def test_gives_an_error_without_an_id_to_the_only_call_it_can_be_for() -> None:
    party = await dialled()
    waiter, _ = await call(party)
    party.ask({"jsonrpc": "2.0", "id": None, "error": {"code": -32700, "message": "what?"}})
    with pytest.raises(errors.InvalidArgument, match="what"):
        await waiter


async def test_answers_a_server_that_calls_back() -> None:
    party = JsonParty(dialled=True, services=(type("Mine", (), {"up": lambda self, x: x + 1})(),))
    await party.settle()
    assert party.ask(request("Mine.up", [1], 5)) == {"jsonrpc": "2.0", "id": 5, "result": 2}


async def test_drops_answers_that_come_late() -> None:
    party = await dialled()
    lane = party.rig.session.lane
    waiter = lane.call("f", (), None, 0.0, b"", None)
    await party.settle()
    waiter.cancel()
    lane.send(encode_frame(Kind.CANCEL, 1, status=StatusCode.CANCELLED))
    await party.settle()
    party.ask({"jsonrpc": "2.0", "id": 1, "result": 5})
    assert (lane.unknown, lane.late) == (0, 0)


async def test_refuses_streams_of_ours() -> None:
    party = await dialled()
    party.told()
    frame = Frame(Kind.OPEN, 1, bits=BIT_END, name=b"far.items", payload=b"\x90", serializer=1)
    party.tongue._to_session = party.said.append
    party.tongue.take(frame)
    (reply,) = FrameDecoder().feed(party.said[0])
    assert (reply.kind, reply.id, reply.reply, reply.status) == (Kind.CALL, 1, True, 47)
    assert b"far.items: streams can't be opened over JSON-RPC" in reply.payload


@pytest.mark.parametrize("text", ["HTTP/1.1 400 Bad Request", "5", "[]", "{"])
async def test_takes_no_server_for_one_that_is_none(text: str) -> None:
    party = await dialled()
    with pytest.raises(errors.ProtocolError, match="no JSON-RPC"):
        party.tongue.feed(text.encode())
