"""`fastrpc dump`: the frames of a capture, in words."""

import json
from collections.abc import Iterator
from typing import BinaryIO

import click
from rich.text import Text

from fastrpc.call.metadata import decode_metadata
from fastrpc.cli import screen
from fastrpc.cli.exits import ExitCode
from fastrpc.cli.options import epilog, json_option, paragraphs
from fastrpc.cli.values import to_json
from fastrpc.codec.registry import CodecRegistry, default_codecs
from fastrpc.errors import CallError, FrameError
from fastrpc.frame import Frame, FrameDecoder
from fastrpc.wire import (
    BIT_END,
    BIT_MORE,
    BIT_SEG,
    BIT_ZIP,
    BODY_MAX,
    Kind,
    Serializer,
    StatusCode,
)

HELP = paragraphs(
    "Print the frames in FILE, one per line.",
    "FILE holds the bytes that one side of a connection sent, as tcpflow writes them; - is "
    "standard input. Method numbers are shown with the names that the same file binds them to.",
)
EPILOG = epilog(
    "tcpflow -o capture 'port 7000' && fastrpc dump capture/127.000.000.001.*-*.07000",
    "fastrpc dump client.bin --json | jq 'select(.status != 0)'",
    exits="Exit codes: 0 all well; 2 wrong usage; 5 the bytes are no frames, or cut off.",
)

_CHUNK = 2**16
_PAYLOAD_SHOWN = 120
_BITS = {BIT_END: "end", BIT_ZIP: "compressed", BIT_SEG: "segments", BIT_MORE: "more"}


@click.command(help=HELP, epilog=EPILOG)
@click.argument("file", type=click.File("rb"))
@json_option("Print one line of JSON per frame.")
def dump(file: BinaryIO, as_json: bool) -> None:
    """Print the frames in a file."""
    console = screen.results()
    try:
        for told in read_frames(file):
            if as_json:
                screen.write_json(told)
            else:
                console.print(frame_text(told), soft_wrap=True)
    except FrameError as error:
        screen.write_error(error)
        raise click.exceptions.Exit(ExitCode.CALL) from None


def read_frames(file: BinaryIO) -> Iterator[dict[str, object]]:
    """Yield what each frame in *file* says.

    Raises:
        FrameError: The bytes are not frames, or the last one is cut off.
    """
    decoder = FrameDecoder(max_body=BODY_MAX)
    codecs = default_codecs()
    names: dict[int, str] = {}
    while chunk := file.read(_CHUNK):
        for frame in decoder.feed(chunk):
            yield tell_frame(frame, codecs, names)
    decoder.feed(b"")  # an error behind the last whole frame is raised only now
    if decoder.waiting:
        raise FrameError("the file ends in the middle of a frame")


def tell_frame(frame: Frame, codecs: CodecRegistry, names: dict[int, str]) -> dict[str, object]:
    """Return what *frame* says, for JSON; *names* learns the methods it binds."""
    told: dict[str, object] = {"kind": _kind(frame), "id": frame.id, "reply": frame.reply}
    if frame.kind in (Kind.CALL, Kind.OPEN) and not frame.reply and not frame.heartbeat:
        name = frame.name.decode("utf-8", "replace")
        if name and frame.arg:
            names[frame.arg] = name
        told["method"] = name or names.get(frame.arg, f"#{frame.arg}")
        told["number"] = frame.arg or None
    elif frame.arg:
        told["arg"] = frame.arg
    if frame.status or _kind(frame) == "reply":
        told["status"] = frame.status
    told |= {
        "handler_us" if frame.reply else "deadline_ms": frame.time or None,
        "oneway": frame.oneway or None,
        "bits": [word for bit, word in _BITS.items() if frame.bits & bit] or None,
        "metadata": _metadata(frame.metadata) if frame.metadata else None,
        "buffers": [len(buffer) for buffer in frame.buffers] or None,
        "oversize": frame.oversize or None,
    }
    told = {key: value for key, value in told.items() if value is not None}
    if frame.payload or frame.buffers:
        told["serializer"] = _word(Serializer, frame.serializer)
        told["payload"] = _payload(frame, codecs)
    return told


def _kind(frame: Frame) -> str:
    if frame.heartbeat:
        return "pong" if frame.reply else "ping"
    if frame.kind == Kind.CALL:
        return "reply" if frame.reply else "call"
    return _word(Kind, frame.kind)


def _word(numbers: type[Kind] | type[Serializer] | type[StatusCode], number: int) -> str:
    try:
        return numbers(number).name.lower().replace("_", " ")
    except ValueError:
        return str(number)


def _metadata(data: bytes) -> object:
    try:
        return [[key, value.decode("utf-8", "replace")] for key, value in decode_metadata(data)]
    except CallError as error:
        return str(error)


def _payload(frame: Frame, codecs: CodecRegistry) -> object:
    """Return the value in *frame*, or its bytes if they can't be decoded here."""
    codec = codecs.find(frame.serializer)
    if codec is None or frame.bits & BIT_ZIP:
        return frame.payload
    try:
        if frame.kind == Kind.HELLO:
            return json.loads(frame.payload)
        return codec.decode(frame.payload)
    except Exception:  # whatever a codec raises: the capture is what it is
        return frame.payload


def frame_text(told: dict[str, object]) -> Text:
    """Return one line for people."""
    text = Text("← " if told["reply"] else "→ ", style="dim")
    text.append(f"{told['kind']:<6}", style="bold green" if told["reply"] else "bold cyan")
    text.append(f" {told['id']:>4}  ", style="not dim")
    if "method" in told:
        text.append(screen.visible(str(told["method"])), style="bold not dim")
        text.append(" ")
    if "status" in told:
        status = int(str(told["status"]))
        style = "red not dim" if status else "green not dim"
        text.append(f"{status} {_word(StatusCode, status)} ", style=style)
    if "payload" in told:
        payload = told["payload"]
        shown = f"{len(payload)} bytes" if isinstance(payload, bytes) else to_json(payload)
        if len(shown) > _PAYLOAD_SHOWN:
            shown = shown[: _PAYLOAD_SHOWN - 1] + "…"
        text.append(shown, style="not dim")
    skip = {"kind", "id", "reply", "method", "status", "payload"}
    for key, value in told.items():
        if key not in skip:
            shown = str(value) if isinstance(value, str | int) else to_json(value)
            text.append(f"  {key}={shown}", style="dim")
    return text
