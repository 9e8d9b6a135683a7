"""XML carries every type, and hostile documents are refused before they are parsed."""

import datetime as dt
from typing import Any

import pytest

from fastrpc.codec import fast, limited, plain, xml
from fastrpc.codec.xml import XmlCodec
from fastrpc.errors import CodecError
from fastrpc.testing.codec import CODEC_CHECKS, check_codec
from tests.codec.hostile import refusal, survives
from tests.codec.samples import ROUND_TRIPS, STRUCTS, Point

codec = XmlCodec()


@pytest.fixture(params=[fast, plain], ids=["msgspec", "plain"])
def either(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> XmlCodec:
    """The codec over each of the engines under it."""
    monkeypatch.setattr(limited, "Described", request.param.Described)
    monkeypatch.setattr(xml, "built_in", request.param.built_in)
    return XmlCodec()


LONG = [pytest.param(c, marks=pytest.mark.slow) if c == "damaged" else c for c in CODEC_CHECKS]


@pytest.mark.parametrize("check", LONG)
def test_conforms(either: XmlCodec, check: str) -> None:
    check_codec(either, ROUND_TRIPS, only=check)


@pytest.mark.parametrize("check", ["round trip", "arguments"])
def test_structs(check: str) -> None:
    check_codec(codec, STRUCTS, only=check)


FORMS: list[tuple[Any, str]] = [
    (None, '<value t="null"/>'),
    (True, '<value t="bool">true</value>'),
    (-5, '<value t="int">-5</value>'),
    (1.5, '<value t="float">1.5</value>'),
    (float("-inf"), '<value t="float">-INF</value>'),
    ("", "<value></value>"),
    ("a<&>\"'\r\n", "<value>a&lt;&amp;&gt;&quot;'&#13;\n</value>"),
    ("\x00", '<value t="text64">AA==</value>'),
    (b"\x00\xff", '<value t="bytes">AP8=</value>'),
    ([1, "a"], '<value t="list"><item t="int">1</item><item>a</item></value>'),
    ([], '<value t="list"></value>'),
    ({"a-b.c": "x"}, '<value t="map"><a-b.c>x</a-b.c></value>'),
    ({"entry": 1}, '<value t="map"><entry key="entry" t="int">1</entry></value>'),
    ({"a b\n": None}, '<value t="map"><entry key="a b&#10;" t="null"/></value>'),
    ({"xml1": ""}, '<value t="map"><entry key="xml1"></entry></value>'),
    ({"\x01": ""}, '<value t="map"><entry key="AQ==" k="text64"></entry></value>'),
    ({1: "a"}, '<value t="map"><entry key="1" k="int">a</entry></value>'),
    ({None: True}, '<value t="map"><entry key="" k="null" t="bool">true</entry></value>'),
]


@pytest.mark.parametrize(("value", "text"), FORMS)
def test_forms(value: Any, text: str) -> None:
    assert codec.encode(value).decode() == text
    assert codec.decode(text.encode()) == value


def test_records() -> None:
    text = '<value t="map"><x t="int">1</x><y t="int">2</y></value>'
    assert codec.encode(Point(1)).decode() == text
    assert codec.encode(dt.date(2026, 1, 2)).decode() == "<value>2026-01-02</value>"


def test_what_people_write_is_read() -> None:
    text = """<?xml version="1.0" encoding="UTF-8"?>
    <anything t='map'>
      <x t='int'>1</x>
      <name>&#x61;&apos;</name>
      <list t='list'>
        <item/><whatever t='null'></whatever>
      </list>
    </anything>
    """
    assert codec.decode(text.strip().encode()) == {"x": 1, "name": "a'", "list": ["", None]}


def test_other_encodings_are_not_taken() -> None:
    text = '<?xml version="1.0" encoding="latin-1"?><value>\xe9</value>'
    assert codec.decode(text.encode()) == "\xe9"
    for encoding in ("latin-1", "utf-16", "utf-16-le", "utf-16-be", "utf-32"):
        data = text.replace("latin-1", encoding).encode(encoding)
        assert "XML is" in refusal(codec.decode, data)
    assert "in UTF-8 without NUL" in refusal(codec.decode, LAUGHS.decode().encode("utf-16"))


def test_what_can_not_be_sent() -> None:
    for value, text in ((2**2000, "more than 512 digits"), ({(1, 2): 3}, "keys of type tuple")):
        with pytest.raises(CodecError, match=text):
            codec.encode(value)
    with pytest.raises(UnicodeEncodeError):
        codec.encode("\ud800")


@pytest.mark.slow
def test_damage_is_an_error_or_another_value() -> None:
    sample = {"name": "ada", "tags": [1, -2.5, None, True, b"\x00\xff"], 5: [[{"x": "\x00"}]]}
    data = codec.encode(sample)
    assert survives(codec.decode, data) > len(data)
    assert survives(codec.decoder(dict[int | str, Any]), data) > len(data)


LAUGHS = b"""<?xml version="1.0"?><!DOCTYPE value [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;">
<!ENTITY c "&b;&b;&b;&b;&b;&b;">]><value>&c;</value>"""
NOT_TAKEN = "XML with a DOCTYPE, a comment, CDATA or an instruction is not taken"
HOSTILE: list[tuple[str, bytes, str]] = [
    ("billion laughs", LAUGHS, NOT_TAKEN),
    ("file", b'<!DOCTYPE v [<!ENTITY x SYSTEM "file:///etc/hosts">]><v>&x;</v>', NOT_TAKEN),
    ("outer DTD", b'<!DOCTYPE v SYSTEM "http://example.org/v.dtd"><v/>', NOT_TAKEN),
    ("bare DOCTYPE", b"<!DOCTYPE v><v/>", NOT_TAKEN),
    ("comment", b"<v><!-- x --></v>", NOT_TAKEN),
    ("CDATA", b"<v><![CDATA[x]]></v>", NOT_TAKEN),
    ("instruction", b"<v><?php x ?></v>", NOT_TAKEN),
    ("entity of nobody", b"<v>&x;</v>", "XML is malformed at line 1"),
    ("nothing", b"", "XML is malformed"),
    ("no XML", b"5", "XML is malformed"),
    ("cut off", b"<v>", "XML is malformed"),
    ("two roots", b"<v/><v/>", "XML is malformed"),
    ("deep", b'<v t="list">' * 9_000, "XML is nested deeper than 64"),
    ("deep in text", b"<v>" * 1000, "an element is inside a single value"),
    ("many", b'<v t="list">' + b"<i/>" * 1_000_000 + b"</v>", "XML has more than 10000 items"),
    (
        "attributes",
        b"<v " + b" ".join(b'a%d=""' % i for i in range(100_000)) + b"/>",
        "three attributes",
    ),
    ("one attribute more", b'<v t="" key="" k="" x=""/>', "three attributes"),
    ("another attribute", b'<v x=""/>', "an attribute is not known"),
    ("one key twice", b'<v t="map"><a/><a/></v>', "a key comes twice"),
    (
        "1 and 1.0",
        b'<v t="map"><e key="1" k="int"/><e key="1.0" k="float"/></v>',
        "a key comes twice",
    ),
    ("long int", b'<v t="int">' + b"9" * 513 + b"</v>", "no number of up to 512 digits"),
    (
        "long int as key",
        b'<v t="map"><e key="99999999999999999999" k="int"/></v>',
        "more than 64 bits",
    ),
    ("list as key", b'<v t="map"><e key="" k="list"/></v>', "a key is of a kind that is not known"),
    ("another kind", b'<v t="date"/>', "an element is of a kind that is not known"),
    ("no int", b'<v t="int"> 1</v>', "an int is no number"),
    ("other digits", '<v t="int">\u0661</v>'.encode(), "an int is no number"),
    ("no bool", b'<v t="bool">True</v>', "a bool is neither true nor false"),
    ("no float", b'<v t="float">nan</v>', "a float is no number"),
    ("huge float", b'<v t="float">1e999</v>', "a float is out of range"),
    ("null of text", b'<v t="null">x</v>', "null has text"),
    ("no base64", b'<v t="bytes">AA</v>', "bytes are no base64"),
    ("no UTF-8", b'<v t="text64">/w==</v>', "text is no UTF-8"),
    ("text in a list", b'<v t="list">x</v>', "text stands between elements"),
    ("NUL", b"<v>\x00</v>", "XML is not taken but in UTF-8"),
    ("NUL by number", b"<v>&#0;</v>", "XML is malformed"),
    ("long tag", b"<" + b"a" * 1_000_000, "XML is malformed"),
    ("open quote", b'<v t="' + b"a" * 1_000_000, "XML is malformed"),
    ("spaces", b"<v" + b" " * 1_000_000 + b"<", "XML is malformed"),
]


@pytest.mark.parametrize(
    ("data", "text"), [row[1:] for row in HOSTILE], ids=[r[0] for r in HOSTILE]
)
def test_hostile_documents_are_refused(data: bytes, text: str) -> None:
    assert text in refusal(XmlCodec(max_items=10_000).decode, data)


def test_limits_are_exact() -> None:
    small = XmlCodec(max_depth=2, max_items=3)
    assert small.decode(small.encode([[1, 2]])) == [[1, 2]]
    assert small.decode(b'<?xml version="1.0"?>' + small.encode([1, 2, 3])) == [1, 2, 3]
    assert "max_depth" in refusal(small.decode, small.encode([[[]]]))
    assert "max_items" in refusal(small.decode, small.encode([1, 2, 3, 4]))
    assert "max_items" in refusal(small.decode, small.encode({"a": 1, "b": 2}))


def test_colliding_integers_in_a_set_are_refused() -> None:
    same = codec.encode([(2**61 - 1) * step for step in range(1, 2000)])
    assert "same hash" in refusal(codec.decoder(set[int]), same, times=40)
