"""The cases of the Autobahn test suite, in our own words, against echo ends of ours.

The suite itself needs Python 2.7. Its cases are known by number, and here each has what a raw
peer sends and what must come back; the peer (`tests/transport/websocket_raw.py`) shares no
code with the library under our ends. The numbers are the suite's; what exactly is sent in
6.5 and 9 is our choice, and 9 has small sizes.

Left out: 7.1.6 sends what 7.1.2 to 7.1.4 send behind a large message; 12 and 13 are about
compression, which is off.
"""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.transport import websocket_raw as raw
from tests.transport.websocket_ends import connected, echoing
from tests.transport.websocket_raw import BINARY, CONT, PING, PONG, TEXT, Frame, close, pieces, put

Message = tuple[int, bytes]


@dataclass(frozen=True)
class Case:
    """What a peer sends, and what must come back.

    Attributes:
        sends: The bytes.
        echoes: Messages and pongs that come, in order.
        code: Of the close that comes at the end; 0 if the peer has to ask for one.
        chop: Bytes that are written at a time, 0 for all of them at once.
    """

    sends: bytes
    echoes: tuple[Message, ...] = ()
    code: int = 0
    chop: int = 0


def echo(opcode: int, payload: bytes, chop: int = 0) -> Case:
    return Case(put(opcode, payload), ((opcode, payload),), chop=chop)


def pong(payload: bytes) -> Message:
    return PONG, payload


def lengths() -> Iterator[tuple[str, Case]]:
    """1: messages of every form of length."""
    for group, opcode in ((1, TEXT), (2, BINARY)):
        for number, size in enumerate((0, 125, 126, 127, 128, 65_535, 65_536), 1):
            # An empty binary message is no bytes of a stream of bytes.
            yield (
                f"1.{group}.{number}",
                echo(opcode, b"*" * size) if size or opcode == TEXT else Case(put(opcode)),
            )
        yield f"1.{group}.8", echo(opcode, b"*" * 65_536, chop=997)


def pings() -> Iterator[tuple[str, Case]]:
    """2: pings and pongs."""
    yield "2.1", Case(put(PING), (pong(b""),))
    yield "2.2", Case(put(PING, b"Hello, world!"), (pong(b"Hello, world!"),))
    binary = b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff"
    yield "2.3", Case(put(PING, binary), (pong(binary),))
    yield "2.4", Case(put(PING, b"\xfe" * 125), (pong(b"\xfe" * 125),))
    yield "2.5", Case(put(PING, b"\xfe" * 126), code=1002)
    yield "2.6", Case(put(PING, b"\xfe" * 125), (pong(b"\xfe" * 125),), chop=1)
    yield "2.7", Case(put(PONG))
    yield "2.8", Case(put(PONG, b"unasked"))
    yield "2.9", Case(put(PONG, b"unasked") + put(PING, b"asked"), (pong(b"asked"),))
    ten = b"".join(put(PING, b"payload-%d" % n) for n in range(10))
    answers = tuple(pong(b"payload-%d" % n) for n in range(10))
    yield "2.10", Case(ten, answers)
    yield "2.11", Case(ten, answers, chop=1)


def reserved_bits() -> Iterator[tuple[str, Case]]:
    """3: bits that no extension has given a meaning."""
    yield "3.1", Case(put(TEXT, b"Hello", rsv=1), code=1002)
    three = put(TEXT, b"Hello") + put(TEXT, b"Hello", rsv=2) + put(PING)
    for name, chop in (("3.2", 0), ("3.3", 11), ("3.4", 1)):
        yield name, Case(three, ((TEXT, b"Hello"),), 1002, chop)
    yield "3.5", Case(put(BINARY, b"\x00\xff", rsv=5), code=1002)
    yield "3.6", Case(put(PING, b"Hello", rsv=6), code=1002)
    yield "3.7", Case(put(raw.CLOSE, b"\x03\xe8", rsv=7), code=1002)


def reserved_opcodes() -> Iterator[tuple[str, Case]]:
    """4: opcodes that have no meaning."""
    for group, first in ((1, 3), (2, 11)):
        alone = (put(first), put(first + 1, b"reserved"))
        for number, data in enumerate(alone, 1):
            yield f"4.{group}.{number}", Case(data, code=1002)
        for number, chop in ((3, 0), (4, 1), (5, 1)):
            behind = put(TEXT, b"Hello") + put(first + number - 1, b"x" * (number - 3)) + put(PING)
            yield f"4.{group}.{number}", Case(behind, ((TEXT, b"Hello"),), 1002, chop)


def fragments() -> Iterator[tuple[str, Case]]:
    """5: messages in fragments."""
    yield "5.1", Case(put(PING, b"x", fin=False) + put(CONT, b"y"), code=1002)
    yield "5.2", Case(put(PONG, b"x", fin=False) + put(CONT, b"y"), code=1002)
    both = ((TEXT, b"fragment1fragment2"),)
    begin, end = put(TEXT, b"fragment1", fin=False), put(CONT, b"fragment2")
    for name, chop in (("5.3", 0), ("5.4", len(begin)), ("5.5", 1)):
        yield name, Case(begin + end, both, chop=chop)
    for name, chop in (("5.6", 0), ("5.7", len(begin)), ("5.8", 1)):
        yield name, Case(begin + put(PING, b"ping") + end, (pong(b"ping"), *both), chop=chop)
    for number, (last, chop) in enumerate(
        [(True, 0), (True, 9), (True, 1), (False, 0), (False, 9), (False, 1)], 9
    ):
        stray = put(CONT, b"non-continuation payload", fin=last) + put(TEXT, b"Hello")
        yield f"5.{number}", Case(stray, code=1002, chop=chop)
    stray = put(CONT, b"fragment3", fin=False) + put(TEXT, b"fragment4")
    yield "5.15", Case(begin + end + stray, both, 1002)
    for name, last in (("5.16", False), ("5.17", True)):
        once = put(CONT, b"fragment1", fin=last) + put(TEXT, b"fragment2", fin=False) + end
        yield name, Case(once * 2, code=1002)
    yield "5.18", Case(begin + put(TEXT, b"fragment2"), code=1002)
    five = [put(TEXT if not n else CONT, b"fragment%d" % n, fin=n == 4) for n in range(5)]
    whole = (TEXT, b"".join(b"fragment%d" % n for n in range(5)))
    asked = put(PING, b"1") + five[0] + five[1] + put(PING, b"2")
    for name, chop in (("5.19", 0), ("5.20", 1)):
        answers = (pong(b"1"), pong(b"2"), pong(b"3"), whole)
        yield name, Case(asked + five[2] + five[3] + put(PING, b"3") + five[4], answers, chop=chop)


VALID = "Hello-µ@ßöäüàá-UTF-8!!".encode()
KOSME = bytes.fromhex("ceba e1bdb9 cf83 cebc ceb5")  # a Greek word, 11 bytes

#: Sequences of bytes in the order of Markus Kuhn's stress test, as the suite has them: how
#: many of each group there are, and whether they are text.
SEQUENCES: dict[str, list[tuple[bytes, bool]]] = {
    # Some text ends in the middle of a character, or not.
    "6.6": [
        *((KOSME[:size], size in (0, 2, 5, 7, 9, 11)) for size in range(1, len(KOSME) + 1)),
    ],
    # The first and the last sequence of each length; 5 and 6 bytes are none any more.
    "6.7": [(b"\x00", True), (b"\xc2\x80", True), (b"\xe0\xa0\x80", True), (b"\xf0\x90\x80\x80", True)],
    "6.8": [(b"\xf8\x88\x80\x80\x80", False), (b"\xfc\x84\x80\x80\x80\x80", False)],
    "6.9": [
        (b"\x7f", True), (b"\xdf\xbf", True), (b"\xef\xbf\xbf", True), (b"\xf4\x8f\xbf\xbf", True),
    ],
    "6.10": [
        (b"\xf7\xbf\xbf\xbf", False), (b"\xfb\xbf\xbf\xbf\xbf", False),
        (b"\xfd\xbf\xbf\xbf\xbf\xbf", False),
    ],
    # Around what is left out for surrogates, and around the end of what there is.
    "6.11": [
        (b"\xed\x9f\xbf", True), (b"\xee\x80\x80", True), (b"\xef\xbf\xbd", True),
        (b"\xf4\x8f\xbf\xbf", True), (b"\xf4\x90\x80\x80", False),
    ],
    # Bytes that continue nothing.
    "6.12": [
        (b"\x80", False), (b"\xbf", False), *((b"\x80\xbf\x80\xbf\x80\xbf"[:size], False)
        for size in range(2, 7)), (bytes(range(0x80, 0xC0)), False),
    ],
    # Bytes that begin something, and nothing follows.
    "6.13": [
        (b" ".join(bytes([n]) for n in range(first, last)) + b" ", False)
        for first, last in ((0xC0, 0xE0), (0xE0, 0xF0), (0xF0, 0xF8), (0xF8, 0xFC), (0xFC, 0xFE))
    ],
    # The last byte is missing.
    "6.14": [
        (data, False)
        for data in (
            b"\xc0", b"\xe0\x80", b"\xf0\x80\x80", b"\xf8\x80\x80\x80", b"\xfc\x80\x80\x80\x80",
            b"\xdf", b"\xef\xbf", b"\xf7\xbf\xbf", b"\xfb\xbf\xbf\xbf", b"\xfd\xbf\xbf\xbf\xbf",
        )
    ],
    "6.15": [
        (
            b"\xc0\xe0\x80\xf0\x80\x80\xf8\x80\x80\x80\xfc\x80\x80\x80\x80"
            b"\xdf\xef\xbf\xf7\xbf\xbf\xfb\xbf\xbf\xbf\xfd\xbf\xbf\xbf\xbf",
            False,
        )
    ],
    "6.16": [(b"\xfe", False), (b"\xff", False), (b"\xfe\xfe\xff\xff", False)],
    # Longer than needed: of a slash, of the largest of each length, of zero.
    "6.17": [
        (data, False)
        for data in (
            b"\xc0\xaf", b"\xe0\x80\xaf", b"\xf0\x80\x80\xaf", b"\xf8\x80\x80\x80\xaf",
            b"\xfc\x80\x80\x80\x80\xaf",
        )
    ],
    "6.18": [
        (data, False)
        for data in (
            b"\xc1\xbf", b"\xe0\x9f\xbf", b"\xf0\x8f\xbf\xbf", b"\xf8\x87\xbf\xbf\xbf",
            b"\xfc\x83\xbf\xbf\xbf\xbf",
        )
    ],
    "6.19": [
        (data, False)
        for data in (
            b"\xc0\x80", b"\xe0\x80\x80", b"\xf0\x80\x80\x80", b"\xf8\x80\x80\x80\x80",
            b"\xfc\x80\x80\x80\x80\x80",
        )
    ],
    # Surrogates, alone and in pairs.
    "6.20": [
        (data, False)
        for data in (
            b"\xed\xa0\x80", b"\xed\xad\xbf", b"\xed\xae\x80", b"\xed\xaf\xbf", b"\xed\xb0\x80",
            b"\xed\xbe\x80", b"\xed\xbf\xbf",
        )
    ],
    "6.21": [
        (high + low, False)
        for high in (b"\xed\xa0\x80", b"\xed\xad\xbf", b"\xed\xae\x80", b"\xed\xaf\xbf")
        for low in (b"\xed\xb0\x80", b"\xed\xbf\xbf")
    ],
    # No characters, but text: the last two of each plane.
    "6.22": [
        (chr(plane << 16 | low).encode(), True) for plane in range(17) for low in (0xFFFE, 0xFFFF)
    ],
    "6.23": [
        (chr(code).encode(), True)
        for code in (0xFFF9, 0xFFFA, 0xFFFB, 0xFFFC, 0xFFFD, 0xFEFF, 0x2028)
    ],
}  # fmt: skip
#: How many of each there are to be.
COUNTS = {
    "6.6": 11, "6.7": 4, "6.8": 2, "6.9": 4, "6.10": 3, "6.11": 5, "6.12": 8, "6.13": 5,
    "6.14": 10, "6.15": 1, "6.16": 3, "6.17": 5, "6.18": 5, "6.19": 5, "6.20": 7, "6.21": 8,
    "6.22": 34, "6.23": 7,
}  # fmt: skip


def texts() -> Iterator[tuple[str, Case]]:
    """6: what is text and what is not."""
    yield "6.1.1", echo(TEXT, b"")
    empty = put(TEXT, fin=False) + put(CONT, fin=False)
    yield "6.1.2", Case(empty + put(CONT), ((TEXT, b""),))
    middle = put(TEXT, fin=False) + put(CONT, b"middle", fin=False) + put(CONT)
    yield "6.1.3", Case(middle, ((TEXT, b"middle"),))
    yield "6.2.1", echo(TEXT, VALID)
    yield "6.2.2", Case(pieces(TEXT, VALID, 12), ((TEXT, VALID),))
    yield "6.2.3", Case(pieces(TEXT, VALID, 1), ((TEXT, VALID),))
    yield "6.2.4", Case(pieces(TEXT, KOSME, 1), ((TEXT, KOSME),))
    wrong = KOSME + b"\xed\xa0\x80edited"
    yield "6.3.1", Case(put(TEXT, wrong), code=1007)
    yield "6.3.2", Case(pieces(TEXT, wrong, 1), code=1007)
    # Fails at the first wrong byte: what would end the message is never sent.
    beyond = KOSME + b"\xf4\x90"
    yield (
        "6.4.1",
        Case(put(TEXT, KOSME, fin=False) + put(CONT, b"\xf4\x90\x80\x80", fin=False), code=1007),
    )
    yield "6.4.2", Case(put(TEXT, beyond, fin=False), code=1007)
    yield (
        "6.4.3",
        Case(put(TEXT, beyond + b"\x80\x80 edited")[: -len(b"\x80\x80 edited")], code=1007),
    )
    yield (
        "6.4.4",
        Case(put(TEXT, beyond + b"\x80\x80 edited")[: -len(b"\x80\x80 edited")], code=1007, chop=1),
    )
    for number, cut in enumerate((0, 1, 2, 4, 7), 1):  # a character over two fragments
        text = b"Hello-\xc2\xb5@\xc3\x9f"
        halves = put(TEXT, text[: cut + 6], fin=False) + put(CONT, text[cut + 6 :])
        yield f"6.5.{number}", Case(halves, ((TEXT, text),))
    for group, sequences in SEQUENCES.items():
        for number, (data, is_text) in enumerate(sequences, 1):
            yield (
                f"{group}.{number}",
                echo(TEXT, data) if is_text else Case(put(TEXT, data), code=1007),
            )


def closes() -> Iterator[tuple[str, Case]]:
    """7: every way to end."""
    hello = ((TEXT, b"Hello World!"),)
    yield "7.1.1", Case(put(TEXT, b"Hello World!") + close(1000), hello, 1000)
    yield "7.1.2", Case(close(1000) * 2, code=1000)
    yield "7.1.3", Case(close(1000) + put(PING), code=1000)
    yield "7.1.4", Case(close(1000) + put(TEXT, b"Hello World!"), code=1000)
    yield (
        "7.1.5",
        Case(put(TEXT, b"fragment1", fin=False) + close(1000) + put(CONT, b"2"), code=1000),
    )
    yield "7.3.1", Case(put(raw.CLOSE), code=1005)
    yield "7.3.2", Case(put(raw.CLOSE, b"a"), code=1002)
    yield "7.3.3", Case(close(1000), code=1000)
    yield "7.3.4", Case(close(1000, b"Hello World!"), code=1000)
    yield "7.3.5", Case(close(1000, b"*" * 123), code=1000)
    yield "7.3.6", Case(close(1000, b"*" * 124), code=1002)
    yield "7.5.1", Case(close(1000, KOSME + b"\xed\xa0\x80edited"), code=1007)
    good = (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999)
    for number, code in enumerate(good, 1):
        yield f"7.7.{number}", Case(close(code), code=code)
    bad = (0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999)
    for number, code in enumerate(bad, 1):
        yield f"7.9.{number}", Case(close(code), code=1002)
    for number, code in enumerate((5000, 65_535), 1):
        yield f"7.13.{number}", Case(close(code), code=1002)


def sizes() -> Iterator[tuple[str, Case]]:
    """9: large messages; the suite goes on to 16 MiB, which takes it minutes."""
    kib = 1024
    for group, opcode in ((1, TEXT), (2, BINARY)):
        for number, size in enumerate((64 * kib, 256 * kib), 1):
            yield f"9.{group}.{number}", echo(opcode, b"*" * size)
    for group, opcode in ((3, TEXT), (4, BINARY)):
        for number, size in enumerate((64, 256, kib, 4 * kib, 16 * kib), 1):
            payload = b"*" * (256 * size)
            yield f"9.{group}.{number}", Case(pieces(opcode, payload, size), ((opcode, payload),))
    for group, opcode in ((5, TEXT), (6, BINARY)):
        for number, chop in enumerate((64, 128, 256, 512), 1):
            yield f"9.{group}.{number}", echo(opcode, b"*" * 64 * kib, chop=chop)
    for group, opcode in ((7, TEXT), (8, BINARY)):
        for number, size in enumerate((0, 16, 64, 256, kib), 1):
            if size or opcode == TEXT:
                many = ((opcode, b"*" * size),) * 200
                yield f"9.{group}.{number}", Case(put(opcode, b"*" * size) * 200, many)


def automatic() -> Iterator[tuple[str, Case]]:
    """10: a large message in fragments of 1,300 bytes."""
    payload = b"*" * 65_536
    yield "10.1.1", Case(pieces(TEXT, payload, 1300), ((TEXT, payload),))


GROUPS = (
    lengths, pings, reserved_bits, reserved_opcodes, fragments, texts, closes, sizes, automatic,
)  # fmt: skip


def as_stream(found: list[Message]) -> list[Message]:
    """Join what follows each other in binary messages: a stream has no bounds."""
    joined: list[Message] = []
    for opcode, payload in found:
        if opcode == BINARY and joined and joined[-1][0] == BINARY:
            joined[-1] = BINARY, joined[-1][1] + payload
        else:
            joined.append((opcode, payload))
    return joined


async def run(case: Case, place: str) -> str:
    """Return what is wrong with how an end took *case*; "" if nothing is."""
    async with connected(place) as (reader, writer):
        for part in raw.chop(case.sends, case.chop or len(case.sends)):
            writer.write(part)
            if case.chop:
                await asyncio.sleep(0)  # written apart; the kernel may join some
        wanted = case.code
        if not wanted:
            wanted = 1000
            writer.write(close(1000))
        found = await raw.rest(reader)
    if not found or found[-1].opcode != raw.CLOSE:
        return f"no close at the end: {found[-3:]}"
    said = found.pop()
    if said.code != wanted:
        return f"closed with {said.code}, not {wanted}: {said.payload[2:]!r}"
    if any(frame.masked or not frame.fin for frame in found):
        return "masked, or in fragments"
    got = as_stream([(frame.opcode, frame.payload) for frame in found])
    if got != as_stream(list(case.echoes)):
        return f"{[(opcode, payload[:20], len(payload)) for opcode, payload in got[:5]]}"
    return ""


def is_binary(case: Case) -> bool:
    return any(opcode == BINARY for opcode, _ in case.echoes) or case.sends[:1] == b"\x82"


@pytest.mark.slow
@pytest.mark.asyncio
@pytest.mark.parametrize("group", GROUPS)
async def test_the_cases_of_a_group(group: object) -> None:
    wrong: dict[str, str] = {}
    cases = dict(group())  # type: ignore[operator]
    async with echoing("text") as (text, _), echoing("binary") as (binary, _):
        for name, case in cases.items():
            try:
                async with asyncio.timeout(4):  # less than the patience with a close
                    said = await run(case, binary if is_binary(case) else text)
            except TimeoutError:
                said = "it hangs"
            if said:
                wrong[name] = said
    assert wrong == {}


@pytest.mark.asyncio
async def test_the_runner_sees_what_is_wrong() -> None:
    async with echoing("text") as (place, _):
        assert await run(Case(put(TEXT, b"x"), ((TEXT, b"y"),)), place)
        assert await run(Case(close(1001), code=1000), place)
        assert await run(Case(put(PING), ()), place)
        assert not await run(Case(put(PING), (pong(b""),)), place)
    assert Frame(8, b"").code == 1005


def test_the_table_is_whole_and_right() -> None:
    assert {group: len(found) for group, found in SEQUENCES.items()} == COUNTS
    for group in SEQUENCES.values():
        for data, is_text in group:
            try:
                data.decode()
            except UnicodeDecodeError:
                assert not is_text, data
            else:
                assert is_text, data
    names = [name for group in GROUPS for name, _ in group()]
    assert len(names) == len(set(names))
    assert len(names) >= 277
