"""Which pages may talk to us."""

import pytest

from fastrpc.transport.origin import is_allowed

ORIGINS = [
    # Ours: the page came from where it asks now.
    ("http://server.example:7000", "server.example:7000", (), True),
    ("HTTP://Server.Example:7000", "SERVER.example:7000", (), True),
    ("http://server.example", "server.example", (), True),
    ("http://server.example", "server.example:80", (), True),
    ("https://server.example", "server.example:443", (), True),
    ("https://server.example:443", "server.example", (), True),
    ("http://[::1]:7000", "[::1]:7000", (), True),
    # Others.
    ("http://server.example:7001", "server.example:7000", (), False),
    ("http://server.example", "server.example:7000", (), False),
    ("https://server.example", "server.example:80", (), False),
    ("http://evil.example", "server.example", (), False),
    ("http://server.example.evil.example", "server.example", (), False),
    ("http://server.example@evil.example", "server.example", (), False),
    ("http://server.example/", "server.example", (), False),
    ("null", "server.example", (), False),
    ("", "server.example", (), False),
    ("file://", "server.example", (), False),
    ("http://server.example", "", (), False),
    ("chrome-extension://abc", "abc", (), False),
    # On the list.
    ("https://page.example", "server.example", ("https://page.example",), True),
    ("https://PAGE.example", "server.example", ("https://page.EXAMPLE",), True),
    ("https://page.example:8443", "server.example", ("https://page.example",), False),
    ("http://page.example", "server.example", ("https://page.example",), False),
    ("null", "server.example", ("null",), True),
    ("chrome-extension://abc", "server.example", ("chrome-extension://abc",), True),
    ("https://whatever.example", "server.example", ("*",), True),
]


@pytest.mark.parametrize(("origin", "host", "origins", "allowed"), ORIGINS)
def test_which_pages_may_connect(
    origin: str, host: str, origins: tuple[str, ...], allowed: bool
) -> None:
    assert is_allowed(origin, host, origins) is allowed
