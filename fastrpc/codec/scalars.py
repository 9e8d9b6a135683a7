"""Read single values: numbers, texts, bytes, times, enumerations.

Times have the text forms of RFC 3339, durations those of ISO 8601 with days,
hours, minutes and seconds: the forms msgspec writes and reads.

Rules of the room:
  * strict: nothing is guessed, "1" is not an int and 1 is not a bool;
  * patterns have no nested repeats, so no text takes long to refuse.
"""

import binascii
import datetime as dt
import decimal
import enum
import re
import uuid
from collections.abc import Callable, Iterable
from typing import Any

from fastrpc.codec.contract import Mismatch
from fastrpc.codec.reader import Dialect, Group, Reader, expected, malformed
from fastrpc.errors import ConfigError

_INT64 = range(-(2**63), 2**63)


def scalar(wanted: object, dialect: Dialect) -> Reader | None:
    """Return the reader of a single-valued type, None if *wanted* is none."""
    if wanted is None:
        return _none(dialect)
    if not isinstance(wanted, type) or wanted not in _SCALARS:
        return None
    reader = _SCALARS[wanted](dialect)
    return accepting(wanted, reader) if dialect.native else reader


def accepting(cls: type, reader: Reader) -> Reader:
    """Return *reader* made to let instances of *cls* through as they are."""
    read = reader.read

    def read_or_pass(value: Any) -> Any:
        if isinstance(value, cls) and not (cls is int and isinstance(value, bool)):
            return value
        return read(value)

    return Reader(reader.name, reader.group, (*reader.takes, cls), read_or_pass, reader.weak)


def _none(dialect: Dialect) -> Reader:
    def read(value: Any) -> None:
        if value is not None:
            raise expected("None", value)

    return Reader("None", Group.NULL, (type(None),), read)


def _exactly(cls: type, group: Group) -> Callable[[Dialect], Reader]:
    def read(value: Any) -> Any:
        if type(value) is not cls:
            raise expected(cls.__name__, value)
        return value

    return lambda dialect: Reader(cls.__name__, group, (cls,), read)


def _int(dialect: Dialect) -> Reader:
    def read(value: Any) -> int:
        if type(value) is not int:
            raise expected("int", value)
        return value

    return Reader("int", Group.INT, (int,), read, weak=dialect.big_ints)


def _float(dialect: Dialect) -> Reader:
    def read(value: Any) -> float:
        if type(value) is float:
            return value
        if type(value) is not int:
            raise expected("float", value)
        try:
            return float(value)
        except OverflowError:
            raise Mismatch("expected float, got int out of range") from None

    return Reader("float", Group.FLOAT, (float, int), read)


def _bytes(cls: type) -> Callable[[Dialect], Reader]:
    def read(value: Any) -> Any:
        if type(value) is not bytes:
            raise expected(cls.__name__, value)
        return value if cls is bytes else cls(value)

    def read_text(value: Any) -> Any:
        if type(value) is not str:
            raise expected(f"{cls.__name__} as base64 text", value)
        try:
            data = binascii.a2b_base64(value, strict_mode=True)
        except ValueError:
            raise malformed(f"{cls.__name__} as base64 text", value) from None
        return data if cls is bytes else cls(data)

    def make(dialect: Dialect) -> Reader:
        if dialect.text_only:
            return Reader(cls.__name__, Group.TEXT, (str,), read_text)
        return Reader(cls.__name__, Group.TEXT, (bytes,), read)

    return make


def _from_text(
    cls: type, parse: Callable[[str], Any], also: tuple[type, ...] = (), weak: bool = False
) -> Callable[[Dialect], Reader]:
    """Return a maker of readers for a class that travels as text."""
    name = cls.__name__

    def read(value: Any) -> Any:
        if type(value) is not str:
            if type(value) is cls:
                return value
            raise expected(name, value)
        try:
            return parse(value)
        except (ValueError, OverflowError, ArithmeticError):
            raise malformed(name, value) from None

    return lambda dialect: Reader(name, Group.TEXT, (str, *also), read, weak)


_DATE = r"([0-9]{4})-([0-9]{2})-([0-9]{2})"
_TIME = r"([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]+))?(?:([Zz])|([+-])([0-9]{2}):?([0-9]{2}))?"
_DATE_FORM = re.compile(_DATE)
_TIME_FORM = re.compile(_TIME)
_DATETIME_FORM = re.compile(f"{_DATE}[Tt ]{_TIME}")
_NUMBER = r"(?:([0-9]+)(?:\.([0-9]+))?"
_DURATION_FORM = re.compile(
    rf"([+-]?)[Pp]{_NUMBER}[Dd])?(?:([Tt]){_NUMBER}[Hh])?{_NUMBER}[Mm])?{_NUMBER}[Ss])?)?"
)
# Longer numbers than this are out of any duration's range, fractions finer than any clock.
_DIGITS_MAX = 20


def _match(form: re.Pattern[str], text: str) -> tuple[str | None, ...]:
    match = form.fullmatch(text)
    if match is None:
        raise ValueError(text)
    return match.groups()


def _fraction(digits: str | None) -> int:
    """Return microseconds, rounded by the seventh digit."""
    if digits is None:
        return 0
    return int(digits[:6].ljust(6, "0")) + (digits[6:7] >= "5")


def _zone(utc: str | None, sign: str | None, hours: Any, minutes: Any) -> dt.timezone | None:
    if utc is not None:
        return dt.UTC
    if sign is None:
        return None
    if int(hours) > 23 or int(minutes) > 59:
        raise ValueError(hours, minutes)
    away = dt.timedelta(hours=int(hours), minutes=int(minutes))
    return dt.timezone(-away if sign == "-" else away) if away else dt.UTC


def _parse_date(text: str) -> dt.date:
    year, month, day = map(int, _match(_DATE_FORM, text))  # type: ignore[arg-type]
    return dt.date(year, month, day)


def _parse_datetime(text: str) -> dt.datetime:
    parts = _match(_DATETIME_FORM, text)
    fraction, *zone = parts[6:]
    whole = dt.datetime(*map(int, parts[:6]))  # type: ignore[arg-type]
    moment = whole + dt.timedelta(microseconds=_fraction(fraction))
    return moment.replace(tzinfo=_zone(*zone))


def _parse_time(text: str) -> dt.time:
    hour, minute, second, fraction, *zone = _match(_TIME_FORM, text)
    start = dt.datetime(2000, 1, 1, *map(int, (hour, minute, second)))  # type: ignore[arg-type]
    moment = start + dt.timedelta(microseconds=_fraction(fraction))  # may pass midnight
    return moment.time().replace(tzinfo=_zone(*zone))


def _parse_duration(text: str) -> dt.timedelta:
    sign, days, day_part, clock, *rest = _match(_DURATION_FORM, text)
    parts = [(days, day_part, 86_400), *zip(rest[::2], rest[1::2], (3600, 60, 1), strict=True)]
    given = [(whole, part, unit) for whole, part, unit in parts if whole is not None]
    if not given or (clock is not None and not any(rest)):
        raise ValueError(text)
    if any(part is not None for _, part, _ in given[:-1]):
        raise ValueError(text)  # only the smallest unit may have a fraction
    total = 0
    for whole, part, unit in given:
        if len(whole) > _DIGITS_MAX:
            raise ValueError(text)
        total += int(whole) * unit * 1_000_000
        if part is not None:
            part = part[:_DIGITS_MAX]
            total += (int(part) * unit * 2_000_000 // 10 ** len(part) + 1) // 2
    return dt.timedelta(microseconds=-total if sign == "-" else total)


_UUID_FORM = re.compile(r"[0-9a-fA-F]{32}|[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


def _parse_uuid(text: str) -> uuid.UUID:
    _match(_UUID_FORM, text)
    return uuid.UUID(text)


def _uuid(dialect: Dialect) -> Reader:
    reader = _from_text(uuid.UUID, _parse_uuid)(dialect)
    from_text = reader.read

    def read(value: Any) -> uuid.UUID:
        if type(value) is not bytes or dialect.text_only:
            return from_text(value)  # type: ignore[no-any-return]
        if len(value) != 16:
            raise malformed("UUID", value)
        return uuid.UUID(bytes=value)

    return Reader("UUID", Group.TEXT, (str, bytes), read, weak=True)


def _decimal(dialect: Dialect) -> Reader:
    from_text = _from_text(decimal.Decimal, decimal.Decimal)(dialect).read

    def read(value: Any) -> decimal.Decimal:
        if type(value) is int:
            return decimal.Decimal(value)
        if type(value) is float:
            return decimal.Decimal(str(value))
        return from_text(value)  # type: ignore[no-any-return]

    return Reader("Decimal", Group.TEXT, (str, int, float), read, weak=True)


_SCALARS: dict[type, Callable[[Dialect], Reader]] = {
    type(None): _none,
    bool: _exactly(bool, Group.BOOL),
    int: _int,
    float: _float,
    str: _exactly(str, Group.TEXT),
    bytes: _bytes(bytes),
    bytearray: _bytes(bytearray),
    memoryview: _bytes(memoryview),
    dt.datetime: _from_text(dt.datetime, _parse_datetime, (dt.datetime,)),
    dt.date: _from_text(dt.date, _parse_date),
    dt.time: _from_text(dt.time, _parse_time),
    dt.timedelta: _from_text(dt.timedelta, _parse_duration),
    uuid.UUID: _uuid,
    decimal.Decimal: _decimal,
}


def enumeration(cls: type[enum.Enum], dialect: Dialect) -> Reader:
    """Return the reader of an enumeration; members travel as their values.

    Raises:
        ConfigError: Its values are not all int or all str.
    """
    values = [member.value for member in cls]
    wire, group = _value_type(values, f"enum {cls.__name__}")
    shown = one_of(values)

    def read(value: Any) -> enum.Enum:
        if type(value) is not wire:
            raise expected(shown, value)
        try:
            return cls(value)
        except (ValueError, TypeError):
            raise Mismatch(f"expected {shown}, got another {wire.__name__}") from None

    reader = Reader(cls.__name__, group, (wire,), read)
    return accepting(cls, reader) if dialect.native else reader


def literals(values: Iterable[object]) -> list[Reader]:
    """Return the readers of literal *values*, one for each kind of value.

    Raises:
        ConfigError: A value is not None, bool, int or str.
    """
    by_type: dict[type, list[Any]] = {}
    for value in values:
        by_type.setdefault(type(value), []).append(value)
    readers = []
    for wire, same in by_type.items():
        if wire is type(None):
            readers.append(_none(Dialect()))
            continue
        if wire is not bool:
            _value_type(same, "Literal")
        readers.append(_one_literal(wire, same))
    return readers


def _one_literal(wire: type, values: list[Any]) -> Reader:
    allowed = frozenset(values)
    shown = one_of(values)

    def read(value: Any) -> Any:
        if type(value) is not wire:
            raise expected(shown, value)
        if value not in allowed:
            raise Mismatch(f"expected {shown}, got another {wire.__name__}")
        return value

    group = {bool: Group.BOOL, int: Group.INT, str: Group.TEXT}[wire]
    return Reader(f"Literal[{', '.join(map(repr, values))}]", group, (wire,), read)


def one_of(values: Iterable[object]) -> str:
    """Return the allowed *values* as errors list them, ten at most."""
    listed = [repr(value) for value in values]
    text = ", ".join(listed[:10]) + (", ..." if len(listed) > 10 else "")
    return f"one of {text}" if len(listed) > 1 else text


def _value_type(values: list[Any], what: str) -> tuple[type, Group]:
    if values and all(isinstance(value, str) for value in values):
        return str, Group.TEXT
    if values and all(isinstance(v, int) and not isinstance(v, bool) for v in values):
        if all(value in _INT64 for value in values):
            return int, Group.INT
        raise ConfigError(f"{what}: values must fit into 64 bits")
    raise ConfigError(f"{what}: values must be all int or all str, so that they can be sent")
