from dataclasses import fields
from typing import Any, get_type_hints

import pytest

import fastrpc
from fastrpc.client.options import ClientOptions, ConnectOptions, check_timeout, read_options
from fastrpc.cluster import ClusterOptions
from fastrpc.wire import Limits


def test_type_checkers_know_every_option() -> None:
    known = {item.name for item in fields(ClientOptions)} - {"limits"}
    known |= {item.name for item in fields(ClusterOptions)}
    limits = get_type_hints(Limits)
    assert set(get_type_hints(ConnectOptions)) == known | set(limits)
    for name, kind in limits.items():
        assert get_type_hints(ConnectOptions)[name] is kind


def test_options_and_limits_are_told_apart() -> None:
    options = read_options({"timeout": 1.5, "max_body": 100, "connections": 3})
    assert (options.timeout, options.connections, options.limits.max_body) == (1.5, 3, 100)
    assert options.option(options.registry()).max_body == 100


@pytest.mark.parametrize("connect", [fastrpc.connect, fastrpc.connect_sync])
@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"no_such": 1, "nor_this": 2}, "unknown client option: no_such, nor_this"),
        ({"timeout": 0}, "timeout must be above 0"),
        ({"timeout": -1}, "timeout must be above 0"),
        ({"timeout": float("nan")}, "timeout must be above 0"),
        ({"timeout": float("inf")}, "timeout must be above 0 and below 4294967"),
        ({"timeout": True}, "timeout must be seconds or None"),
        ({"timeout": "1"}, "timeout must be seconds or None"),
        ({"connect_timeout": None}, "connect_timeout must be seconds, got None"),
        ({"connect_timeout": 0}, "connect_timeout must be above 0"),
        ({"connections": 0}, "connections must be 1 to 1024"),
        ({"connections": 1.0}, "connections must be 1 to 1024"),
        ({"codec": "yaml"}, "yaml"),
        ({"codec": "pickle"}, "pickle"),
        ({"pickle": 1}, "pickle must be True or False"),
        ({"max_body": "1"}, "max_body must be a number"),
        ({"max_body": 0}, "max_body must be above 0"),
        ({"max_body": True}, "max_body must be a number"),
    ],
)
def test_wrong_options_are_refused_by_name(connect: Any, given: dict[str, Any], words: str) -> None:
    with pytest.raises(fastrpc.ConfigError, match=words):
        connect("tcp://127.0.0.1:1", **given)


@pytest.mark.parametrize("connect", [fastrpc.connect, fastrpc.connect_sync])
def test_wrong_targets_and_metadata_are_refused_at_once(connect: Any) -> None:
    with pytest.raises(fastrpc.ConfigError, match="nonsense://"):
        connect("nonsense://x")
    with pytest.raises(fastrpc.InvalidArgument, match="lower-case"):
        connect("tcp://127.0.0.1:1", metadata={"Trace": "x"})


def test_pickle_is_there_when_asked_for() -> None:
    assert "pickle" not in read_options({}).registry().names
    assert "pickle" in read_options({"pickle": True, "codec": "pickle"}).registry().names


def test_a_timeout_for_the_lane() -> None:
    assert check_timeout(None) == 0.0
    assert check_timeout(2) == 2.0
    assert type(check_timeout(2)) is float
