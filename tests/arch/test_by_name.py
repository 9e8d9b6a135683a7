"""What is found by name is there: no import contract sees these arrows, and some point up."""

import ast
import importlib

import pytest

from fastrpc.client.connect import CLUSTER, CLUSTER_SYNC
from fastrpc.cluster.engines import ENGINES
from fastrpc.codec.extras import EXTRAS
from fastrpc.server.announcing import ANNOUNCER
from fastrpc.server.doors import TONGUES
from fastrpc.server.pages import PAGES
from fastrpc.transport.dial import _UPGRADES
from tests.arch.source import MODULES, name_of

NAMED = (
    {(each.module, each.cls) for each in EXTRAS.values()}
    | {(each.module, each.opener) for each in TONGUES if each.module}
    | set(_UPGRADES.values())
    | {tuple(each.name.split(":")) for each in PAGES.values()}
    | {(each.module, each.name) for each in ENGINES.values()}
    | {CLUSTER, CLUSTER_SYNC, ANNOUNCER}
)

#: Where something is imported by name: those tables, and others that point nowhere up.
IMPORTERS = {
    "fastrpc/cli/loading.py",  # what the user of the command names
    "fastrpc/client/connect.py",
    "fastrpc/cluster/engines.py",
    "fastrpc/codec/extras.py",
    "fastrpc/frame.py",  # the twins of its own storey
    "fastrpc/server/announcing.py",
    "fastrpc/server/doors.py",
    "fastrpc/server/pages.py",
    "fastrpc/transport/dial.py",
    "fastrpc/transport/head.py",  # h11
}


@pytest.mark.parametrize(("module", "attribute"), sorted(NAMED))
def test_what_is_named_is_there(module: str, attribute: str) -> None:
    assert callable(getattr(importlib.import_module(module), attribute))


def test_every_table_has_names_in_it() -> None:
    rooms = {module.split(".")[1] for module, _ in NAMED}
    assert rooms == {"cluster", "codec", "gateway", "observe", "transport"}


def test_nobody_else_imports_by_name() -> None:
    found = set()
    for path in MODULES:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names = {each.attr for each in ast.walk(tree) if isinstance(each, ast.Attribute)}
        names |= {each.id for each in ast.walk(tree) if isinstance(each, ast.Name)}
        if names & {"import_module", "__import__"}:
            found.add(name_of(path))
    assert found == IMPORTERS
