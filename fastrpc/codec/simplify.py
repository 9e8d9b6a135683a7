"""Make plain values of typed ones, for engines that know plain values only.

What comes out is what msgspec would write, so both engines send the same.

Rules of the room:
  * exactly the types named in the documentation; a subclass of int or str is
    refused, because it would come back as something else.
"""

import base64
import dataclasses
import datetime as dt
import decimal
import enum
import math
import uuid
from collections.abc import Callable
from typing import Any, NoReturn

from fastrpc.codec.buffers import is_array, nested, scalar_of


def refuse(value: object) -> NoReturn:
    """Raise the error for a *value* that no codec can send."""
    raise TypeError(
        f"values of type {type(value).__name__} can't be sent; use a dataclass or plain values"
    )


def simplify(value: Any) -> Any:
    """Return *value* one step plainer; its parts may need further steps.

    Raises:
        TypeError: It can't be sent.
    """
    if isinstance(value, enum.Enum):
        return value.value
    text = _TEXTS.get(type(value))
    if text is not None:
        return text(value)
    if isinstance(value, dict):
        return dict(value)
    if isinstance(value, list | tuple | set | frozenset):
        return list(value)
    if is_array(value):
        return nested(value)
    plain = scalar_of(value)
    if plain is not None:
        return plain
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: getattr(value, field.name)
            for field in dataclasses.fields(value)
            if _is_set(value, field.name)
        }
    refuse(value)


def _is_set(record: Any, name: str) -> bool:
    # A field with init=False may live on the class only; such a one is not sent.
    state = getattr(record, "__dict__", None)
    return name in state if state is not None else hasattr(record, name)


def _offset_to_minutes(zone: dt.timedelta | None) -> str:
    """Return a time zone's offset as text; seconds are rounded, as RFC 3339 has none."""
    if zone is None:
        return ""
    minutes = round(abs(zone.total_seconds()) / 60)
    if minutes == 0:
        return "Z"
    sign = "-" if zone < dt.timedelta(0) else "+"
    return f"{sign}{minutes // 60:02}:{minutes % 60:02}"


def moment_text(value: dt.datetime | dt.time) -> str:
    """Return a datetime or time as RFC 3339 text."""
    return value.replace(tzinfo=None).isoformat() + _offset_to_minutes(value.utcoffset())


def duration_text(value: dt.timedelta) -> str:
    """Return a duration as ISO 8601 text in days and seconds."""
    sign, value = ("-", -value) if value < dt.timedelta(0) else ("", value)
    text = f"{sign}P{value.days}D" if value.days else f"{sign}P"
    if value.seconds or value.microseconds:
        fraction = f".{value.microseconds:06}".rstrip("0") if value.microseconds else ""
        return f"{text}T{value.seconds}{fraction}S"
    return text if value.days else f"{sign}P0D"


_TEXTS: dict[type, Callable[[Any], str]] = {
    dt.datetime: moment_text,
    dt.date: dt.date.isoformat,
    dt.time: moment_text,
    dt.timedelta: duration_text,
    uuid.UUID: str,
    decimal.Decimal: str,
}


def jsonable(value: Any) -> Any:
    """Return *value* made of what JSON has, all the way down.

    Raises:
        TypeError: Some part of it can't be sent.
    """
    plain = type(value)
    if value is None or plain in (bool, int, str):
        return value
    if plain is float:
        return value if math.isfinite(value) else None
    if plain in (bytes, bytearray, memoryview):
        return base64.b64encode(value).decode()
    if plain is dict:
        return {_key(key): jsonable(item) for key, item in value.items()}
    if plain is list:
        return [jsonable(item) for item in value]
    return jsonable(simplify(value))


def _key(key: Any) -> str:
    if isinstance(key, enum.Enum):
        key = key.value
    plain = type(key)
    if plain is str:
        return key  # type: ignore[no-any-return]
    if plain in (int, float):
        return repr(key)
    if plain in (bytes, bytearray, memoryview) or plain in _TEXTS:
        return jsonable(key)  # type: ignore[no-any-return]
    refuse(key)
