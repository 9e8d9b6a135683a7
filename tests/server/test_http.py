"""Options of what a server says in HTTP."""

from typing import Any

import pytest

import fastrpc
from fastrpc.errors import ConfigError
from fastrpc.server.http import HttpOptions


def test_a_server_has_them() -> None:
    options = HttpOptions(origins=("https://a.example:8443", "*"), hosts=["rpc.example", "[::1]"])
    assert fastrpc.Server(http=options)._hall.options.http is options
    assert fastrpc.Server()._hall.options.http == HttpOptions()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("origins", "https://a.example"),
        ("origins", ("a.example",)),
        ("origins", ("https://a.example/",)),
        ("origins", ("https://A.example",)),
        ("origins", (5,)),
        ("hosts", "a.example"),
        ("hosts", ("a.example:80",)),
        ("hosts", ("*",)),
        ("hosts", None),
        ("max_head", 0),
        ("max_head", 2**21),
        ("max_headers", True),
        ("max_target", 1.5),
        ("max_requests", -1),
        ("keep_alive", 0),
        ("silence", "x"),
        ("title", None),
    ],
)
def test_what_makes_no_sense_is_refused(name: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=f"http: {name} must be"):
        HttpOptions(**{name: value})
