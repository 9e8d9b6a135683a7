"""Frame: a plain record that compares by value."""

from types import SimpleNamespace

import pytest

from tests.frame.twins import FIELDS


def test_fields_have_defaults(twin: SimpleNamespace) -> None:
    frame = twin.Frame()
    told = {field: getattr(frame, field) for field in FIELDS}
    assert told == {
        "kind": 0, "id": 0, "serializer": 0, "reply": False, "oneway": False, "heartbeat": False,
        "status": 0, "bits": 0, "arg": 0, "time": 0, "name": b"", "metadata": b"",
        "payload": b"", "buffers": [], "oversize": 0,
    }  # fmt: skip


def test_fields_are_what_was_given_and_can_be_set(twin: SimpleNamespace) -> None:
    given = {"serializer": 1, "reply": True, "status": 44, "payload": b"x", "buffers": (b"a", b"b")}
    frame = twin.Frame(3, 7, **given)
    assert (frame.kind, frame.id) == (3, 7)
    assert {field: getattr(frame, field) for field in given} == given | {"buffers": [b"a", b"b"]}
    for at, field in enumerate(FIELDS):
        setattr(frame, field, at)
    assert [getattr(frame, field) for field in FIELDS] == list(range(len(FIELDS)))


def test_buffers_are_a_list_of_its_own(twin: SimpleNamespace) -> None:
    given = [b"a"]
    frame = twin.Frame(buffers=given)
    frame.buffers.append(b"b")
    assert given == [b"a"]
    assert twin.Frame().buffers == []


def test_repr_tells_what_is_set_in_the_same_order(twin: SimpleNamespace) -> None:
    frame = twin.Frame(1, 2, reply=True, arg=5, payload=b"p", name=b"n", buffers=[b"x"])
    assert repr(frame) == (
        "Frame(arg=5, buffers=[b'x'], id=2, kind=1, name=b'n', payload=b'p', reply=True)"
    )
    assert repr(twin.Frame()) == "Frame()"


def test_frames_compare_by_value(twin: SimpleNamespace) -> None:
    frame = twin.Frame(1, 2, payload=b"x")
    assert frame == twin.Frame(1, 2, payload=b"x")
    for field in FIELDS:
        other = twin.Frame(1, 2, payload=b"x")
        setattr(other, field, 99)
        assert frame != other, field
    assert frame != "Frame"
    assert frame.__eq__("Frame") is NotImplemented


def test_frames_have_no_hash_for_they_can_change(twin: SimpleNamespace) -> None:
    with pytest.raises(TypeError, match="unhashable"):
        hash(twin.Frame())


def test_only_kind_and_id_go_by_position(twin: SimpleNamespace) -> None:
    with pytest.raises(TypeError):
        twin.Frame(0, 0, 1)
    with pytest.raises(TypeError):
        twin.Frame(nonsense=1)
