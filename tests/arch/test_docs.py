"""Check that the pages of docs/ say what the code does."""

import json
import re
from dataclasses import fields
from enum import IntEnum
from pathlib import Path
from typing import Any

import pytest

from docs.spec import draw
from fastrpc import wire
from fastrpc.errors import ProtocolError, class_of
from fastrpc.protocol import guard, hello
from fastrpc.protocol.hello import Option
from fastrpc.protocol.states import TRANSITIONS, Input, State

ROOT = Path(__file__).resolve().parents[2]
WIRE = (ROOT / "docs" / "spec" / "wire.md").read_text()
SESSION = (ROOT / "docs" / "spec" / "session.md").read_text()
THREATS = (ROOT / "docs" / "threats.md").read_text()
GOLDEN: dict[str, Any] = json.loads((ROOT / "tests" / "vectors" / "golden.json").read_text())
GOOD = {entry["name"]: entry for entry in GOLDEN["good"]}

Row = list[str]


def rows(text: str) -> list[Row]:
    """Return the cells of the first table in *text*, without its two head lines."""
    found = re.search(r"(?m)^\|.*\n(?:\|.*\n)*", text)
    assert found is not None
    table = found[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table[2:]]


def after(text: str, mark: str) -> str:
    at = text.index(mark)
    assert text.count(mark) == 1
    return text[at + len(mark) :]


def registry(name: str) -> list[Row]:
    return rows(after(WIRE, f"<!-- registry: {name} -->"))


def plain(cell: str) -> str:
    return cell.strip("`")


def next_free(name: str) -> str:
    """Return the sentence about free numbers that follows a registry."""
    found = re.search(r"(?m)^Next free: .*", after(WIRE, f"<!-- registry: {name} -->"))
    assert found is not None
    return found[0]


# Numbers.


@pytest.mark.parametrize(
    ("name", "numbers"),
    [("kinds", wire.Kind), ("serializers", wire.Serializer), ("status", wire.StatusCode)],
)
def test_numbers_and_names_are_those_of_the_code(name: str, numbers: type[IntEnum]) -> None:
    shown = [(int(row[0]), plain(row[1])) for row in registry(name)]
    assert shown == [(member.value, member.name) for member in numbers]


def test_next_free_numbers_are_free_and_next() -> None:
    assert next_free("kinds").startswith(f"Next free: {max(wire.Kind) + 1} ")
    assert f"{wire.KIND_CRITICAL.stop} for kinds that may be skipped" in next_free("kinds")
    assert next_free("serializers").startswith(f"Next free: {max(wire.Serializer) + 1}.")
    assert f"{wire.SERIALIZER_CUSTOM.start} to {wire.SERIALIZER_CUSTOM.stop - 1}" in next_free(
        "serializers"
    )
    tens = {40: "caller", 50: "callee", 60: "application", 70: "connection"}
    for ten, whose in tens.items():
        free = max(code for code in wire.StatusCode if code // 10 == ten // 10) + 1
        assert re.search(rf"\b{free} \(the {whose}'s", next_free("status"))


def test_not_run_is_said_of_the_right_statuses() -> None:
    shown = {int(row[0]) for row in registry("status") if row[3] == "yes"}
    assert shown == wire.NOT_RUN
    assert shown == {
        status for status in map(int, wire.StatusCode) if status in range(40, 60)
        and class_of(status).ran == "no" and class_of(status).status == status
    }  # fmt: skip


def test_masks_are_those_of_the_code() -> None:
    flags = {plain(row[1]): int(row[0], 16) for row in registry("flags")}
    assert flags == {
        "REPLY": wire.FLAG_REPLY,
        "ONEWAY": wire.FLAG_ONEWAY,
        "HEARTBEAT": wire.FLAG_HEARTBEAT,
        "SERIALIZER": wire.MASK_SERIALIZER,
    }
    bits = {plain(row[1]): int(row[0], 16) for row in registry("bits")}
    assert bits == {
        "END": wire.BIT_END,
        "ZIP": wire.BIT_ZIP,
        "SEG": wire.BIT_SEG,
        "MORE": wire.BIT_MORE,
        "KIND": wire.MASK_KIND,
    }


def test_the_layout_reads_every_golden_header() -> None:
    layout = [(int(row[0]), int(row[1]), row[2]) for row in registry("header")]
    assert [offset for offset, _, _ in layout] == [
        sum(width for _, width, _ in layout[:place]) for place in range(len(layout))
    ]
    for entry in GOLDEN["good"]:
        data = bytes.fromhex(entry["hex"])
        size = int.from_bytes(data[2:4], "big")
        header = data[:size].ljust(32, b"\0")
        read = {
            name: int.from_bytes(header[offset : offset + width], "big")
            for offset, width, name in layout
        }
        told = entry["fields"]
        assert (read["magic"], read["version"]) == (wire.MAGIC, wire.VERSION)
        for name in ("hsize", "status", "id", "bsize", "arg", "time"):
            assert read[name] == told[name], (entry["name"], name)
        assert read["bits"] == told["bits"] | told["kind"]
        assert read["flags"] == (
            told["st"] | wire.FLAG_REPLY * told["rp"] | wire.FLAG_ONEWAY * told["ow"]
            | wire.FLAG_HEARTBEAT * told["hb"]
        )  # fmt: skip
        assert read["nsize"] * 2 == len(told["name"])
        assert read["msize"] * 2 == len(told["meta"])
        assert size + read["bsize"] == len(data)


def test_header_sizes_in_words() -> None:
    sizes = (wire.HEADER_BASE, wire.HEADER_ARG, wire.HEADER_TIME, wire.HEADER_FULL)
    assert "shortest of\n{}, {}, {} and {} ".format(*sizes) in WIRE
    assert f"every multiple of 4 from {sizes[0]} to {wire.HEADER_MAX}" in WIRE


# HELLO and limits.


def test_hello_keys_and_defaults_are_those_of_the_code() -> None:
    shown = {plain(row[0]): (row[1], row[3]) for row in registry("hello")}
    assert set(shown) == {"magic", "version", "zip"} | {field.name for field in fields(Option)}
    default = Option()
    for key, (who, left_out) in shown.items():
        assert who == {"versions": "client", "zips": "client", "version": "server",
                       "zip": "server"}.get(key, "both")  # fmt: skip
        value = getattr(default, key) if key != "magic" else wire.MAGIC
        expected = {
            "magic": "refused",
            "versions": "refused",
            "version": "refused",
            "codecs": ", ".join(f"{name} {number}" for name, number in default.codecs.items()),
            "zips": "none",
            "zip": "none",
            "features": "none",
        }.get(key, str(value) if isinstance(value, int) else "empty")
        assert left_out == expected, key


@pytest.mark.parametrize("row", registry("hello"), ids=lambda row: plain(row[0]))
def test_hello_ranges_are_those_of_the_code(row: Row) -> None:
    key, text = plain(row[0]), row[2]
    base = {"magic": wire.MAGIC, "versions": [1]}
    numbers = [int(number) for number in re.findall(r"\d+", text)]

    def taken(value: object) -> bool:
        data = json.dumps({**base, key: value}).encode()
        try:
            hello.decode_option(data, False)
        except ProtocolError:
            return False
        return True

    if re.fullmatch(r"\d+ to \d+", text):
        low, high = numbers
        assert [taken(n) for n in (low - 1, low, high, high + 1)] == [False, True, True, False]
    elif text.startswith("text"):
        (most,) = numbers
        assert [taken("x" * n) for n in (0, most, most + 1)] == [True, True, False]
    elif key in ("zips", "features"):
        (most,) = numbers
        assert [taken(["x"] * n) for n in (0, most, most + 1)] == [True, True, False]
    elif key == "versions":
        least, most, low, high = numbers
        assert [taken([1] * n) for n in (least - 1, least, most, most + 1)] == [
            False, True, True, False,
        ]  # fmt: skip
        assert [taken([n]) for n in (low - 1, low, high, high + 1)] == [False, True, True, False]
    elif key == "codecs":
        least, most, low, high = numbers
        assert (least, most, low, high) == (1, wire.SERIALIZERS, 0, wire.SERIALIZERS - 1)
        assert [taken(value) for value in ({}, {"x": high}, {"x": high + 1})] == [
            False, True, False,
        ]  # fmt: skip
    else:
        assert (key, text) in [
            ("magic", str(wire.MAGIC)), ("version", "number, 1 to 255"), ("zip", "name"),
        ]  # fmt: skip


def test_baseline_in_words() -> None:
    words = f"at\nmost {wire.BASELINE_BODY} bytes, {wire.BASELINE_CALLS} calls open, a window of "
    assert words + str(wire.BASELINE_WINDOW) in WIRE


def test_limits_are_those_of_the_code() -> None:
    limits = wire.Limits()
    shown = [(plain(row[0]), row[1], row[2]) for row in registry("limits")]
    assert shown == [
        (
            field.name,
            str(getattr(limits, field.name)),
            str(wire.LIMIT_CEILINGS.get(field.name, "")),
        )
        for field in fields(limits)
    ]


def test_floods_in_words() -> None:
    burst, rate = guard.CANCEL_BURST, guard.CANCEL_RATE
    assert f"more than {burst} CANCELs at once and {rate:.0f} a second after" in WIRE
    assert f"more than {guard.UNKNOWN_RATE * 60:.0f} replies a minute to ids" in WIRE
    assert round(guard.UNKNOWN_RATE * 60) == guard.UNKNOWN_BURST
    assert guard.PING_STRIKES == 2
    assert "forgives two that come too early" in WIRE
    assert f"body up to {wire.PING_BODY_MAX} bytes" in WIRE
    assert f"up to {wire.SKIP_MAX >> 20} MiB | skipped" in WIRE


# Bytes.


def shown_frames(kind: str) -> dict[str, str]:
    """Read the frames that the page shows, by eyes other than the ones that drew them."""
    block = after(WIRE, f"<!-- drawn: {kind} -->\n").split("```\n")[1]
    frames: dict[str, str] = {}
    name = ""
    for line in block.splitlines():
        if not line.startswith(" "):
            name = line.split(":")[0]
            assert name not in frames
            frames[name] = ""
        elif not line.strip().startswith("#"):
            frames[name] += line.replace(" ", "")
    return frames


@pytest.mark.parametrize("kind", ["good", "bad", "seed"])
def test_the_page_shows_exactly_the_golden_bytes(kind: str) -> None:
    assert shown_frames(kind) == {entry["name"]: entry["hex"] for entry in GOLDEN[kind]}


@pytest.mark.parametrize("kind", ["good", "bad", "seed"])
def test_every_vector_has_a_sentence_of_its_own(kind: str) -> None:
    notes = [entry["note"] for entry in GOLDEN[kind]]
    assert len(set(notes)) == len(notes)
    assert all(note[0].isupper() and note.endswith(".") for note in notes)


@pytest.mark.parametrize("name", re.findall(r"<!-- bytes: (\w+) -->", WIRE))
def test_frames_shown_byte_by_byte_are_the_golden_ones(name: str) -> None:
    table = rows(after(WIRE, f"<!-- bytes: {name} -->"))
    assert "".join(plain(row[0]) for row in table) == GOOD[name]["hex"]


def test_hello_bodies_shown_are_the_golden_ones() -> None:
    block = after(WIRE, "<!-- bodies: hello_client hello_server -->").split("```\n")[1]
    assert [line.encode().hex() for line in block.splitlines()] == [
        GOOD[name]["fields"]["payload"] for name in ("hello_client", "hello_server")
    ]


# States.


def test_the_state_table_is_the_codes_table() -> None:
    head, *body = (
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in after(SESSION, "<!-- drawn: states -->").split("<!-- /drawn")[0].split("\n")
        if line.startswith("|") and not line.startswith("| ---")
    )
    assert [row[0].strip("*") for row in body] == [state.value for state in State]
    assert head[1:] == [event.value for event in Input]
    shown = {
        (State(row[0].strip("*")), Input(event)): State(cell)
        for row in body
        for event, cell in zip(head[1:], row[1:], strict=True)
        if cell != "-"
    }
    assert shown == dict(TRANSITIONS)


def test_states_and_inputs_are_explained() -> None:
    told = [row[0] for row in rows(SESSION[SESSION.index("| state | meaning |") :])]
    assert told == [state.value for state in State]
    told = [row[0] for row in rows(SESSION[SESSION.index("| input | what happened |") :])]
    assert told == [event.value for event in Input]


@pytest.mark.parametrize("page", sorted((ROOT / "docs" / "spec").glob("*.md")), ids=str)
def test_pages_are_what_the_script_draws(page: Path) -> None:
    assert draw.draw(page.read_text()) == page.read_text(), "run: python -m docs.spec.draw"


LIMITS = wire.Limits()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("hello_timeout", f"{LIMITS.hello_timeout:.0f} s"),
        ("idle_ping", f"{LIMITS.idle_ping:.0f} s"),
        ("ping_timeout", f"{LIMITS.ping_timeout:.0f} s"),
        ("frame_timeout", f"{LIMITS.frame_timeout:.0f} s"),
        ("frame_rate", f"{LIMITS.frame_rate / 1024:.0f} KiB/s"),
        ("write_stall", f"{LIMITS.write_stall:.0f} s"),
        ("max_unsent", f"{LIMITS.max_unsent / 2**20:.0f} MiB"),
    ],
)
def test_times_in_words_are_the_defaults(name: str, words: str) -> None:
    assert re.search(rf"`{name}`[ \n]\({re.escape(words)}[,) ]", SESSION)


# Links and records.

PAGES = sorted((ROOT / "docs").rglob("*.md"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text()):
        assert "://" in target or (page.parent / target).exists(), target


ADRS = sorted((ROOT / "docs" / "adr").glob("[0-9]*.md"))


@pytest.mark.parametrize("page", ADRS, ids=lambda page: page.stem)
def test_a_decision_has_its_five_parts(page: Path) -> None:
    text = page.read_text()
    assert re.match(rf"# {int(page.name[:4])}\. \S", text)
    assert re.search(r"(?m)^Date: \d{4}-\d\d-\d\d\. Status: \w+", text)
    assert re.findall(r"(?m)^## (.+)", text) == [
        "Context", "Choice", "Consequences", "What would change our mind",
    ]  # fmt: skip


def test_decisions_are_numbered_and_listed() -> None:
    assert [int(page.name[:4]) for page in ADRS] == list(range(1, len(ADRS) + 1))
    index = (ROOT / "docs" / "adr" / "README.md").read_text()
    assert re.findall(r"\]\((\d{4}[^)]*)\)", index) == [page.name for page in ADRS]


def test_tests_named_as_guards_exist() -> None:
    named = set(re.findall(r"`(tests/[\w/.]+)`", THREATS))
    assert named
    missing = [path for path in sorted(named) if not (ROOT / path).exists()]
    assert missing == []


def test_twin_divergence_is_the_first_threat() -> None:
    first = next(row for row in rows(THREATS))
    assert "twin" in first[1]
