"""Open the codecs that need a library of their own, by name.

Importing fastrpc imports none of those libraries. A codec is opened when somebody
says its name, and where its library is missing, the error says what to install.

Rules of the room:
  * a name is here for good, with its number and its extra in pyproject.toml.
"""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

from fastrpc.codec.contract import Codec
from fastrpc.errors import ConfigError
from fastrpc.wire import Limits


@dataclass(frozen=True, slots=True, kw_only=True)
class Extra:
    """Where a codec is, and what it needs.

    Attributes:
        module: The module it is in.
        cls: Its class there.
        needs: The package whose import tells whether the extra is installed; empty
            if Python has what it needs.
    """

    module: str
    cls: str
    needs: str = ""


#: The codecs that can be opened by name; `pip install fastrpc[name]` brings each.
EXTRAS: Final[Mapping[str, Extra]] = {
    "protobuf": Extra(
        module="fastrpc.codec.protobuf", cls="ProtobufCodec", needs="google.protobuf"
    ),
    "cbor": Extra(module="fastrpc.codec.cbor", cls="CborCodec", needs="cbor2"),
    "arrow": Extra(module="fastrpc.codec.arrow", cls="ArrowCodec", needs="pyarrow"),
    "xml": Extra(module="fastrpc.codec.xml", cls="XmlCodec"),
    "avro": Extra(module="fastrpc.codec.avro", cls="AvroCodec", needs="fastavro"),
    "thrift": Extra(module="fastrpc.codec.thrift", cls="ThriftCodec", needs="thriftpy2"),
}


def extra(name: str, limits: Limits | None = None, **options: Any) -> Codec:
    """Return the codec called *name*, importing its library.

    Args:
        name: One of `EXTRAS`.
        limits: Depth and items that payloads may have.
        options: What else the codec's class takes.

    Raises:
        ConfigError: There is no such codec, or its library is not installed.
    """
    found = EXTRAS.get(name)
    if found is None:
        raise ConfigError(f"there is no codec {name!r} to open; there are {', '.join(EXTRAS)}")
    try:
        make = getattr(importlib.import_module(found.module), found.cls)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if not found.needs or not f"{found.needs}.".startswith(f"{missing}."):
            raise  # something inside the library is missing: say so
        raise ConfigError(
            f"the codec {name!r} needs {found.needs}: pip install 'fastrpc[{name}]'"
        ) from None
    limits = limits if limits is not None else Limits()
    options = {"max_depth": limits.max_depth, "max_items": limits.max_items} | options
    return cast("Codec", make(**options))
