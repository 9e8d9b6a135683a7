import io

import pytest
from rich.console import Console

from fastrpc import errors
from fastrpc.cli import screen


def test_control_characters_are_written_out() -> None:
    assert screen.visible("a\x1b[31mb\x9b\u202e\n\tç☃") == "a\\x1b[31mb\\x9b\\u202e\n\tç☃"


def test_an_error_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    error = errors.RemoteError("\x1b[2J", type="Evil", data="\x1b", trace="at \x1b]0;x\x07")
    screen.write_error(error)
    told = capsys.readouterr().err
    assert "\x1b" not in told
    assert "\\x1b[2J" in told


def test_an_error_in_json() -> None:
    told = screen.describe_error(
        errors.RemoteError("boom", type="E", trace="line 1", retry_after=1.5)
    )
    assert told["type"] == "RemoteError"
    assert told["remote_type"] == "E"
    assert told["trace"] == "line 1"
    assert told["retry_after"] == 1.5
    assert told["message"] == "boom"  # the class has a key of its own
    told = screen.describe_error(errors.RpcError(402, "not enough", {"balance": 3}))
    assert (told["code"], told["message"], told["data"]) == (402, "not enough", {"balance": 3})
    assert "call_id" not in told
    named = errors.Internal("the result can't be sent")
    named.call_id = "ab12cd34-7"
    assert screen.describe_error(named)["call_id"] == "ab12cd34-7"
    told = screen.describe_error(errors.DeadlineExceeded("late", attempts=2))
    assert told["message"] == "late"
    assert told["attempts"] == 2


def test_blocks_need_utf_8() -> None:
    ascii_file = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    assert not screen.has_blocks(Console(file=ascii_file))
    utf_file = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    assert screen.has_blocks(Console(file=utf_file))


def test_bytes_on_a_terminal_are_a_literal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    screen.write_result(b"\x00\x1b")
    assert capsys.readouterr().out == "b'\\x00\\x1b'\n"
    screen.write_result({"a": "\x1b"})
    assert "\\u001b" in capsys.readouterr().out


def test_interruption_has_its_exit_code() -> None:
    with pytest.raises(Exception) as caught, screen.failures_told():  # noqa: PT011 - click's Exit
        raise KeyboardInterrupt
    assert caught.value.exit_code == 130  # type: ignore[attr-defined]
