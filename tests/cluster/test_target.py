import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastrpc.cluster import ClusterTarget, is_cluster, parse_cluster
from fastrpc.cluster.target import HOSTS_MAX, PREFIX, TARGETS_MAX
from fastrpc.errors import ConfigError

FORMS = {
    "etcd://10.0.0.1:2379,b:1/Arith": ClusterTarget(
        "etcd", service="Arith", hosts=(("10.0.0.1", 2379), ("b", 1))
    ),
    "etcd+tls://a:2379/prod/eu/shop.Arith": ClusterTarget(
        "etcd", service="shop.Arith", hosts=(("a", 2379),), prefix="prod/eu", is_secure=True
    ),
    "zookeeper://[::1]:2181/Arith": ClusterTarget(
        "zookeeper", service="Arith", hosts=(("::1", 2181),)
    ),
    "redis://user@a:6379/Arith": ClusterTarget(
        "redis", service="Arith", hosts=(("a", 6379),), user="user"
    ),
    "redis://us%40er@a:6379": ClusterTarget("redis", hosts=(("a", 6379),), user="us@er"),
    "registry://a:7070": ClusterTarget("registry", hosts=(("a", 7070),)),
    "registry://a:7070/prod/": ClusterTarget("registry", hosts=(("a", 7070),), prefix="prod"),
    "static:tcp://a:1,unix:///run/b.sock": ClusterTarget(
        "static", targets=("tcp://a:1", "unix:///run/b.sock")
    ),
    "file:///etc/in stances.toml#shop.Arith": ClusterTarget(
        "file", service="shop.Arith", path="/etc/in stances.toml"
    ),
    "file:///etc/instances.json": ClusterTarget("file", path="/etc/instances.json"),
    "dns://arith.example.com:7000": ClusterTarget("dns", hosts=(("arith.example.com", 7000),)),
    "dns://[::1]:7000": ClusterTarget("dns", hosts=(("::1", 7000),)),
    "dns://_arith._tcp.example.com": ClusterTarget("dns", hosts=(("_arith._tcp.example.com", 0),)),
}


@pytest.mark.parametrize("text", FORMS)
def test_every_form_is_read_and_written_alike(text: str) -> None:
    assert is_cluster(text)
    assert parse_cluster(text) == FORMS[text]
    assert str(FORMS[text]) == text


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("ETCD+TLS://a/Arith", "etcd+tls://a:2379/Arith"),
        ("zookeeper://a", "zookeeper://a:2181"),
        ("zookeeper://a/", "zookeeper://a:2181"),
        ("redis://[::1]", "redis://[::1]:6379"),
        ("registry://a,b:1/Arith", "registry://a:7070,b:1/Arith"),
        (f"etcd://a/{PREFIX}/Arith", "etcd://a:2379/Arith"),
        (f"etcd://a/{PREFIX}/", "etcd://a:2379"),
        ("static:a:1", "static:tcp://a:1"),
        ("static://tcp://a:1", "static:tcp://a:1"),
        ("dns://a:1/", "dns://a:1"),
    ],
)
def test_what_is_left_out_is_put_in(text: str, written: str) -> None:
    assert str(parse_cluster(text)) == written


def test_a_password_is_read_and_never_told() -> None:
    target = parse_cluster("redis://us%2Fer:p%40ss%3A@a/Arith")
    assert (target.user, target.password) == ("us/er", "p@ss:")
    assert str(target) == "redis://us%2Fer@a:6379/Arith"
    assert "p@ss" not in repr(target)
    assert parse_cluster("redis://:secret@a").password == "secret"


@pytest.mark.parametrize(
    "text",
    [
        "redis://user:secret@a:port/Arith", "redis://user:secret@a:99999", "redis://user:secret@",
        "redis://user:secret@a/b c", "redis://user:se/cret@a", "redis://user:secr@et@a b",
        "mysql://user:secret@a", "dns+tls://user:secret@a:1", "dns://user:secret@a:1",
        "redis://user:secret@a\n", "redis://user:secret\n@a", "redis://user:secret@a,a",
    ],
)  # fmt: skip
def test_no_error_repeats_a_password(text: str) -> None:
    with pytest.raises(ConfigError) as raised:
        parse_cluster(text)
    for part in ("secret", "se/cret", "cret", "secr@et"):
        assert part not in str(raised.value)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "names no registry"),
        ("tcp://a:1", "names no registry"),
        ("etcd:7000", "names no registry"),
        ("static:7000", "names no registry"),
        ("etcd:a", "names no registry"),
        ("etcd+ssl://a", "names no registry"),
        ("etcd://", "'' is no host"),
        ("etcd://a,,b", "'' is no host"),
        ("etcd://a b", "'a b' is no host"),
        ("etcd://::1", "':' is no host"),
        ("etcd://[::1", "is no host"),
        ("etcd://[:::::]", "is no host"),
        ("etcd://[1.2.3.4]", "is no host"),
        ("etcd://a:0", "port must be 1 to 65535, got '0'"),
        ("etcd://a:65536", "port"),
        ("etcd://a:-1", "port"),
        ("etcd://a:٣", "port"),
        ("etcd://a:", "port"),
        ("etcd://a:1,a:1", "a host stands there twice"),
        ("etcd://a,a:2379", "a host stands there twice"),
        ("etcd://a//Arith", "'' is no name"),
        ("etcd://a/../Arith", "'..' is no name"),
        ("etcd://a/x y/Arith", "'x y' is no name"),
        ("etcd://a/x%2Fy/Arith", "is no name"),
        ("etcd://a/-Arith", "service's name"),
        ("etcd://a/" + "x" * 129, "service's name"),
        ("etcd://a/" + "x/" * 9 + "Arith", "more than 8 names"),
        ("etcd://a/Ari\x00th", "character"),
        ("static:", "target"),
        ("static:tcp://a:1,tcp://a:1", "'tcp://a:1' stands there twice"),
        ("static:tcp://a:1,a:1", "'a:1' stands there twice"),
        ("static:tcp://a:0", "needs a port"),
        ("static:etcd://a", "of a registry"),
        ("static+tls:tcp://a:1", "no connections to encrypt"),
        ("file://etc/x.toml", "absolute path"),
        ("file:///etc/x.yaml", "absolute path"),
        ("file:///x.toml#a/b", "service's name"),
        ("file+tls:///x.toml", "no connections to encrypt"),
        ("dns://a", "a port must follow"),
        ("dns://a:0", "a port must follow"),
        ("dns://a:1,b:1", "is no host"),
        ("dns://a:1/Arith", "port must be"),
        ("dns://_arith._tcp.a:1", "has its ports in its records"),
    ],
)
def test_what_is_wrong_is_named(text: str, why: str) -> None:
    with pytest.raises(ConfigError) as raised:
        parse_cluster(text)
    assert why in str(raised.value)


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (HOSTS_MAX, lambda n: "etcd://" + ",".join(f"h{each}" for each in range(n))),
        (TARGETS_MAX, lambda n: "static:" + ",".join(f"unix:///{each}" for each in range(n))),
    ],
)
def test_limits(count: int, text: object) -> None:
    assert callable(text)
    parse_cluster(text(count))
    with pytest.raises(ConfigError, match=f"more than {count}") as raised:
        parse_cluster(text(count + 1))
    assert len(str(raised.value)) < 400


@pytest.mark.parametrize("thing", [None, 7, b"etcd://a", ["etcd://a"]])
def test_only_text_is_a_cluster(thing: object) -> None:
    assert not is_cluster(thing)
    with pytest.raises(ConfigError):
        parse_cluster(thing)  # type: ignore[arg-type]


@given(
    st.sampled_from(["etcd", "redis+tls", "registry", "static", "dns", "file", ""]),
    st.sampled_from(["://", ":", ""]),
    st.text(st.characters(max_codepoint=0x2FF), max_size=30)
    | st.text("a1:/@,[]._#%-", max_size=30),
)
def test_any_text_is_read_back_or_refused(scheme: str, mark: str, rest: str) -> None:
    try:
        target = parse_cluster(scheme + mark + rest)
    except ConfigError:
        return
    again = parse_cluster(str(target))
    assert again == ClusterTarget(
        **{
            name: getattr(target, name) if name != "password" else ""
            for name in ClusterTarget.__slots__
        }
    )
