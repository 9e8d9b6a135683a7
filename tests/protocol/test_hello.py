"""Check the HELLO pair: golden bytes, every key's rule, negotiation."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastrpc.errors import ConfigError, ProtocolError
from fastrpc.protocol.hello import (
    MAX_AGENT,
    MAX_AUTH,
    MAX_FEATURES,
    MAX_MESSAGE,
    MAX_NONCE,
    MAX_VERSIONS,
    MAX_ZIPS,
    MILLISECONDS_MAX,
    Option,
    Refusal,
    confirm,
    decode_option,
    decode_refusal,
    encode_option,
    encode_refusal,
    negotiate,
)
from fastrpc.wire import BODY_MAX, CREDIT_MAX, MAGIC, Limits

VECTORS = Path(__file__).parents[1] / "vectors" / "golden.json"
GOOD = {entry["name"]: entry for entry in json.loads(VECTORS.read_text())["good"]}
ASKED = bytes.fromhex(GOOD["hello_client"]["fields"]["payload"])
ANSWERED = bytes.fromhex(GOOD["hello_server"]["fields"]["payload"])
GOLDEN = Option(agent="fastrpc/0.1", features=("seg",), zips=("zlib",))

FULL = Option(
    versions=(2, 1),
    codecs={"raw": 0, "msgpack": 1, "json": 2, "pickle": 3, "avro": 16},
    zips=("zstd", "zlib"),
    features=("seg", "crc32c"),
    max_body=1000,
    max_calls=0,
    methods=0,
    window=1,
    ping_ms=0,
    handle_ms=60_000,
    agent="someone/1 ü",
    auth="s3cret",
    nonce="n0nce",
    instance="i-1",
)


def body(answer: bool = False, /, **keys: Any) -> bytes:
    """Write a HELLO body that is right but for *keys*."""
    versions = {"version": 1} if answer else {"versions": [1]}
    return json.dumps({"magic": MAGIC, **versions, **keys}).encode()


# Bytes.


def test_client_hello_is_the_golden_one() -> None:
    omitted = ("max_calls", "methods", "ping_ms")
    assert encode_option(GOLDEN, False, omit=omitted) == ASKED


def test_server_hello_is_the_golden_one() -> None:
    assert encode_option(negotiate(GOLDEN, GOLDEN), True) == ANSWERED


def test_golden_hellos_are_read() -> None:
    assert decode_option(ASKED, False) == GOLDEN
    assert decode_option(ANSWERED, True) == GOLDEN


def test_left_out_keys_mean_the_defaults_of_the_wire() -> None:
    limits = Limits()
    told = decode_option(body(), False)
    assert told == Option()
    assert told.codecs == {"raw": 0, "msgpack": 1, "json": 2}
    assert (told.max_body, told.max_calls) == (limits.max_body, limits.max_calls)
    assert (told.methods, told.window) == (limits.max_methods, limits.window)
    assert told.ping_ms == limits.ping_interval * 1000
    assert (told.zips, told.features, told.handle_ms) == ((), (), 0)
    assert (told.agent, told.auth, told.nonce, told.instance) == ("", "", "", "")


def test_every_field_survives_the_trip() -> None:
    assert decode_option(encode_option(FULL, False), False) == FULL
    answer = replace(FULL, versions=(2,), zips=("zlib",))
    assert decode_option(encode_option(answer, True), True) == answer


def test_text_is_written_as_ascii_and_utf8_is_read() -> None:
    assert encode_option(FULL, False).isascii()
    assert decode_option('{"magic":64087,"versions":[1],"agent":"ü"}'.encode(), False).agent == "ü"


def test_version_and_zip_name_the_choice() -> None:
    assert (FULL.version, FULL.zip) == (2, "zstd")
    assert (Option().version, Option().zip) == (1, None)


@pytest.mark.parametrize("option", [FULL, replace(FULL, versions=(1,))])
def test_an_answer_with_several_choices_is_not_written(option: Option) -> None:
    with pytest.raises(ConfigError, match="one version and at most one compression"):
        encode_option(option, True)


def test_a_hello_over_the_limit_is_not_written() -> None:
    with pytest.raises(ConfigError, match="16384 allowed"):
        encode_option(Option(auth="é" * MAX_AUTH), False)


def test_a_hello_at_the_limit_is_read_and_one_past_it_refused() -> None:
    short = len(body(x=""))
    assert decode_option(body(x="x" * (16_384 - short)), False) == Option()
    with pytest.raises(ProtocolError, match="16385 bytes"):
        decode_option(body(x="x" * (16_385 - short)), False)
    with pytest.raises(ProtocolError, match="allowed"):
        decode_option(ASKED, False, max_hello=len(ASKED) - 1)


def test_secrets_are_not_shown() -> None:
    assert "s3cret" not in repr(FULL)
    with pytest.raises(ProtocolError) as caught:
        decode_option(body(auth="s3cret\n"), False)
    assert "s3cret" not in str(caught.value)


def test_option_keeps_its_own_copies() -> None:
    codecs = {"raw": 0}
    option = Option(codecs=codecs, zips=["zlib"])  # type: ignore[arg-type]
    codecs["msgpack"] = 1
    assert (option.codecs, option.zips) == ({"raw": 0}, ("zlib",))


# Keys: what is right, what is wrong. One list serves reading and writing.

NUMBERS = ("max_body", "max_calls", "methods", "window", "ping_ms", "handle_ms")
TEXTS = ("agent", "auth", "nonce", "instance")
NAMES: list[object] = ["zlib"]
RIGHT: list[tuple[str, object]] = [
    ("versions", [1]),
    ("versions", [255, 1]),
    ("versions", list(range(1, MAX_VERSIONS + 1))),
    ("codecs", {"msgpack": 1}),
    ("codecs", {"raw": 0, "later": 7, "reserved": 15, "own": 16, "last": 31}),
    ("codecs", {f"c{n}": n for n in range(7, 32)}),
    ("zips", []),
    ("zips", NAMES * MAX_ZIPS),
    ("zips", ["a" * 32]),
    ("features", []),
    ("features", NAMES * MAX_FEATURES),
    ("max_body", 1),
    ("max_body", BODY_MAX),
    ("max_calls", 0),
    ("max_calls", CREDIT_MAX),
    ("methods", 0),
    ("methods", 65_535),
    ("window", 1),
    ("window", CREDIT_MAX),
    ("ping_ms", 0),
    ("ping_ms", MILLISECONDS_MAX),
    ("handle_ms", 0),
    ("handle_ms", MILLISECONDS_MAX),
    ("agent", ""),
    ("agent", "a" * MAX_AGENT),
    ("auth", "a" * MAX_AUTH),
    ("nonce", "a" * MAX_NONCE),
    ("instance", "a" * MAX_NONCE),
]

WRONG_TYPES: dict[str, list[object]] = {
    "versions": [None, True, 1, 1.0, "1", {}, [1.0], ["1"], [None], [True], [[1]]],
    "codecs": [None, True, 1, 1.5, "raw", [], ["raw"], {"raw": "0"}, {"raw": False}],
    "zips": [None, True, 1, 1.5, "zlib", {}, [1], [None], [["zlib"]]],
    "features": [None, True, 1, 1.5, "seg", {}, [1], [None]],
    **{key: [None, True, 1.0, "1", [], {}] for key in NUMBERS},
    **{key: [None, True, 1, 1.5, [], {}] for key in TEXTS},
}
WRONG_TYPE = [(key, value) for key, values in WRONG_TYPES.items() for value in values]

OUT_OF_RANGE: list[tuple[str, object]] = [
    ("versions", []),
    ("versions", [0]),
    ("versions", [-1]),
    ("versions", [256]),
    ("versions", [1] * (MAX_VERSIONS + 1)),
    ("codecs", {}),
    ("codecs", {"own": 32}),
    ("codecs", {"own": -1}),
    ("codecs", {"": 16}),
    ("codecs", {"a b": 16}),
    ("codecs", {"raw": 1}),
    ("codecs", {"own": 1}),
    ("codecs", {"msgpack": 16}),
    ("codecs", {"one": 16, "two": 16}),
    ("codecs", {f"c{n}": n for n in range(33)}),
    ("zips", ["zlib"] * (MAX_ZIPS + 1)),
    ("zips", [""]),
    ("zips", ["a" * 33]),
    ("zips", ["z\n"]),
    ("features", ["seg"] * (MAX_FEATURES + 1)),
    ("features", ["-seg"]),
    ("features", ["ünder"]),
    ("max_body", 0),
    ("max_body", BODY_MAX + 1),
    ("max_calls", -1),
    ("max_calls", CREDIT_MAX + 1),
    ("methods", -1),
    ("methods", 65_536),
    ("window", 0),
    ("window", CREDIT_MAX + 1),
    ("ping_ms", -1),
    ("ping_ms", MILLISECONDS_MAX + 1),
    ("handle_ms", -1),
    ("handle_ms", 10**30),
    ("agent", "a" * (MAX_AGENT + 1)),
    ("agent", "two\nlines"),
    ("auth", "a" * (MAX_AUTH + 1)),
    ("auth", "\x00"),
    ("nonce", "a" * (MAX_NONCE + 1)),
    ("nonce", "\ud800"),
    ("instance", "a" * (MAX_NONCE + 1)),
    ("instance", "\x7f"),
]


@pytest.mark.parametrize(("key", "value"), RIGHT)
def test_right_values_are_taken_from_the_peer_and_from_us(key: str, value: object) -> None:
    told = decode_option(body(**{key: value}), False)
    assert told == Option(**{key: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(("key", "value"), WRONG_TYPE + OUT_OF_RANGE)
def test_wrong_values_of_the_peer_are_refused_by_key(key: str, value: object) -> None:
    with pytest.raises(ProtocolError, match=f"^HELLO: {key} (must|has|gives)") as caught:
        decode_option(body(**{key: value}), False)
    assert caught.value.status == 70
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(("key", "value"), WRONG_TYPE + OUT_OF_RANGE)
def test_wrong_values_of_ours_are_refused_by_key(key: str, value: object) -> None:
    with pytest.raises(ConfigError, match=f"^hello option {key} (must|has|gives)"):
        Option(**{key: value})  # type: ignore[arg-type]


def test_values_that_json_does_not_have_are_refused() -> None:
    with pytest.raises(ConfigError, match="something else"):
        Option(agent=b"bytes")  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [None, True, 1.0, "1", [1], {}, 0, 256])
def test_the_chosen_version_of_an_answer_is_checked(value: object) -> None:
    with pytest.raises(ProtocolError, match=r"^HELLO: version must"):
        decode_option(body(True, version=value), True)


@pytest.mark.parametrize("value", [None, True, 1, ["zlib"], {}, "", "a b"])
def test_the_chosen_zip_of_an_answer_is_checked(value: object) -> None:
    with pytest.raises(ProtocolError, match=r"^HELLO: zip must"):
        decode_option(body(True, zip=value), True)


@pytest.mark.parametrize("magic", [None, True, 64087.0, "64087", 0xCAF6, [], {}])
def test_a_wrong_magic_is_refused(magic: object) -> None:
    with pytest.raises(ProtocolError, match="magic must be 64087"):
        decode_option(body(magic=magic), False)


def test_missing_magic_and_versions_are_refused() -> None:
    with pytest.raises(ProtocolError, match="magic must be 64087"):
        decode_option(b'{"versions":[1]}', False)
    with pytest.raises(ProtocolError, match="versions is missing"):
        decode_option(b'{"magic":64087,"version":1}', False)
    with pytest.raises(ProtocolError, match="version is missing"):
        decode_option(b'{"magic":64087,"versions":[1]}', True)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff\xfe{\x00}\x00", "not JSON"),
        (b"\xef\xbb\xbf{}", "not JSON"),
        ("{}".encode("utf-16"), "not JSON"),
        (b'{"magic":64087,"versions":[1],"x":NaN}', "not JSON"),
        (b'{"magic":64087,"versions":[1],"x":-Infinity}', "not JSON"),
        (b'{"magic":64087,"versions":[1],"max_body":' + b"9" * 5000 + b"}", "not JSON"),
        (b'{"magic":64087,"versions":[1]}x', "not JSON"),
        (b"[]", "must be an object, not a list"),
        (b"null", "must be an object, not null"),
        (b'"x"', "must be an object, not text"),
        (b"1.5", "must be an object, not a fraction"),
        (b'{"magic":64087,"magic":64087,"versions":[1]}', "a key appears twice"),
        (b'{"magic":64087,"versions":[1],"x":{"a":1,"a":2}}', "a key appears twice"),
    ],
)
def test_bodies_that_are_no_json_object_are_refused(data: bytes, words: str) -> None:
    with pytest.raises(ProtocolError, match=words):
        decode_option(data, False)


def outcome(data: bytes) -> Option | str:
    """Read *data*: the option, or the words of the refusal."""
    try:
        return decode_option(data, False)
    except ProtocolError as exc:
        return str(exc)


def nested(depth: int) -> bytes:
    """Write a HELLO whose value "x" makes it *depth* deep, counting the outermost object."""
    return b'{"magic":64087,"versions":[1],"x":' + b"[" * (depth - 1) + b"]" * (depth - 1) + b"}"


def test_nesting_at_the_limit_and_one_past_it() -> None:
    assert outcome(nested(64)) == Option()
    assert outcome(nested(65)) == "HELLO: body is nested deeper than 64"
    assert outcome(nested(8000)) == "HELLO: body is nested deeper than 64"
    assert outcome(b"[" * 16_384) == "HELLO: body is nested deeper than 64"


@pytest.mark.parametrize("text", ["[" * 500, '\\"[{' * 100, "\\", '"' * 10 + "[" * 65])
def test_brackets_in_texts_do_not_nest(text: str) -> None:
    assert outcome(body(x=text, y="{" * 70)) == Option()


def test_brackets_side_by_side_do_not_nest() -> None:
    assert outcome(body(x=[[]] * 500)) == Option()


leaves: st.SearchStrategy[object] = st.sampled_from(
    [None, True, 0, -1, 10**30, 1.5, "", "\ud800", [], {}, [[[]]], {"": {}}]
)
json_values = leaves | st.lists(leaves, max_size=3)
KNOWN = (
    set(json.loads(ASKED)) | set(json.loads(ANSWERED)) | {"handle_ms", "auth", "nonce", "instance"}
)
unknown = st.dictionaries(
    st.text(max_size=12).filter(lambda k: k not in KNOWN), json_values, max_size=3
)


@given(extra=unknown, answer=st.booleans())
def test_unknown_keys_are_ignored(extra: dict[str, Any], answer: bool) -> None:
    told = decode_option(encode_option(GOLDEN, answer, extra=extra), answer)
    assert told == GOLDEN


@given(extra=st.dictionaries(st.sampled_from(sorted(KNOWN)), json_values, max_size=3))
def test_extra_keys_never_replace_known_ones_that_are_said(extra: dict[str, Any]) -> None:
    shadowed = set(json.loads(encode_option(FULL, False)))
    kept = {key: value for key, value in extra.items() if key in shadowed}
    assert decode_option(encode_option(FULL, False, extra=kept), False) == FULL


@given(data=st.binary(max_size=200), answer=st.booleans())
def test_random_bytes_are_refused_in_words(data: bytes, answer: bool) -> None:
    with pytest.raises(ProtocolError, match=r"^HELLO: "):
        decode_option(data, answer)


@given(at=st.integers(0, len(ASKED) - 1), to=st.integers(0, 255))
def test_a_changed_byte_is_read_or_refused_but_never_breaks(at: int, to: int) -> None:
    data = bytearray(ASKED)
    data[at] = to
    told = outcome(bytes(data))
    assert isinstance(told, Option) or told.startswith("HELLO: ")


# Refusals.


def test_a_refusal_survives_the_trip() -> None:
    assert decode_refusal(encode_refusal("draining", 250)) == Refusal(
        message="draining", retry_ms=250
    )
    assert decode_refusal(encode_refusal("no")) == Refusal(message="no")
    assert encode_refusal("no") == b'{"magic":64087,"message":"no"}'


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"[]", b'{"message":1,"retry_ms":"x"}', b'{"message":null,"retry_ms":true}', b"{}"],
)
def test_a_refusal_that_cannot_be_read_says_nothing(data: bytes) -> None:
    assert decode_refusal(data) == Refusal()


def test_a_refusal_is_fit_for_a_log() -> None:
    wild = json.dumps({"message": "a\nb" + "x" * 9000, "retry_ms": -5}).encode()
    told = decode_refusal(wild)
    assert told.message == "a b" + "x" * (MAX_MESSAGE - 3)
    assert told.retry_ms == 0
    assert decode_refusal(b'{"retry_ms":99999999999}').retry_ms == MILLISECONDS_MAX
    assert decode_refusal(encode_refusal("x\r\n" * 9000)).message.isprintable()


# Negotiation.


def test_the_highest_common_version_and_the_clients_best_zip_win() -> None:
    client = replace(FULL, versions=(1, 3, 2), zips=("br", "zstd", "zlib"))
    server = replace(FULL, versions=(4, 2, 1), zips=("zlib", "zstd"))
    answer = negotiate(client, server)
    assert (answer.versions, answer.zips) == ((2,), ("zstd",))
    assert negotiate(replace(client, zips=("br",)), server).zips == ()
    assert negotiate(client, replace(server, zips=())).zip is None


def test_codecs_are_common_if_name_and_number_agree() -> None:
    client = Option(codecs={"raw": 0, "msgpack": 1, "pickle": 3, "own": 16, "other": 17})
    server = Option(codecs={"msgpack": 1, "json": 2, "own": 17, "other": 18})
    assert negotiate(client, server).codecs == {"msgpack": 1}


def test_pickle_is_common_only_if_both_turned_it_on() -> None:
    on = Option(codecs={"msgpack": 1, "pickle": 3})
    assert "pickle" in negotiate(on, on).codecs
    assert "pickle" not in negotiate(on, Option()).codecs
    assert "pickle" not in negotiate(Option(), on).codecs


def test_the_answer_has_the_servers_limits_and_the_clients_nonce() -> None:
    server = Option(
        max_body=1000, max_calls=7, agent="srv/1", instance="i-9", features=("a", "seg")
    )
    answer = negotiate(FULL, server)
    assert (answer.max_body, answer.max_calls, answer.agent) == (1000, 7, "srv/1")
    assert (answer.nonce, answer.instance, answer.features) == ("n0nce", "i-9", ("seg",))
    assert answer.auth == ""


@pytest.mark.parametrize(
    ("client", "words"),
    [
        (Option(versions=(2, 3)), "no common wire version: the client speaks 2, 3, the server 1"),
        (
            Option(codecs={"own": 16}),
            "no common codec: the client has own, the server json, msgpack, raw",
        ),
    ],
)
def test_nothing_in_common_is_refused_with_status_47(client: Option, words: str) -> None:
    with pytest.raises(ProtocolError, match=words) as caught:
        negotiate(client, Option())
    assert caught.value.status == 47


def test_a_client_confirms_an_answer_to_its_own_question() -> None:
    server = Option(codecs={"raw": 0, "msgpack": 1, "own": 16}, max_body=99, features=("seg", "x"))
    answer = replace(server, nonce=FULL.nonce)
    agreed = confirm(FULL, answer)
    assert (agreed.codecs, agreed.features, agreed.max_body) == (
        {"raw": 0, "msgpack": 1},
        ("seg",),
        99,
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"nonce": "another"}, "nonce is not the one sent"),
        ({"nonce": ""}, "nonce is not the one sent"),
        ({"versions": (3,)}, "version was not asked for"),
        ({"zips": ("br",)}, "zip was not asked for"),
        ({"codecs": {"avro": 17}}, "codecs has none that was asked for"),
    ],
)
def test_a_client_refuses_an_answer_to_another_question(change: dict[str, Any], words: str) -> None:
    answer = negotiate(FULL, FULL)
    assert confirm(FULL, answer) == answer
    with pytest.raises(ProtocolError, match=words):
        confirm(FULL, replace(answer, **change))


names = st.sampled_from(["raw", "msgpack", "json", "pickle", "cbor"])
FIXED = {"raw": 0, "msgpack": 1, "json": 2, "pickle": 3, "cbor": 5}
options: st.SearchStrategy[Option] = st.builds(
    Option,
    versions=st.lists(st.integers(1, 4), min_size=1, max_size=4).map(tuple),
    codecs=st.sets(names, min_size=1).map(lambda chosen: {name: FIXED[name] for name in chosen}),
    zips=st.lists(st.sampled_from(["zlib", "zstd", "br"]), max_size=3).map(tuple),
    features=st.lists(st.sampled_from(["seg", "frag"]), max_size=2).map(tuple),
    nonce=st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=8),
)


@given(client=options, server=options)
def test_whatever_a_server_answers_its_client_confirms(client: Option, server: Option) -> None:
    codecs = set(client.codecs) & set(server.codecs)
    if not codecs or not set(client.versions) & set(server.versions):
        with pytest.raises(ProtocolError, match="no common"):
            negotiate(client, server)
        return
    answer = negotiate(client, server)
    heard = decode_option(encode_option(answer, True), True)
    assert confirm(client, heard) == answer
