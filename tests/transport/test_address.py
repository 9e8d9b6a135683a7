"""Check the address grammar: what is read, what is refused, and in which words."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastrpc.errors import ConfigError
from fastrpc.transport import Target, memory_pair, parse_target, peer_of

GOOD = {
    "tcp://127.0.0.1:7000": Target("tcp", host="127.0.0.1", port=7000),
    "tcp://[::1]:7000": Target("tcp", host="::1", port=7000),
    "tcp://[fe80::1%eth0]:7000": Target("tcp", host="fe80::1%eth0", port=7000),
    "tcp://db-1.example_x.org:65535": Target("tcp", host="db-1.example_x.org", port=65535),
    "tcp://:0": Target("tcp", host="", port=0),
    "tcp://*:80": Target("tcp", host="*", port=80),
    "tcp://bücher.example:80": Target("tcp", host="bücher.example", port=80),
    "unix:///run/app.sock": Target("unix", path="/run/app.sock"),
    "unix:///a b?c#d".replace(" ", "_"): Target("unix", path="/a_b?c#d"),
    "unix://@name": Target("unix", path="@name"),
    "tls://h:7443": Target("tls", host="h", port=7443),
    "ws://h:7000/a/b.c": Target("ws", host="h", port=7000, path="/a/b.c"),
    "wss://[::1]:7000": Target("wss", host="::1", port=7000, path="/"),
    "http://h:80": Target("http", host="h", port=80, path="/"),
    "https://h:443/x/": Target("https", host="h", port=443, path="/x/"),
    "jsonrpc://h:1": Target("jsonrpc", host="h", port=1),
    "msgpackrpc://h:1": Target("msgpackrpc", host="h", port=1),
    "mem://a.b-c_d~1": Target("mem", name="a.b-c_d~1"),
}


@pytest.mark.parametrize("text", GOOD)
def test_target_is_read_and_given_back(text: str) -> None:
    assert parse_target(text) == GOOD[text]
    assert str(parse_target(text)) == text


@pytest.mark.parametrize(
    ("text", "means"),
    [
        ("localhost:7000", "tcp://localhost:7000"),
        ("[::1]:7000", "tcp://[::1]:7000"),
        ("redis:6379", "tcp://redis:6379"),  # a host of that name, not the scheme
        ("TCP://localhost:1", "tcp://localhost:1"),
        ("tcp://h:007", "tcp://h:7"),
        ("WS://h", "ws://h:80"),
        ("wss://h/a", "wss://h:443/a"),
        ("http://[::1]", "http://[::1]:80"),
        ("https://h/", "https://h:443"),
    ],
)
def test_other_spellings(text: str, means: str) -> None:
    assert str(parse_target(text)) == means


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no port"),
        ("localhost", "no port"),
        ("tcp://localhost", "no port"),
        ("tcp://[::1]", "no port"),
        ("tcp://localhost:", "port must be 0 to 65535, got ''"),
        ("tcp://localhost:65536", "got '65536'"),
        ("tcp://localhost:-1", "got '-1'"),
        ("tcp://localhost:7000/", "got '7000/'"),
        ("tcp://localhost:\u0667", "port must be"),
        ("tcp://localhost:" + "9" * 5000, "port must be"),
        ("tcp://::1:7000", "an IPv6 address needs brackets"),
        ("tcp://[::g]:7000", "'::g' is not an IPv6 address"),
        ("tcp://[127.0.0.1]:7000", "not an IPv6 address"),
        ("tcp://user@host:1", "'user@host' is not a host"),
        ("tcp://a/b:1", "'a/b' is not a host"),
        ("tcp://" + "a" * 256 + ":1", "is not a host"),
        ("tcp://a b:1", "character ' ' is not allowed"),
        ("tcp://a\n:1", r"character '\n' is not allowed"),
        ("unix:///a\0b", r"character '\x00' is not allowed"),
        ("unix://", "an absolute path or @name must follow unix://"),
        ("unix://relative", "an absolute path or @name must follow"),
        ("unix:///", "an absolute path or @name must follow"),
        ("unix://@", "an absolute path or @name must follow"),
        ("unix:///" + "x" * 107, "at most 107 bytes, this has 108"),
        ("unix:///" + "ü" * 54, "at most 107 bytes, this has 109"),
        ("/run/app.sock", "written unix:///path"),
        ("mem://", "must follow mem://"),
        ("mem://a/b", "must follow mem://"),
        ("tls://h", "no port (tls://host:port)"),
        ("ws://h:1/a b", "character ' ' is not allowed"),
        ("ws://h:1/a?b", "'/a?b' is not a path"),
        ("http://h:x/", "port must be 0 to 65535, got 'x'"),
        ("https://u:p@h/", "port must be 0 to 65535, got 'p@h'"),
        ("etcd://h:1/Arith", "scheme 'etcd' is of a registry, not of a server"),
        ("static:tcp://a:1,tcp://b:2", "scheme 'static' is of a registry, not of a server"),
        ("gopher://h:1", "unknown scheme 'gopher' (http, https, jsonrpc,"),
        ("://h:1", "unknown scheme ''"),
    ],
)
def test_refusal_names_text_and_reason(text: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_target(text)
    assert says in str(caught.value)
    assert str(caught.value).startswith(f"target {text!r}: ")


def test_path_of_greatest_length_is_fine() -> None:
    assert len(parse_target("unix:///" + "x" * 106).socket_path) == 107


def test_not_text() -> None:
    with pytest.raises(ConfigError, match="must be text, got bytes"):
        parse_target(b"tcp://h:1")  # type: ignore[arg-type]


@given(
    st.builds(
        str.__add__,
        st.sampled_from(["", "tcp://", "unix://", "mem://", "tls://", "tcp:", "[::1]"]),
        st.text(alphabet="az@/:[]09%*.?# \0é", max_size=20),
    )
)
def test_any_text_is_a_target_or_a_config_error(text: str) -> None:
    try:
        target = parse_target(text)
    except ConfigError:
        return
    assert parse_target(str(target)) == target


def test_abstract_name_for_the_kernel() -> None:
    assert parse_target("unix://@x").socket_path == "\0x"
    assert parse_target("unix:///x").socket_path == "/x"


class _Transport(asyncio.BaseTransport):
    """Only knows names."""


@pytest.mark.parametrize(
    ("extra", "name"),
    [
        ({"peername": ("127.0.0.1", 9)}, "tcp://127.0.0.1:9"),
        ({"peername": ("::1", 9, 0, 0)}, "tcp://[::1]:9"),
        ({"peername": "", "sockname": "/s"}, "unix:///s"),
        ({"peername": b"\0s"}, "unix://@s"),
        ({"peername": "mem://s"}, "mem://s"),
        ({}, "unknown peer"),
    ],
)
def test_peer_in_words(extra: dict[str, object], name: str) -> None:
    assert peer_of(_Transport(extra)) == name


@pytest.mark.asyncio
async def test_peer_of_a_memory_pipe() -> None:
    left, right = memory_pair(asyncio.Protocol(), asyncio.Protocol(), name="mem://here")
    assert peer_of(left) == peer_of(right) == "mem://here"
