"""Who may come in: counted without a socket."""

from typing import Any

import pytest

from fastrpc.server.admission import Admission, host_of


class Session:
    def __init__(self, peer: str = "mem://x") -> None:
        self.peer = peer


def enter(admission: Admission, session: Any) -> Any:
    return admission.enter(session)


@pytest.mark.parametrize(
    ("peer", "host"),
    [
        ("tcp://10.0.0.1:4711", "tcp://10.0.0.1"),
        ("tcp://[2001:db8::1]:4711", "tcp://[2001:db8::1]"),
        ("tcp://127.0.0.1:4711", ""),
        ("tcp://127.8.9.1:4711", ""),
        ("tcp://[::1]:4711", ""),
        ("unix:///run/x.sock", ""),
        ("unix://@name", ""),
        ("mem://x", ""),
    ],
)
def test_hosts(peer: str, host: str) -> None:
    assert host_of(peer) == host


def test_the_oldest_silent_one_goes_first() -> None:
    admission = Admission(most=3, per_host=9, pending=9)
    sessions: list[Any] = [Session() for _ in range(4)]
    assert [enter(admission, session) for session in sessions[:3]] == [None] * 3
    admission.greeted(sessions[0])
    victim, why = enter(admission, sessions[3])
    assert victim is sessions[1]
    assert why == "more than 3 connections (max_connections)"
    admission.turn_away(victim)
    assert admission.visitors == [sessions[0], sessions[2], sessions[3]]
    assert (admission.accepted, admission.turned_away) == (4, 1)


def test_a_newcomer_goes_when_all_others_have_spoken() -> None:
    admission = Admission(most=1, per_host=9, pending=9)
    old, new = Session(), Session()
    enter(admission, old)
    admission.greeted(old)  # type: ignore[arg-type]
    assert enter(admission, new)[0] is new


def test_the_silent_are_counted_apart() -> None:
    admission = Admission(most=9, per_host=9, pending=2)
    sessions: list[Any] = [Session() for _ in range(4)]
    for session in sessions[:2]:
        assert enter(admission, session) is None
    admission.greeted(sessions[0])
    assert enter(admission, sessions[2]) is None
    victim, why = enter(admission, sessions[3])
    assert (victim, why) == (sessions[1], "more than 2 without HELLO (max_pending)")


def test_hosts_are_counted_apart_and_given_back() -> None:
    admission = Admission(most=99, per_host=2, pending=99)
    far: list[Any] = [Session(f"tcp://10.0.0.1:{port}") for port in range(4)]
    near: list[Any] = [Session(f"tcp://127.0.0.1:{port}") for port in range(9)]
    assert [enter(admission, session) for session in [*far[:2], *near]] == [None] * 11
    victim, why = enter(admission, far[2])
    assert victim is far[2]
    assert "max_per_host" in why
    admission.turn_away(far[2])
    assert enter(admission, Session("tcp://10.0.0.2:1")) is None
    admission.leave(far[0])
    admission.leave(far[0])
    assert enter(admission, far[3]) is None
    for session in admission.visitors:
        admission.leave(session)
    assert (len(admission), admission._pending, admission._hosts) == (0, {}, {})


def test_who_was_turned_away_counts_no_more_though_it_is_not_gone_yet() -> None:
    # A flood of one loop step: nobody is really gone before the next.
    admission = Admission(most=99, per_host=99, pending=3)
    sessions: list[Any] = [Session() for _ in range(50)]
    for session in sessions:
        refused = enter(admission, session)
        if refused is not None:
            admission.turn_away(refused[0])
    assert admission.visitors == sessions[-3:]
    assert admission.turned_away == 47
    assert sessions[0] not in admission
    assert sessions[-1] in admission


def test_who_goes_on_in_anothers_place_is_the_same_connection() -> None:
    admission = Admission(most=9, per_host=1, pending=9)
    doorway, session = Session("tcp://10.0.0.1:5"), Session("tcp://10.0.0.1:5")
    assert enter(admission, doorway) is None
    admission.replace(doorway, session)  # type: ignore[arg-type]
    assert admission.visitors == [session]
    assert admission.accepted == 1
    assert enter(admission, Session("tcp://10.0.0.1:6"))[1].startswith("more than 1 ")
    admission.leave(session)  # type: ignore[arg-type]
    admission.leave(admission.visitors[0])
    assert (len(admission), admission._hosts, admission._pending) == (0, {}, {})
