import json
import socket
from pathlib import Path

import pytest

from tests.cli.served import invoke


@pytest.mark.parametrize(
    ("words", "output"),
    [
        (["Arith.add", "1", "2"], "3"),
        (["Arith.add", "-1", "-2"], "-3"),
        (["Arith.add", "1"], "3"),
        (["Arith.add", "a=1", "b=5"], "6"),
        (["Arith.add", "1", "b=5"], "6"),
        (["Arith.add", "--args-json", "[1, 2]"], "3"),
        (["Arith.add", "--args-json", '{"a": 1, "b": 2}'], "3"),
        (["Arith.add", "1", "2", "--codec", "json"], "3"),
        (["Arith.add", "1", "2", "--timeout", "5", "-m", "trace=x"], "3"),
        (["shout", '"é"'], '"É"'),
        (["shout", "hello", "--text"], '"HELLO"'),
        (["Arith.echo", '{"a": [1, null]}'], '{\n  "a": [\n    1,\n    null\n  ]\n}'),
    ],
)
def test_results_are_json(target: str, words: list[str], output: str) -> None:
    result = invoke("call", target, *words)
    assert result.stderr == ""
    assert (result.exit_code, result.stdout) == (0, output + "\n")


def test_bytes_go_in_and_out_unchanged(target: str, tmp_path: Path) -> None:
    file = tmp_path / "data"
    file.write_bytes(b"\x00\xff\n")
    assert invoke("call", target, "Arith.echo", f"@{file}").stdout_bytes == b"\x00\xff\n"
    assert invoke("call", target, "Arith.echo", "@-", stdin=b"\xfe").stdout_bytes == b"\xfe"
    assert invoke("call", target, "Arith.octets").stdout_bytes == b"\x00\xff"


def test_a_stream_is_a_line_per_item(target: str) -> None:
    result = invoke("call", target, "Arith.count", "3", "--stream")
    assert (result.exit_code, result.stdout) == (0, "0\n1\n2\n")
    told = invoke("call", target, "Arith.count", "2", "--stream", "--json").stdout.splitlines()
    assert told[:2] == ["0", "1"]
    assert json.loads(told[2])["items"] == 2
    refused = invoke("call", target, "Arith.add", "1", "2", "--stream")
    assert refused.exit_code == 5
    assert "is no stream" in refused.stderr


def test_json_for_programs(target: str) -> None:
    result = invoke("call", target, "Arith.add", "1", "2", "--json")
    told = json.loads(result.stdout)
    assert told["result"] == 3
    assert 0 < told["seconds"] < 10
    assert result.stdout.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "code", "kind", "text"),
    [
        (["Arith.refuse"], 1, "RpcError", "not enough"),
        (["Arith.bug"], 1, "RemoteError", "by zero"),
        (["Arith.add", "one"], 2, "ConfigError", "not JSON"),
        (["Arith.add", "1", "--codec", "morse"], 2, "ConfigError", "morse"),
        (["Arith.never", "--timeout", "0.05"], 4, "DeadlineExceeded", ""),
        (["Arith.sub", "1", "2"], 5, "MethodNotFound", "Arith.sub"),
        (["Arith.add", '"one"'], 5, "InvalidArgument", "'a'"),
    ],
)
def test_errors_are_told_and_the_exit_code_tells(
    target: str, words: list[str], code: int, kind: str, text: str
) -> None:
    result = invoke("call", target, *words)
    assert (result.exit_code, result.stdout) == (code, "")
    assert result.stderr.startswith(f"error: {kind}: ")
    assert text in result.stderr
    result = invoke("call", target, *words, "--json")
    assert (result.exit_code, result.stderr) == (code, "")
    error = json.loads(result.stdout)["error"]
    assert error["type"] == kind
    assert text in error["message"]


def test_everything_an_error_brings_is_in_the_json(target: str) -> None:
    error = json.loads(invoke("call", target, "Arith.refuse", "--json").stdout)["error"]
    assert error["status"] == 60
    assert error["code"] == 402
    assert error["data"] == {"balance": 3}
    assert error["ran"] == "yes"
    told = invoke("call", target, "Arith.never", "--timeout", "0.05", "--json").stdout
    error = json.loads(told)["error"]
    assert error["ran"] == "maybe"
    assert error["stages"]["total"] >= 0.049


def test_data_of_an_error_is_shown(target: str) -> None:
    assert '  data: {"balance": 3}\n' in invoke("call", target, "Arith.refuse").stderr


def test_nobody_there() -> None:
    with socket.socket() as taken:  # bound but not listening: surely refused
        taken.bind(("127.0.0.1", 0))
        result = invoke("call", f"127.0.0.1:{taken.getsockname()[1]}", "Arith.add", "1", "2")
    assert result.exit_code == 3
    assert "error: ConnectFailed" in result.stderr


def test_a_wrong_target_is_wrong_usage() -> None:
    result = invoke("call", "ftp://x", "Arith.add")
    assert result.exit_code == 2
    assert "ftp" in result.stderr


@pytest.mark.parametrize("words", [[], ["tcp://127.0.0.1:1"], ["t", "m", "--timeout", "x"]])
def test_missing_words_are_wrong_usage(words: list[str]) -> None:
    assert invoke("call", *words).exit_code == 2
