"""Speak Thrift with thriftpy2: structs of a .thrift file, in the binary protocol.

The compiled protocol of thriftpy2 hands out memory of the process when a length lies.
So the one in Python is used, and `thrift_limits` looks first.

Rules of the room:
  * what the library raises becomes a `CodecError` without its words.
"""

import io
from typing import Any, ClassVar, Final

from thriftpy2.protocol.binary import TBinaryProtocol
from thriftpy2.thrift import TPayload

from fastrpc.codec.messages import MessageCodec, Read
from fastrpc.codec.thrift_limits import check_thrift
from fastrpc.errors import CodecError

#: Serializer number of Thrift: one of those that HELLO names for a connection.
THRIFT: Final = 31


class ThriftCodec(MessageCodec):
    """Speak Thrift: a struct is the argument, another the result.

    Args:
        max_depth: Deepest nesting of a struct.
        max_items: Most fields and elements of a struct, all together.
    """

    name = "thrift"
    serializer = THRIFT
    carries: ClassVar[str] = "a struct of thriftpy2"

    def write(self, message: Any) -> bytes:
        """Return a struct as bytes."""
        if not _is_struct(type(message)):
            raise CodecError(
                f"the thrift codec carries {self.carries}, got {type(message).__name__}"
            )
        stream = io.BytesIO()
        try:
            self._protocol(stream).write_struct(message)
        except Exception as error:
            raise CodecError(
                f"this {type(message).__name__} does not fit its Thrift struct "
                f"({type(error).__name__})"
            ) from None
        return stream.getvalue()

    def reader(self, wanted: Any) -> Read:
        """Return the function that reads structs of a class."""
        if not _is_struct(wanted):
            self.refuse(wanted)

        def read(data: bytes) -> Any:
            data = bytes(data)
            check_thrift(data, wanted, self.max_depth, self.max_items)
            message, stream = wanted(), io.BytesIO(data)
            try:
                self._protocol(stream).read_struct(message)
            except Exception as error:
                raise CodecError(
                    f"Thrift data can't be read as {wanted.__name__} ({type(error).__name__})"
                ) from None
            if stream.tell() != len(data):  # the walk and thriftpy2 disagree
                raise CodecError(f"Thrift data can't be read as {wanted.__name__}")
            return message

        return read

    def _protocol(self, stream: io.BytesIO) -> Any:
        make: Any = TBinaryProtocol
        return make(stream, strict_decode=True, max_depth=self.max_depth)


def _is_struct(wanted: Any) -> bool:
    return isinstance(wanted, type) and issubclass(wanted, TPayload) and wanted is not TPayload
