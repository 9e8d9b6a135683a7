import io
import json
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from fastrpc.call.metadata import encode_metadata
from fastrpc.cli import dump as room
from fastrpc.cli.app import main
from fastrpc.cli.dump import frame_text, read_frames
from fastrpc.errors import FrameError
from fastrpc.frame import encode_frame
from fastrpc.wire import BIT_END, BIT_ZIP, HEADER_FULL, Kind

pack = msgspec.msgpack.encode


def told(*frames: bytes) -> list[dict[str, object]]:
    return list(read_frames(io.BytesIO(b"".join(frames))))


def words(*frames: bytes) -> list[str]:
    return [frame_text(frame).plain for frame in told(*frames)]


CALL = encode_frame(Kind.CALL, 1, serializer=1, arg=1, name=b"Arith.add", payload=pack([1, 2]))
AGAIN = encode_frame(Kind.CALL, 2, serializer=1, arg=1, time=500, payload=pack([3, 4]))
REPLY = encode_frame(Kind.CALL, 1, serializer=1, reply=True, time=12, payload=pack(3))
FAILED = encode_frame(
    Kind.CALL,
    2,
    serializer=1,
    reply=True,
    status=60,
    arg=402,
    payload=pack({"message": "not enough", "type": "RpcError"}),
)


def test_a_conversation_in_words() -> None:
    assert words(CALL, AGAIN, REPLY, FAILED) == [
        "→ call      1  Arith.add [1, 2]  number=1  serializer=msgpack",
        "→ call      2  Arith.add [3, 4]  number=1  deadline_ms=500  serializer=msgpack",
        "← reply     1  0 ok 3  handler_us=12  serializer=msgpack",
        '← reply     2  60 application {"message": "not enough", "type": "RpcError"}  arg=402'
        "  serializer=msgpack",
    ]


def test_hello_pings_and_farewell() -> None:
    hello = encode_frame(Kind.HELLO, 0, serializer=2, payload=b'{"magic":64087}')
    ping = encode_frame(Kind.CALL, 7, heartbeat=True)
    pong = encode_frame(Kind.CALL, 7, heartbeat=True, reply=True)
    goaway = encode_frame(Kind.GOAWAY, 7, status=70)
    assert words(hello, ping, pong, goaway) == [
        '→ hello     0  {"magic": 64087}  serializer=json',
        "→ ping      7  ",
        "← pong      7  ",
        "→ goaway    7  70 protocol ",
    ]


def test_the_rest_is_there() -> None:
    (frame,) = told(
        encode_frame(
            Kind.OPEN,
            3,
            oneway=True,
            bits=BIT_END,
            name=b"Feed.read",
            metadata=encode_metadata({"trace": "abc"}),
            serializer=1,
            payload=pack([]),
        )
    )
    assert frame["kind"] == "open"
    assert frame["method"] == "Feed.read"
    assert "number" not in frame
    assert frame["oneway"] is True
    assert frame["bits"] == ["end"]
    assert frame["metadata"] == [["trace", "abc"]]
    assert frame["payload"] == []


def test_a_number_nobody_bound() -> None:
    assert told(AGAIN)[0]["method"] == "#1"


@pytest.mark.parametrize(
    "frame",
    [
        encode_frame(Kind.CALL, 1, serializer=1, name=b"a", payload=b"\xc1"),
        encode_frame(Kind.CALL, 1, serializer=3, name=b"a", payload=b"\x80\x05."),
        encode_frame(Kind.CALL, 1, serializer=1, bits=BIT_ZIP, name=b"a", payload=b"\0\0\0\1x"),
    ],
    ids=["not msgpack", "pickle is never opened", "compressed"],
)
def test_what_cannot_be_decoded_stays_bytes(frame: bytes) -> None:
    assert isinstance(told(frame)[0]["payload"], bytes)
    assert "bytes" in words(frame)[0]


def test_broken_metadata_is_told_not_raised() -> None:
    frame = encode_frame(Kind.CALL, 1, name=b"a", metadata=b"\xff")
    assert isinstance(told(frame)[0]["metadata"], str)


def test_long_payloads_are_cut_and_control_characters_shown() -> None:
    (line,) = words(
        encode_frame(Kind.CALL, 1, serializer=1, name=b"a\x1b[2J", payload=pack(["x" * 500]))
    )
    assert len(line) < 200
    assert "…" in line
    assert "\x1b" not in line


def test_a_file_read_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "_CHUNK", 3)
    assert [frame["id"] for frame in told(CALL, AGAIN, REPLY)] == [1, 2, 1]


@pytest.mark.parametrize("rest", [b"GET / HTTP/1.1\r\n" + b"x" * 20, CALL[:-1], CALL[:5]])
def test_frames_before_the_damage_are_shown(rest: bytes) -> None:
    frames = read_frames(io.BytesIO(CALL + rest))
    assert next(frames)["id"] == 1
    with pytest.raises(FrameError):
        next(frames)


def test_the_command(tmp_path: Path) -> None:
    file = tmp_path / "capture"
    file.write_bytes(CALL + REPLY)
    result = CliRunner().invoke(main, ["dump", str(file)])
    assert result.exit_code == 0
    assert [line[:6] for line in result.output.splitlines()] == ["→ call", "← repl"]
    result = CliRunner().invoke(main, ["dump", str(file), "--json"])
    assert [json.loads(line)["id"] for line in result.output.splitlines()] == [1, 1]


def test_the_command_on_damage(tmp_path: Path) -> None:
    file = tmp_path / "capture"
    file.write_bytes(CALL + b"\0" * HEADER_FULL)
    result = CliRunner().invoke(main, ["dump", str(file)])
    assert result.exit_code == 5
    assert "Arith.add" in result.stdout
    assert "error: FrameError" in result.stderr


def test_a_missing_file_is_wrong_usage() -> None:
    assert CliRunner().invoke(main, ["dump", "/nowhere/x"]).exit_code == 2
