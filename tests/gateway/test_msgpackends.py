"""Where messages of msgpack end: both walkers agree, however the stream is cut."""

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastrpc.errors import ProtocolError
from fastrpc.gateway import msgpackends
from fastrpc.gateway.msgpackends import EndsPlainly, EndsQuickly, scalar_end

WALKERS = [EndsQuickly, EndsPlainly]
SCALARS = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=40)
    | st.binary(max_size=300) | st.builds(msgpack.ExtType, st.integers(0, 127), st.binary(max_size=20))
)  # fmt: skip
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=20) | st.dictionaries(st.text(max_size=3), inner, max_size=20),
    max_leaves=40,
)  # fmt: skip
LONG = [
    b"\xdc\x00\x02\x00\x01", b"\xdd\x00\x00\x00\x01\xc0", b"\xde\x00\x01\xa1a\x01", b"\xdf\x00\x00\x00\x00",
    b"\xda\x00\x01x", b"\xdb\x00\x00\x00\x01x", b"\xc5\x00\x01x", b"\xc6\x00\x00\x00\x02xy",
    b"\xc8\x00\x01\x05x", b"\xc9\x00\x00\x00\x01\x05x", b"\xc7\x00\x05", b"\x90", b"\x80", b"\xca\x00\x00\x00\x00",
]  # fmt: skip
Walker = type[EndsQuickly] | type[EndsPlainly]


def test_the_quick_one_is_in_use() -> None:
    assert msgpackends.Ends is EndsQuickly


@pytest.mark.slow
@pytest.mark.parametrize("walker", WALKERS)
@given(values=st.lists(VALUES, max_size=4), cuts=st.lists(st.integers(0, 2000), max_size=8))
def test_gives_the_values_that_were_sent(
    walker: Walker, values: list[object], cuts: list[int]
) -> None:
    parts = [msgpack.packb(value) for value in values]
    stream = b"".join(parts)
    places = sorted(cut % (len(stream) + 1) for cut in cuts)
    ends = walker(10_000_000)
    found: list[bytes] = []
    for start, end in zip([0, *places], [*places, len(stream)], strict=True):
        found += ends.feed(stream[start:end])
    assert found == parts
    assert not ends.has_more


@pytest.mark.parametrize("walker", WALKERS)
def test_takes_byte_by_byte_whatever_has_a_long_form(walker: Walker) -> None:
    ends = walker(1000)
    found: list[bytes] = []
    for part in LONG:
        for at in range(len(part)):
            assert ends.has_more is bool(at)
            found += ends.feed(part[at : at + 1])
    assert found == LONG


@given(st.binary(max_size=60))
def test_both_find_the_same_ends_in_noise(noise: bytes) -> None:
    outcomes = []
    for kind in WALKERS:
        found: list[bytes] = []
        try:
            found.extend(kind(1000).feed(noise))  # keeps what came before a fault
            outcomes.append((found, ""))
        except ProtocolError:
            outcomes.append((found, "refused"))
    assert outcomes[0] == outcomes[1]


@pytest.mark.parametrize("walker", WALKERS)
def test_gives_what_came_before_a_fault(walker: Walker) -> None:
    found: list[bytes] = []
    with pytest.raises(ProtocolError, match="not msgpack"):
        found.extend(walker(1000).feed(b"\x91\x01\x92\x01\xc1"))
    assert found == [b"\x91\x01"]


@pytest.mark.parametrize("walker", WALKERS)
def test_refuses_what_is_too_long_or_too_deep(walker: Walker) -> None:
    ends = walker(100)
    assert len(list(ends.feed(b"\xc4\x62" + b"x" * 98))) == 1
    assert list(ends.feed(b"\xc6\x7f\xff\xff\xff" + b"x" * 95)) == []
    with pytest.raises(ProtocolError, match="over 100 bytes"):
        list(ends.feed(b"x"))
    with pytest.raises(ProtocolError):
        list(walker(10_000).feed(b"\x91" * 2000))


@pytest.mark.parametrize("walker", WALKERS)
def test_takes_no_memory_for_what_a_container_claims(walker: Walker) -> None:
    ends = walker(1000)
    assert list(ends.feed(b"\xdd\xff\xff\xff\xff" + b"\xc0" * 900)) == []
    with pytest.raises(ProtocolError, match="over"):
        list(ends.feed(b"\xc0" * 200))


@pytest.mark.parametrize("walker", WALKERS)
def test_takes_pieces_larger_than_its_room(walker: Walker) -> None:
    value = msgpack.packb(b"x" * 3_000_000)
    assert list(walker(4_000_000).feed(value * 2)) == [value, value]


@pytest.mark.parametrize("walker", WALKERS)
def test_looks_at_each_byte_once(walker: Walker) -> None:
    """Doubling a message that comes in small pieces doubles the steps, and no more."""
    steps = []
    for count in (2000, 4000):
        ends = walker(10**7)
        if isinstance(ends, EndsPlainly):
            seen = 0

            def counted(data: bytes, at: int, real: object = scalar_end) -> int:
                nonlocal seen
                seen += 1
                return scalar_end(data, at)

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(msgpackends, "scalar_end", counted)
                for byte in msgpack.packb([1] * count):
                    list(ends.feed(bytes([byte])))
            steps.append(seen)
        else:
            for byte in msgpack.packb([1] * count)[:-1]:
                list(ends.feed(bytes([byte])))
            # The compiled walker has left all of it behind, so it can't begin anew.
            steps.append(ends._walker.tell())
    assert steps[1] < 2.1 * steps[0]
