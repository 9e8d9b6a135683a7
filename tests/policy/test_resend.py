"""Whether a call may be sent again: by what it ended with, and by nothing else."""

import pytest

import fastrpc
from fastrpc.policy import Resend, has_run, is_fault, judge, pushback
from fastrpc.policy.resend import PUSHBACK_MAX


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (fastrpc.ConnectFailed("x"), Resend.FREE),
        (fastrpc.ConnectionDraining("x"), Resend.FREE),
        (fastrpc.ConnectionLost("x", "no"), Resend.PAID),
        (fastrpc.ConnectionLost("x", "maybe"), Resend.IF_IDEMPOTENT),
        (fastrpc.Unavailable("x"), Resend.PAID),
        (fastrpc.Unavailable("x", ran="yes"), Resend.IF_IDEMPOTENT),
        (fastrpc.Overloaded("x"), Resend.PAID),
        (fastrpc.DeadlineExceeded("x"), Resend.NEVER),
        (fastrpc.InvalidArgument("x"), Resend.NEVER),
        (fastrpc.Unauthenticated("x"), Resend.NEVER),
        (fastrpc.MethodNotFound("x"), Resend.NEVER),
        (fastrpc.TooLarge("x"), Resend.NEVER),
        (fastrpc.Internal("x"), Resend.NEVER),
        (fastrpc.RpcError(1, "x"), Resend.NEVER),
        (fastrpc.RegistryLost("x"), Resend.NEVER),
        (ValueError("x"), Resend.NEVER),
    ],
    ids=lambda thing: f"{type(thing).__name__}" if isinstance(thing, Exception) else "",
)
def test_verdicts(error: Exception, verdict: Resend) -> None:
    assert judge(error) is verdict


@pytest.mark.parametrize(
    ("error", "is_one"),
    [
        (fastrpc.ConnectionLost("x", "maybe"), True),
        (fastrpc.ConnectFailed("x"), True),
        (fastrpc.DeadlineExceeded("x"), True),
        (fastrpc.Unavailable("x"), True),
        (fastrpc.Internal("x"), True),
        (fastrpc.RemoteError("x"), True),
        (fastrpc.RpcError(1, "x"), False),
        (fastrpc.ConnectionDraining("x"), False),
        (fastrpc.Overloaded("x"), False),
        (fastrpc.InvalidArgument("x"), False),
        (KeyError("registered on both sides"), False),
    ],
)
def test_faults(error: Exception, is_one: bool) -> None:
    assert is_fault(error) is is_one


@pytest.mark.parametrize(
    ("asked", "heard"), [(None, 0.0), (0.5, 0.5), (-1.0, 0.0), (1e9, PUSHBACK_MAX)]
)
def test_pushback_has_bounds(asked: float | None, heard: float) -> None:
    assert pushback(fastrpc.Overloaded("x", retry_after=asked)) == heard
    assert pushback(fastrpc.ConnectFailed("x")) == 0.0


def test_what_has_run() -> None:
    assert has_run(fastrpc.ConnectionLost("x", "maybe"))
    assert has_run(fastrpc.RemoteError("x"))
    assert has_run(ValueError())
    assert not has_run(fastrpc.Overloaded("x"))
