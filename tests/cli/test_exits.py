import pytest

from fastrpc import errors
from fastrpc.cli.exits import EXIT_HELP, ExitCode, exit_code


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.RemoteError("x"), 1),
        (errors.RpcError(7, "x"), 1),
        (errors.ConfigError("x"), 2),
        (errors.ConnectFailed("x"), 3),
        (errors.DeadlineExceeded("x"), 4),
        (errors.ConnectionLost("x"), 5),
        (errors.MethodNotFound("x"), 5),
        (errors.InvalidArgument("x"), 5),
        (errors.Internal("x"), 5),
        (errors.CodecError("x"), 5),
        (errors.ProtocolError("x"), 5),
        (KeyboardInterrupt(), 130),
    ],
    ids=lambda value: type(value).__name__,
)
def test_each_error_has_its_code(error: BaseException, code: int) -> None:
    assert exit_code(error) == code


def test_every_error_of_the_tree_has_a_code() -> None:
    waiting = [errors.FastRPCError]
    while waiting:
        kind = waiting.pop()
        waiting += [each for each in kind.__subclasses__() if each.__module__ == errors.__name__]
        assert exit_code(kind.__new__(kind)) in set(ExitCode) - {ExitCode.OK}


def test_every_code_is_in_the_help() -> None:
    for code in ExitCode:
        assert str(code.value) in EXIT_HELP
