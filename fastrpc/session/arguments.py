"""Read the arguments of a call that the lane could not read, or say what is wrong.

Arguments by name, codecs that need an agreement, payloads with bits, and whatever
does not fit: rare, so plain Python will do, and words count more than time.

Rules of the room:
  * what is wrong is an error with the status to answer, its text names the method.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fastrpc.call import read_arguments
from fastrpc.codec import Codec, is_typed_only
from fastrpc.errors import ConfigError, FastRPCError, InvalidArgument, TooLarge, Unsupported
from fastrpc.frame import Frame
from fastrpc.session import failure
from fastrpc.session.routes import Route

if TYPE_CHECKING:
    from fastrpc.session.session import Session


def read(session: "Session", route: Route, frame: Frame) -> tuple[Sequence[Any], Mapping[str, Any]]:
    """Return the arguments to call the handler with, checked and converted.

    Raises:
        InvalidArgument: They don't fit.
        TooLarge: They are over a limit.
        Unsupported: The codec can't carry them.
    """
    name = route.info.name
    codec = session.side.by_number[frame.serializer]
    try:
        if is_typed_only(codec):
            return _read_message(session, route, codec, frame), {}
        decoded = session.payloads.read(frame, codec, codec.decode)
    except (TooLarge, InvalidArgument, Unsupported) as error:
        raise type(error)(f"{name}: {failure.text_of(error)}") from None
    except Exception as error:
        text = f"{name}: arguments can't be decoded as {codec.name}: {failure.text_of(error)}"
        raise InvalidArgument(text) from None
    return read_arguments(route.info, decoded, codec.convert)


def _read_message(session: "Session", route: Route, codec: Codec, frame: Frame) -> Sequence[Any]:
    """Read the one argument that only its annotation can tell how to read."""
    try:
        args: Sequence[Any] = session.payloads.read(frame, codec, route.message_decoder(codec))
        return args
    except ConfigError as error:
        raise Unsupported(str(error)) from None
    except FastRPCError as error:
        if isinstance(error, TooLarge | Unsupported):
            raise
        raise InvalidArgument(f"argument: {failure.text_of(error)}") from None
