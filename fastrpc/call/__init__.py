"""Say what a call is about: the service behind it, its arguments, its metadata, its errors.

Rules of the room:
  * services are described once, when they are registered;
  * nothing here knows bytes of arguments: a codec's `convert` is passed in.
"""

from fastrpc.call.binding import Bound, bind, explain, read_arguments, split_payload
from fastrpc.call.exceptions import ErrorClasses, ErrorRegistry
from fastrpc.call.metadata import decode_metadata, encode_metadata
from fastrpc.call.service import (
    MethodInfo,
    Mode,
    Parameter,
    ServiceInfo,
    Traits,
    check_name,
    describe_service,
    rpc,
)

__all__ = [
    "Bound",
    "ErrorClasses",
    "ErrorRegistry",
    "MethodInfo",
    "Mode",
    "Parameter",
    "ServiceInfo",
    "Traits",
    "bind",
    "check_name",
    "decode_metadata",
    "describe_service",
    "encode_metadata",
    "explain",
    "read_arguments",
    "rpc",
    "split_payload",
]
