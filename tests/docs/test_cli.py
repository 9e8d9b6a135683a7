"""The page of the command line has every command and every exit code."""

import re

from fastrpc.cli import main
from fastrpc.cli.exits import ExitCode
from fastrpc.cli.schema import schema
from tests.docs.pages import ROOT, table

PAGE = (ROOT / "docs" / "guide" / "cli.md").read_text(encoding="utf-8")


def test_every_command_has_a_section_and_an_example() -> None:
    assert re.findall(r"(?m)^## (\w+)$", PAGE) == list(main.commands)
    assert re.findall(r"(?m)^\| \[`(\w+)`\]", PAGE) == list(main.commands)
    for name in main.commands:
        assert re.search(rf"(?m)^\$ (.* \| )?fastrpc {name} ", PAGE), name


def test_options_named_exist() -> None:
    commands = [*main.commands.values(), *schema.commands.values()]
    known = {word for command in commands for o in command.params for word in o.opts}
    named = set(re.findall(r"(?<=[` ])--?[a-z][a-z-]*", PAGE)) - {"--help", "-o"}  # tcpflow's
    assert named <= known, named - known


def test_exit_codes() -> None:
    shown = {int(row[0]): row[1] for row in table(PAGE, "exits")}
    assert set(shown) == set(map(int, ExitCode))
    assert [int(code) for code in re.findall(r"(?m)^\$ echo \$\?\n(\d+)$", PAGE)]
