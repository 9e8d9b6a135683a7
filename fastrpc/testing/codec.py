"""Check that a codec behaves as the rest of the house relies on.

One suite for every codec: ours on both engines, and anybody's own.

    def test_my_codec():
        check_codec(MyCodec(), [(int, 5), (list[str], ["a"])])

Rules of the room:
  * a check uses what the `Codec` protocol has, nothing else;
  * a codec may be able to do more than is asked, never less.
"""

import threading
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, Final

from fastrpc.codec import Codec, is_typed_only
from fastrpc.errors import CodecError, ConfigError
from fastrpc.wire import SERIALIZERS

#: A type and a value of it.
Sample = tuple[Any, Any]

#: What a codec for any plain value should manage.
SAMPLES: Final[Sequence[Sample]] = (
    (None, None),
    (bool, True),
    (int, -5),
    (float, 1.5),
    (str, "grüße \U0001f600"),
    (bytes, bytes(range(256))),
    (list[int], [1, 2, 3]),
    (dict[str, int], {"a": 1}),
    (int | None, None),
    (Any, ["a", 1, None]),
)


def _expect(ok: bool, text: str) -> None:
    if not ok:
        raise AssertionError(text)


def _expect_raise(work: Callable[[], object], text: str) -> None:
    try:
        work()
    except Exception:  # any will do: callers catch them all
        return
    raise AssertionError(text)


def _identity(codec: Codec, samples: Sequence[Sample]) -> None:
    """It has a name that HELLO can carry, and a number that fits a frame."""
    name, number = codec.name, codec.serializer
    fits = name.isascii() and name == name.lower().strip() != ""
    _expect(fits, f"the name {name!r} is not lower-case ASCII")
    _expect(type(number) is int and 0 <= number < SERIALIZERS, f"the number {number!r} is not 0-31")


def _round_trip(codec: Codec, samples: Sequence[Sample]) -> None:
    """What is encoded comes back, with its type named before or after."""
    for wanted, value in samples:
        data = codec.encode(value)
        _expect(type(data) is bytes, f"encode({value!r}) gave {type(data).__name__}, not bytes")
        read = codec.decoder(wanted)(data)
        _expect(_same(read, value), f"{value!r} came back as {read!r}")
        if is_typed_only(codec):
            continue
        read = codec.convert(codec.decode(data), wanted)
        _expect(_same(read, value), f"{value!r} was converted to {read!r}")


def _untyped(codec: Codec, samples: Sequence[Sample]) -> None:
    """A codec that reads nothing without a type says so, with a `CodecError` in words."""
    if not is_typed_only(codec):
        return
    for _, value in samples:
        try:
            codec.decode(codec.encode(value))
        except CodecError as error:
            _expect(str(error) != "", "the CodecError of decode has no text")
        else:
            raise AssertionError(f"{value!r} was decoded without its type")


def _arguments(codec: Codec, samples: Sequence[Sample]) -> None:
    """Positional arguments are read by count and type, defaults may be left out."""
    for wanted, value in samples:
        payload, bare = _payload(codec, value)
        more = type(None) if wanted is None else wanted  # None says that there is no rest
        for required, rest in ((1, None), (0, None), (0, more)):
            read = codec.arguments([wanted], required, rest)(payload)
            if not payload and not required and len(read) == 0:
                continue  # no bytes: None and no arguments are the same
            _expect(
                len(read) == 1 and _same(read[0], value),
                f"the argument {value!r} came back as {read!r}",
            )
        if payload:  # raw: no bytes and no arguments are the same
            _expect_raise(
                partial(codec.arguments([], 0, None), payload),
                f"the argument {value!r} was read for a method that takes none",
            )
        if not bare:
            _counts(codec, wanted, value)


def _counts(codec: Codec, wanted: Any, value: Any) -> None:
    wanted = type(None) if wanted is None else wanted
    two = codec.arguments([wanted, wanted], 2, None)
    for count in (0, 1, 3):
        data = codec.encode([value] * count)
        _expect_raise(partial(two, data), f"{count} arguments were read for a method that takes 2")
    rest = codec.arguments([], 0, wanted)(codec.encode([value] * 3))
    _expect(len(rest) == 3, f"*args of 3 came back as {rest!r}")


def _not_an_array(codec: Codec, samples: Sequence[Sample]) -> None:
    """Arguments that are no array raise, so that the slow path can look at them."""
    for payload in ({"a": 1}, 5):
        try:
            data = codec.encode(payload)
            read = codec.arguments([Any], 1, None)
            if _payload(codec, samples[0][1])[1]:
                return  # it carries one bare value
        except Exception:
            return  # it can't say such a thing
        _expect_raise(partial(read, data), f"{payload!r} was read as arguments")


def _wrong_type(codec: Codec, samples: Sequence[Sample]) -> None:
    """A value of another type raises; from `convert` it is a `CodecError` in words."""
    try:
        data = codec.encode("some text")
        read = codec.decoder(int)
    except Exception:
        return  # it knows no text, or no int
    _expect_raise(lambda: read(data), "text was read as an int")
    try:
        codec.convert("some text", int)
    except CodecError as error:
        _expect(str(error) != "", "the CodecError of convert has no text")
        _expect("some text" not in str(error), "the error repeats what was sent")
    else:
        raise AssertionError("convert made an int of text")


def _unreadable_type(codec: Codec, samples: Sequence[Sample]) -> None:
    """A type it can't read is refused at once, not when the first bytes come."""
    try:
        codec.decoder("not a type")
    except ConfigError:
        return
    raise AssertionError("decoder('not a type') did not raise ConfigError")


def _unsendable(codec: Codec, samples: Sequence[Sample]) -> None:
    """A value it can't send raises, and the codec works as before."""
    unsendable: list[object] = [threading.Lock(), lambda: None]
    for value in unsendable:
        _expect_raise(partial(codec.encode, value), f"{value!r} was encoded")
    _round_trip(codec, samples)


def _damaged(codec: Codec, samples: Sequence[Sample]) -> None:
    """Bytes cut short or changed raise or give another value, and nothing else."""
    for wanted, value in samples:
        data = codec.encode(value)
        read = codec.decoder(wanted)
        for damaged in _damages(data):
            for attempt in (codec.decode, read):
                _ignore(attempt, damaged)
    _round_trip(codec, samples)


def _ignore(work: Callable[[bytes], object], data: bytes) -> None:
    try:
        work(data)
    except Exception:  # what is checked is that nothing worse happens
        return


def _damages(data: bytes) -> Iterable[bytes]:
    places = range(min(len(data), 64))
    for at in places:
        yield data[:at]
        for bit in (0x01, 0x40, 0x80):
            yield data[:at] + bytes([data[at] ^ bit]) + data[at + 1 :]
    yield data + data
    yield data + b"\x00"


def _owned(codec: Codec, samples: Sequence[Sample]) -> None:
    """It reads from any buffer, and what it gives doesn't change with it."""
    for wanted, value in samples:
        buffer = bytearray(codec.encode(value))
        typed = codec.decoder(wanted)(memoryview(buffer))  # type: ignore[arg-type]
        bare = not is_typed_only(codec)
        plain = codec.decode(memoryview(buffer)) if bare else None  # type: ignore[arg-type]
        buffer[:] = bytes(len(buffer))
        _expect(_same(typed, value), f"{value!r} changed with the buffer to {typed!r}")
        if not bare:
            continue
        again = codec.convert(plain, wanted)
        _expect(_same(again, value), f"{value!r} changed with the buffer to {again!r}")


def _threads(codec: Codec, samples: Sequence[Sample]) -> None:
    """One codec serves several threads."""
    failures: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(5):
                _round_trip(codec, samples)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    _expect(not failures, f"in a thread: {failures[:1]}")


def _payload(codec: Codec, value: Any) -> tuple[bytes, bool]:
    """Return *value* as a single argument, and whether it is the whole payload.

    A codec that knows no arrays, such as raw, carries one argument as it is.
    """
    try:
        return codec.encode([value]), False
    except Exception:
        return codec.encode(value), True


def _same(one: Any, other: Any) -> bool:
    return type(one) is type(other) and bool(one == other)


_CHECKS: Final[dict[str, Callable[[Codec, Sequence[Sample]], None]]] = {
    "identity": _identity,
    "round trip": _round_trip,
    "untyped": _untyped,
    "arguments": _arguments,
    "not an array": _not_an_array,
    "wrong type": _wrong_type,
    "unreadable type": _unreadable_type,
    "unsendable": _unsendable,
    "damaged": _damaged,
    "owned": _owned,
    "threads": _threads,
}

#: Names of the checks, each to be run alone with `only`.
CODEC_CHECKS: Final = tuple(_CHECKS)


def check_codec(codec: Codec, samples: Sequence[Sample] = SAMPLES, *, only: str = "") -> None:
    """Run the checks on *codec*.

    Args:
        codec: What to check; it is used, never changed.
        samples: Types and values of them that must come back equal.
        only: One name of `CODEC_CHECKS`; all of them by default.

    Raises:
        AssertionError: A check failed; the message names it and says how.
    """
    for name in [only] if only else CODEC_CHECKS:
        try:
            _CHECKS[name](codec, samples)
        except AssertionError as error:
            raise AssertionError(f"{name} of codec {codec.name!r}: {error}") from error
        except Exception as error:
            text = f"{name} of codec {codec.name!r}: {type(error).__name__}: {error}"
            raise AssertionError(text) from error
