import json
import signal
import subprocess
import sys

import pytest

import fastrpc
from fastrpc.cli.ping import summary
from fastrpc.wire import Kind
from tests.cli.served import invoke
from tests.client.scripted import Peer, scripted


def test_two_answers(target: str) -> None:
    result = invoke("ping", target, "-c", "2", "--interval", "0.01")
    assert result.exit_code == 0
    first, second, last = result.stdout.splitlines()
    assert first.startswith(f"pong 1 from {target}: ")
    assert second.startswith(f"pong 2 from {target}: ")
    assert last.startswith("2 answered, 0 not; min ")


def test_json(target: str) -> None:
    told = json.loads(invoke("ping", target, "-c", "1", "--json").stdout)
    assert told["target"] == target
    assert (told["answered"], told["lost"]) == (1, 0)
    assert 0 < told["min"] == told["median"] == told["max"] < 5


@pytest.mark.parametrize("more", [[], ["--json"]])
def test_nobody_there(more: list[str]) -> None:
    result = invoke("ping", "unix:///nowhere/x.sock", "-c", "1", *more)
    assert result.exit_code == 3


def deaf_at_first(peer: Peer) -> None:
    """Answer no ping but the second."""
    peer.hello()
    peer.read()
    second = peer.read()
    assert second.heartbeat
    peer.frame(Kind.CALL, second.id, heartbeat=True, reply=True)
    peer.until_end()


@pytest.mark.slow
def test_a_ping_without_an_answer_is_told_and_the_next_one_sent() -> None:
    with scripted(deaf_at_first) as server:
        result = invoke("ping", server.target, "-c", "2", "--interval", "0.01", "--timeout", "1")
        assert (result.exit_code, result.stderr) == (0, "")
        first, second, last = result.stdout.splitlines()
        assert first == f"pong 1 from {server.target}: no answer within 1 s"
        assert second.startswith(f"pong 2 from {server.target}: ")
        assert last.startswith("1 answered, 1 not; min ")


def test_it_is_the_clients_deadline_that_tells(
    target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def late(client: fastrpc.Client) -> float:
        raise fastrpc.DeadlineExceeded("ping: the deadline passed")

    monkeypatch.setattr(fastrpc.Client, "ping", late)
    result = invoke("ping", target, "-c", "1")
    assert (result.exit_code, result.stderr) == (4, "")
    assert result.stdout == f"pong 1 from {target}: no answer within 3 s\n"


def deaf(peer: Peer) -> None:
    peer.hello()
    peer.until_end()


@pytest.mark.slow
def test_no_answer_at_all() -> None:
    with scripted(deaf) as server:
        words = ["ping", server.target, "-c", "1", "--timeout", "1"]
        result = invoke(*words)
        assert (result.exit_code, result.stderr) == (4, "")
        assert result.stdout == f"pong 1 from {server.target}: no answer within 1 s\n"
        result = invoke(*words, "--json")
        told = {"target": server.target, "answered": 0, "lost": 1}
        assert (result.exit_code, json.loads(result.stdout)) == (4, told)


def test_a_summary_of_nothing() -> None:
    assert summary([], 2) == {"answered": 0, "lost": 2}


@pytest.mark.slow
def test_ctrl_c_ends_it_with_a_summary(target: str) -> None:
    words = [sys.executable, "-m", "fastrpc", "ping", target, "-c", "0"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("pong 1")
        process.send_signal(signal.SIGINT)
        assert "answered, 0 not; min " in process.stdout.read()
    assert process.returncode == 0
