"""Say what a call is about: the service behind it, its arguments, its metadata, its errors.

Rules of the room:
  * services are described once, when they are registered;
  * nothing here knows bytes of arguments: a codec's `convert` is passed in.
"""

from fastrpc.call.binding import (
    Bound,
    bind,
    explain,
    fill,
    positional_types,
    read_arguments,
    split_payload,
)
from fastrpc.call.context import (
    GIVEN,
    Call,
    Handler,
    Interceptor,
    Peer,
    Reply,
    chain,
    check_interceptors,
    checked,
    close_items,
)
from fastrpc.call.diff import RULES, Change, ChangeKind, compare
from fastrpc.call.document import method_schema, write_document
from fastrpc.call.exceptions import ErrorClasses, ErrorRegistry
from fastrpc.call.identity import Identity, read_identity
from fastrpc.call.metadata import Metadata, Pairs, decode_metadata, encode_metadata
from fastrpc.call.method import method_key
from fastrpc.call.reading import read_document
from fastrpc.call.refusal import Refusal, class_named, refusal_of
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
    "GIVEN",
    "RULES",
    "Bound",
    "Call",
    "Change",
    "ChangeKind",
    "ErrorClasses",
    "ErrorRegistry",
    "Handler",
    "Identity",
    "Interceptor",
    "Metadata",
    "MethodInfo",
    "Mode",
    "Pairs",
    "Parameter",
    "Peer",
    "Refusal",
    "Reply",
    "ServiceInfo",
    "Traits",
    "bind",
    "chain",
    "check_interceptors",
    "check_name",
    "checked",
    "class_named",
    "close_items",
    "compare",
    "decode_metadata",
    "describe_service",
    "encode_metadata",
    "explain",
    "fill",
    "method_key",
    "method_schema",
    "positional_types",
    "read_arguments",
    "read_document",
    "read_identity",
    "refusal_of",
    "rpc",
    "split_payload",
    "write_document",
]
