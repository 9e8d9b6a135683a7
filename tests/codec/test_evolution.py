"""Old writers and new readers understand each other, and the other way round.

A field is added, one removed, one renamed, one widened: for each codec, in both directions.
What a format can't do is here as well, with what happens instead.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any

import msgspec
import pyarrow as pa
import pytest

from fastrpc.codec import JsonCodec, MsgpackCodec, plain
from fastrpc.codec.arrow import ArrowCodec
from fastrpc.codec.avro import AvroCodec
from fastrpc.codec.cbor import CborCodec
from fastrpc.codec.protobuf import ProtobufCodec
from fastrpc.codec.thrift import ThriftCodec
from fastrpc.codec.xml import XmlCodec
from fastrpc.errors import CodecError
from tests.codec.hostile import refusal
from tests.codec.protos import load
from tests.codec.test_thrift import people as thrifts

protos: Any = load("people")


@dataclass
class UserOld:
    """Yesterday's: `phone` is gone today."""

    id: int
    name: str = ""
    phone: str = ""
    score: int = 0


@dataclass
class UserNew:
    """Today's: `tags` is new, `name` is called `full_name`, `score` is a float."""

    id: int
    full_name: str = ""
    score: float = 0.0
    tags: list[str] = field(default_factory=list)


class AliasNew(msgspec.Struct, rename={"full_name": "name"}):
    """Today's, with an alias: `full_name` still travels as `name`."""

    id: int
    full_name: str = ""
    score: float = 0.0
    tags: list[str] = []


OLD = UserOld(1, "ada", "555", 7)
NEW = UserNew(1, "ada l.", 7.0, ["x"])

DESCRIBING: dict[str, Any] = {
    "msgpack": MsgpackCodec(),
    "json": JsonCodec(),
    "cbor": CborCodec(),
    "xml": XmlCodec(),
    "msgpack, plain": plain.MsgpackCodec(),
    "json, plain": plain.JsonCodec(),
}
Through = Callable[[Any, Any, Any], Any]


def through(codec: Any, wanted: Any, value: Any) -> Any:
    """Return *value* as the other side reads it, as a result and as an argument."""
    read = codec.decoder(wanted)(codec.encode(value))
    (argument,) = codec.arguments([wanted], 1, None)(codec.encode((value,)))
    assert argument == read
    return read


@pytest.mark.parametrize("name", DESCRIBING)
class TestSelfDescribing:
    """msgpack, JSON, CBOR, XML: fields go by name, annotations say the rest."""

    def test_old_writer_new_reader(self, name: str) -> None:
        # Added: its default. Removed: ignored. Renamed: removed and added. Widened: read.
        read = through(DESCRIBING[name], UserNew, OLD)
        assert read == UserNew(1, "", 7.0, [])
        assert type(read.score) is float

    def test_new_writer_old_reader(self, name: str) -> None:
        codec = DESCRIBING[name]
        with pytest.raises(CodecError, match="field 'score': expected int, got float"):
            codec.convert(codec.decode(codec.encode(NEW)), UserOld)
        with pytest.raises(Exception, match="int"):
            codec.decoder(UserOld)(codec.encode(NEW))
        with pytest.raises(Exception, match="int"):
            codec.arguments([UserOld], 1, None)(codec.encode((NEW,)))

    def test_a_new_writer_that_kept_the_int(self, name: str) -> None:
        @dataclass
        class Kept:
            id: int
            full_name: str
            score: int
            tags: list[str]

        read = through(DESCRIBING[name], UserOld, Kept(1, "ada l.", 7, ["x"]))
        assert read == UserOld(1, "", "", 7)

    def test_a_renamed_field_with_an_alias(self, name: str) -> None:
        if name.endswith("plain"):
            read = DESCRIBING[name].decoder(AliasNew)(DESCRIBING[name].encode(OLD))
            assert read == AliasNew(1, "ada", 7.0)  # it reads Structs, and writes none
            return
        assert through(DESCRIBING[name], AliasNew, OLD) == AliasNew(1, "ada", 7.0)
        kept = {"id": 1, "name": "ada l.", "score": 7}
        assert through(DESCRIBING[name], UserOld, kept) == UserOld(1, "ada l.", "", 7)
        assert b"full_name" not in DESCRIBING[name].encode(AliasNew(1, "ada"))

    def test_a_new_field_without_a_default_breaks_old_writers(self, name: str) -> None:
        @dataclass
        class Demanding:
            id: int
            email: str

        codec = DESCRIBING[name]
        with pytest.raises(CodecError, match="field 'email' is missing"):
            codec.convert(codec.decode(codec.encode(OLD)), Demanding)


class TestAvro:
    """The reader knows the writer's schema by its fingerprint."""

    def test_old_writer_new_reader(self) -> None:
        codec = AvroCodec(writers=[UserOld])
        assert through_two(AvroCodec(), codec, UserNew, OLD) == UserNew(1, "", 7.0, [])

    def test_new_writer_old_reader(self) -> None:
        codec = AvroCodec(writers=[AvroCodec().schema(UserNew)])
        data = AvroCodec().encode(NEW)
        text = refusal(codec.decoder(UserOld), data, times=400)
        assert text == "Mismatch: field 'score': expected int, got float"

    def test_a_new_writer_that_kept_the_int(self) -> None:
        @dataclass
        class Kept:
            id: int
            full_name: str
            score: int

        codec = AvroCodec(writers=[Kept])
        assert through_two(AvroCodec(), codec, UserOld, Kept(1, "a", 7)) == UserOld(1, "", "", 7)

    def test_a_schema_that_nobody_told(self) -> None:
        text = refusal(AvroCodec().decoder(UserNew), AvroCodec().encode(OLD), times=400)
        assert "a schema that is not known here" in text

    def test_a_renamed_field_with_an_alias(self) -> None:
        schema = {
            "type": "record",
            "name": "UserNew",
            "aliases": ["UserOld"],
            "fields": [
                {"name": "id", "type": "long"},
                {"name": "full_name", "aliases": ["name"], "type": "string"},
                {"name": "score", "type": "double"},
                {"name": "tags", "type": {"type": "array", "items": "string"}, "default": []},
            ],
        }
        codec = AvroCodec(schema, writers=[UserOld])
        assert through_two(AvroCodec(), codec, UserNew, OLD) == UserNew(1, "ada", 7.0, [])

    def test_a_schema_by_hand_that_does_not_resolve(self) -> None:
        schema = {
            "type": "record",
            "name": "UserNew",
            "aliases": ["UserOld"],
            "fields": [{"name": "email", "type": "string"}],
        }
        codec = AvroCodec(schema, writers=[UserOld])
        data = AvroCodec().encode(OLD)
        assert "can't be read as UserNew" in refusal(codec.decoder(UserNew), data, times=400)


def through_two(writer: Any, reader: Any, wanted: Any, value: Any) -> Any:
    read = reader.decoder(wanted)(writer.encode(value))
    (argument,) = reader.arguments([wanted], 1, None)(writer.encode((value,)))
    assert argument == read
    return read


class TestProtobuf:
    """Fields go by number: a name is free to change, and int32 widens to int64."""

    codec = ProtobufCodec()

    def test_old_writer_new_reader(self) -> None:
        old = protos.UserOld(id=1, name="ada", phone="555", score=-7)
        read = through(self.codec, protos.UserNew, old)
        assert (read.id, read.full_name, read.score, list(read.tags)) == (1, "ada", -7, [])

    def test_new_writer_old_reader(self) -> None:
        new = protos.UserNew(id=1, full_name="ada", score=-7, tags=["x"])
        read = through(self.codec, protos.UserOld, new)
        assert (read.id, read.name, read.phone, read.score) == (1, "ada", "", -7)

    def test_what_a_reader_does_not_know_is_passed_on(self) -> None:
        new = protos.UserNew(id=1, tags=["x"])
        through_old = through(self.codec, protos.UserOld, new)
        assert through(self.codec, protos.UserNew, through_old) == new

    def test_a_number_too_wide_for_an_old_reader_is_cut(self) -> None:
        # That is protobuf's own rule; widen only what stays small until all are new.
        read = through(self.codec, protos.UserOld, protos.UserNew(id=1, score=2**32 + 5))
        assert read.score == 5


class TestThrift:
    """Fields go by number; one whose type changed is taken as one that is not there."""

    codec = ThriftCodec()

    def test_old_writer_new_reader(self) -> None:
        old = thrifts.UserOld(id=1, name="ada", phone="555", score=7)
        read = through(self.codec, thrifts.UserNew, old)
        assert (read.id, read.full_name, read.score, read.tags) == (1, "ada", -1, [])

    def test_new_writer_old_reader(self) -> None:
        new = thrifts.UserNew(id=1, full_name="ada", score=7, tags=["x"])
        read = through(self.codec, thrifts.UserOld, new)
        assert (read.id, read.name, read.phone, read.score) == (1, "ada", None, None)


class TestArrow:
    """A table brings its schema; the annotation says which columns are wanted."""

    codec = ArrowCodec()
    old = pa.table(
        {"id": [1], "name": ["ada"], "phone": ["555"], "score": pa.array([7], pa.int32())}
    )
    new = pa.table({"id": [1], "full_name": ["ada"], "score": [7.5], "tags": [["x"]]})

    def test_old_writer_new_reader(self) -> None:
        read = through(self.codec, Annotated[pa.Table, self.new.schema], self.old)
        assert read.to_pylist() == [{"id": 1, "full_name": None, "score": 7.0, "tags": None}]
        wide = pa.schema([("score", pa.int64())])
        assert through(self.codec, Annotated[pa.Table, wide], self.old).to_pylist() == [
            {"score": 7}
        ]

    def test_new_writer_old_reader(self) -> None:
        read = self.codec.decoder(Annotated[pa.Table, self.old.schema])
        text = refusal(read, self.codec.encode(self.new))
        assert text == "Mismatch: column 'score': expected int32, got numbers out of its range"
        fits = self.new.set_column(2, "score", pa.array([7.0]))
        assert read(self.codec.encode(fits)).to_pylist() == [
            {"id": 1, "name": None, "phone": None, "score": 7}
        ]

    def test_without_a_schema_everything_arrives(self) -> None:
        assert through(self.codec, pa.Table, self.old) == self.old
