"""Check which proxy a connection goes through, and that nobody reads its password."""

import base64

import pytest

from fastrpc.errors import ConfigError
from fastrpc.transport import choose_proxy, parse_target
from fastrpc.transport.proxy import Proxy, parse_proxy


def chosen(target: str, proxy: str | None = None, **environment: str) -> str:
    return str(choose_proxy(parse_target(target), proxy, environment) or "")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("http://p:8080", "http://p:8080"),
        ("HTTP://P:8080/", "http://p:8080"),
        ("p:8080", "http://p:8080"),
        ("http://p", "http://p:3128"),
        ("http://[::1]:81", "http://[::1]:81"),
        ("http://user:secret@p:1", "http://p:1"),
    ],
)
def test_what_a_proxy_is_called(text: str, found: str) -> None:
    assert str(parse_proxy(text)) == found


def test_credentials_are_sent_and_shown_nowhere() -> None:
    proxy = parse_proxy("http://al%40x:se%3Acret%20%E2%82%AC@p:1")
    kind, _, packed = proxy.authorization.partition(" ")
    assert kind == "Basic"
    assert base64.b64decode(packed).decode() == "al@x:se:cret €"
    assert packed not in f"{proxy} {proxy!r}"
    assert parse_proxy("http://p:1").authorization == ""


@pytest.mark.parametrize(
    "text",
    [
        "socks5://user:hunter2@p:1",
        "https://user:hunter2@p:1",
        "http://user:hunter2@:1",
        "http://user:hunter2@p:99999",
        "http://user:hunter2@p:0",
        "http://user:hunter2@p:1/path",
        "http://user:hunter2@p:1?x",
        "http://user:hunter2@p :1",
        "http://us%3Aer:hunter2@p:1",
        "http://user:hunter2@[::1",
        "",
    ],
)
def test_what_is_no_proxy_is_an_error_without_secrets(text: str) -> None:
    with pytest.raises(ConfigError, match="^proxy") as raised:
        parse_proxy(text)
    assert "hunter2" not in str(raised.value)


def test_what_is_given_counts_whatever_the_environment_says() -> None:
    environment = {"https_proxy": "http://e:1", "no_proxy": "*"}
    for target in ("tcp://a:1", "tls://127.0.0.1:1", "https://a"):
        assert chosen(target, "http://p:1", **environment) == "http://p:1"
        assert chosen(target, "none", **environment) == ""


@pytest.mark.parametrize(
    ("target", "proxy", "found"),
    [
        ("https://a", None, "http://s:1"),
        ("wss://a", None, "http://s:1"),
        ("http://a", None, "http://h:1"),
        ("ws://a", None, "http://h:1"),
        ("tcp://a:1", None, ""),
        ("tls://a:1", None, ""),
        ("jsonrpc://a:1", None, ""),
        ("tcp://a:1", "env", "http://s:1"),
        ("tls://a:1", "env", "http://s:1"),
        ("unix:///s", "env", ""),
        ("mem://s", "env", ""),
    ],
)
def test_which_targets_go_by_the_environment(target: str, proxy: str | None, found: str) -> None:
    assert chosen(target, proxy, HTTPS_PROXY="http://s:1", http_proxy="http://h:1") == found


def test_names_of_variables() -> None:
    assert chosen("https://a", https_proxy="http://l:1", HTTPS_PROXY="http://u:1") == "http://l:1"
    assert chosen("https://a", ALL_PROXY="http://x:1") == "http://x:1"
    assert chosen("http://a", ALL_PROXY="x:1") == "http://x:1"
    assert chosen("http://a", HTTP_PROXY="http://x:1") == "", "a CGI request could have set it"
    assert chosen("https://a", HTTPS_PROXY=" ") == ""
    with pytest.raises(ConfigError, match=r"^ALL_PROXY: only http:// proxies can be used"):
        chosen("https://a", ALL_PROXY="socks5h://x:1")


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST.", "db.localhost", "127.0.0.1", "127.8.8.8", "[::1]"]
)
def test_nothing_here_is_reached_by_a_detour(host: str) -> None:
    assert chosen(f"https://{host}", HTTPS_PROXY="http://p:1") == ""


@pytest.mark.parametrize(
    ("exceptions", "target", "is_excepted"),
    [
        ("*", "https://a", True),
        ("example.org", "https://example.org", True),
        ("example.org", "https://www.example.org", True),
        (".example.org", "https://www.Example.org", True),
        ("example.org", "https://badexample.org", False),
        ("b, example.org ,c", "https://example.org", True),
        ("b example.org", "https://example.org", True),
        ("example.org:444", "https://example.org", False),
        ("example.org:443", "https://example.org", True),
        ("10.0.0.7", "https://10.0.0.7", True),
        ("10.0.0.0/8", "https://10.1.2.3", True),
        ("10.0.0.0/8", "https://11.1.2.3", False),
        ("10.0.0.0/8", "https://ten.example.org", False),
        ("fd00::/8", "https://[fd00::1]", True),
        ("[fd00::1]:443", "https://[fd00::1]", True),
        ("[fd00::1]:444", "https://[fd00::1]", False),
        ("nonsense/8", "https://10.1.2.3", False),
    ],
)
def test_exceptions(exceptions: str, target: str, is_excepted: bool) -> None:
    found = chosen(target, HTTPS_PROXY="http://p:1", NO_PROXY=exceptions)
    assert bool(found) is not is_excepted


def test_a_proxy_for_what_is_on_this_machine_is_a_mistake() -> None:
    with pytest.raises(ConfigError, match="is on this machine"):
        chosen("unix:///s", "http://p:1")


def test_where_to_connect() -> None:
    assert str(Proxy("::1", 81).target) == "tcp://[::1]:81"
