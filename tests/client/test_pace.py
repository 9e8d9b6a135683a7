from fastrpc.client.pace import PingPace
from fastrpc.protocol import PeerGuard


def test_two_at_once_then_one_per_interval() -> None:
    pace = PingPace()
    assert [pace.wait(100.0, 1.0) for _ in range(4)] == [0.0, 0.0, 1.0, 2.0]
    assert pace.wait(200.0, 1.0) == 0.0


def test_no_interval_is_no_wait() -> None:
    pace = PingPace()
    assert [pace.wait(5.0, 0.0) for _ in range(5)] == [0.0] * 5


def test_a_guard_never_strikes_at_this_pace() -> None:
    """Nor does it when a heartbeat comes in between."""
    pace, guard, now = PingPace(), PeerGuard(1.0), 50.0
    guard.ping(now)
    for _ in range(1000):
        now += pace.wait(now, 1.0)
        guard.ping(now)
