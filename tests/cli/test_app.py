import subprocess
import sys

import pytest
from click.testing import CliRunner

from fastrpc.cli import loops, main
from fastrpc.version import __version__
from tests.cli.served import invoke

COMMANDS = [
    "serve", "registry", "ls", "top", "call", "describe", "schema", "stubs", "ping", "bench", "dump",
]  # fmt: skip


def test_the_commands_are_listed_in_the_order_of_their_use() -> None:
    lines = invoke("--help").output.partition("Commands:\n")[2].splitlines()
    assert [line.split()[0] for line in lines[: len(COMMANDS)]] == COMMANDS


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_examples(command: str) -> None:
    result = invoke(command, "--help")
    assert result.exit_code == 0
    assert f"  fastrpc {command} " in result.output.partition("Examples:\n")[2]
    assert max(map(len, result.output.splitlines())) <= 100


@pytest.mark.parametrize("command", COMMANDS)
def test_exit_codes_are_in_the_help(command: str) -> None:
    assert "\n  Exit codes: 0 " in invoke(command, "--help").output


def test_the_version() -> None:
    assert invoke("--version").output == f"fastrpc {__version__}\n"


def test_an_unknown_command_is_wrong_usage() -> None:
    assert invoke("conquer").exit_code == 2


def test_output_that_the_screen_lacks_is_no_error(target: str) -> None:
    result = CliRunner(charset="ascii").invoke(main, ["call", target, "shout", '"\\u00e9"'])
    assert result.exit_code == 0


@pytest.mark.parametrize("environment", [{"NO_COLOR": "1", "FORCE_COLOR": "1"}, {}])
def test_no_colours_in_a_pipe_or_with_no_color(target: str, environment: dict[str, str]) -> None:
    result = CliRunner(env=environment).invoke(main, ["describe", target])
    assert "\x1b[3" not in result.output  # colours; bold and dim may stay
    assert "\x1b[9" not in result.output


def test_colours_when_forced(target: str) -> None:
    result = CliRunner(env={"FORCE_COLOR": "1"}).invoke(main, ["describe", target], color=True)
    assert "\x1b[1;32mArith" in result.output


@pytest.mark.slow
def test_the_library_does_not_need_the_commands() -> None:
    code = (
        "import sys, fastrpc; "
        "print([name for name in ('click', 'rich', 'fastrpc.cli') if name in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout == "[]\n"


@pytest.mark.slow
def test_python_m_is_the_same() -> None:
    out = subprocess.run(
        [sys.executable, "-m", "fastrpc", "--version"], capture_output=True, text=True, check=True
    )
    assert out.stdout == f"fastrpc {__version__}\n"


def test_a_coroutine_runs_to_its_end() -> None:
    async def answer() -> int:
        return 42

    assert loops.run(answer()) == 42
