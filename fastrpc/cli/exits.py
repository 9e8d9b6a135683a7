"""Tell a program by the exit code how a command ended.

Scripts branch on these numbers, so they are promised in the help text and kept.

Rules of the room:
  * one error class, one exit code; the table below is the only place;
  * nothing here prints.
"""

from enum import IntEnum

from fastrpc.errors import (
    ConfigError,
    ConnectFailed,
    DeadlineExceeded,
    FastRPCError,
    RegistryLost,
    RemoteError,
)


class ExitCode(IntEnum):
    """What the shell sees in `$?`."""

    OK = 0
    REMOTE = 1
    USAGE = 2
    CONNECT = 3
    DEADLINE = 4
    CALL = 5
    BREAKING = 6
    INTERRUPTED = 130


# First match wins, so a class stands before its base.
_TABLE: tuple[tuple[type[BaseException], ExitCode], ...] = (
    (RemoteError, ExitCode.REMOTE),
    (ConfigError, ExitCode.USAGE),
    (ConnectFailed, ExitCode.CONNECT),
    (RegistryLost, ExitCode.CONNECT),
    (DeadlineExceeded, ExitCode.DEADLINE),
    (FastRPCError, ExitCode.CALL),
    (KeyboardInterrupt, ExitCode.INTERRUPTED),
)

EXIT_HELP = """\
Exit codes: 0 all well; 1 the handler raised; 2 wrong usage; 3 no connection;
4 the deadline passed; 5 the call failed otherwise; 6 a contract changed in a way that
breaks callers; 130 interrupted."""


def exit_code(error: BaseException) -> ExitCode:
    """Return the exit code that stands for *error*."""
    for kind, code in _TABLE:
        if isinstance(error, kind):
            return code
    return ExitCode.CALL
