"""JSON-RPC over a stream of bytes: where a line ends, and what becomes of odd ones."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastrpc.errors import ProtocolError
from fastrpc.gateway.lines import JsonLines
from fastrpc.wire import SKIP_MAX, Limits
from tests.gateway.party import LineParty, request

pytestmark = pytest.mark.asyncio(loop_factories=["asyncio"])

TALK = [
    request("Arith.add", [1, 2], 1), request("Arith.note", ["é"], None), [request("nope", [], 2), 5],
    {"method": "Arith.echo", "params": [{"a": []}], "id": 3}, request("Arith.echo", ["x" * 300], 4),
]  # fmt: skip
TEXT = b"\r\n \t\n".join(json.dumps(one).encode() for one in TALK) + b"\n{\n"


async def test_answers_a_line_each_time() -> None:
    party = LineParty()
    party.hear(TEXT)
    said = b"".join(party.told())
    assert said.endswith(b"\n")
    kinds = [type(json.loads(line)).__name__ for line in said.splitlines()]
    assert sorted(kinds) == ["dict", "dict", "dict", "dict", "list"]


async def test_takes_a_line_that_ends_with_the_stream() -> None:
    party = LineParty()
    party.hear(json.dumps(request("Arith.add", [1, 2], 1)).encode())
    assert party.said == []
    party.tongue.eof()
    party.pump()
    assert party.said == [b'{"jsonrpc":"2.0","id":1,"result":3}\n']
    party.tongue.eof()
    assert len(party.said) == 1


async def test_skips_a_line_that_is_too_long_and_goes_on() -> None:
    party = LineParty(limits={"max_body": 1000})
    longest = party.tongue.longest
    for cut in (1, 7_000, longest + 500):
        party.told()
        line = b"[" + b" " * longest + b"]\n" + json.dumps(request("Arith.add", [1, 2], 1)).encode()
        for at in range(0, len(line), max(cut, 100)):
            party.hear(line[at : at + max(cut, 100)])
        party.hear(b"\n")
        refused, answered = (json.loads(text) for text in party.said)
        assert refused["error"]["code"] == -32046
        assert refused["id"] is None
        assert answered["result"] == 3


async def test_takes_a_line_of_just_the_longest() -> None:
    party = LineParty(limits={"max_body": 1000})
    text = json.dumps(request("Arith.add", [1, 2], 1)).encode()
    (answer,) = party.hear(text.ljust(party.tongue.longest) + b"\n")
    assert json.loads(answer)["result"] == 3
    (answer,) = party.hear(text.ljust(party.tongue.longest + 1) + b"\n")
    assert json.loads(answer)["error"]["code"] == -32046


async def test_does_not_skip_without_end() -> None:
    said: list[bytes] = []
    tongue = JsonLines(said.append, said.append, limits=Limits(max_body=1000))
    piece = b" " * 2**20
    with pytest.raises(ProtocolError, match="a line has more"):
        for _ in range(SKIP_MAX // 2**20 + 2):
            tongue.feed(piece)
    assert len(said) == 1


@pytest.mark.slow
@given(st.data())
async def test_does_not_care_how_the_stream_is_cut(data: st.DataObject) -> None:
    whole = LineParty()
    whole.hear(TEXT)
    cuts = data.draw(st.lists(st.integers(0, len(TEXT)), max_size=20).map(sorted))
    parts = LineParty()
    for start, end in zip([0, *cuts], [*cuts, len(TEXT)], strict=True):
        parts.hear(TEXT[start:end])
    # Errors are said at once, answers when the piece has been read.
    assert sorted(parts.said) == sorted(whole.said)


async def test_takes_byte_by_byte() -> None:
    whole, single = LineParty(), LineParty()
    whole.hear(TEXT)
    for byte in TEXT:
        single.hear(bytes([byte]))
    assert sorted(single.said) == sorted(whole.said)


@pytest.mark.slow
@given(st.binary(max_size=200), st.sampled_from([b"", b"{", b"[", b'{"jsonrpc":"2.0",']))
async def test_whatever_comes_costs_an_error_and_not_the_connection(
    noise: bytes, head: bytes
) -> None:
    party = LineParty()
    for text in party.hear(head + noise + b"\n"):
        answer = json.loads(text)
        assert answer
    good = json.dumps(request("Arith.add", [1, 2], "good")).encode()
    assert json.loads(party.hear(good + b"\n")[-1])["result"] == 3


async def test_a_server_that_sends_too_long_a_line_is_left() -> None:
    party = LineParty(dialled=True, limits={"max_body": 1000})
    with pytest.raises(ProtocolError, match="no JSON-RPC"):
        party.tongue.feed(b"x" * (party.tongue.longest + 1))
