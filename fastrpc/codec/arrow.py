"""Speak Arrow with pyarrow: a table, or one batch of it, is the argument.

The bytes are an Arrow IPC stream. Tables bring their own schema, so both sides may have
different ones; who wants certain columns says so with `Annotated[pa.Table, schema]`.

Rules of the room:
  * pyarrow sees only what `arrow_limits` let pass, and validates the rest in full;
  * what it raises becomes a `CodecError` without its words.
"""

import typing
from collections.abc import Callable
from typing import Any, ClassVar, cast

import pyarrow as pa  # type: ignore[import-untyped]
from pyarrow import ipc

from fastrpc.codec.arrow_limits import check_arrow
from fastrpc.codec.contract import Mismatch
from fastrpc.codec.messages import MessageCodec, Read
from fastrpc.errors import CodecError
from fastrpc.wire import Serializer


class ArrowCodec(MessageCodec):
    """Speak Arrow IPC: a table or record batch is the argument, another the result.

    Args:
        max_depth: Deepest nesting of a column's type.
        max_items: Most fields of the schema and columns of all batches together.
    """

    name = "arrow"
    serializer = int(Serializer.ARROW)
    carries: ClassVar[str] = "a pyarrow.Table or RecordBatch"

    def write(self, message: Any) -> bytes:
        """Return a table or batch as an IPC stream."""
        if not isinstance(message, pa.Table | pa.RecordBatch):
            raise CodecError(
                f"the arrow codec carries {self.carries}, got {type(message).__name__}"
            )
        sink = pa.BufferOutputStream()
        with ipc.new_stream(sink, message.schema) as stream:
            stream.write(message)
        data = cast("bytes", sink.getvalue().to_pybytes())
        check_arrow(data, self.max_depth, self.max_items)  # what nobody takes is not sent
        return data

    def reader(self, wanted: Any) -> Read:
        """Return the function that reads tables or batches."""
        fit: Callable[[Any], Any] = _as_it_is
        cls = wanted
        if typing.get_origin(wanted) is typing.Annotated:
            cls, *notes = typing.get_args(wanted)
            schemas = [note for note in notes if isinstance(note, pa.Schema)]
            fit = _fitter(schemas[0]) if schemas else fit
        if cls is not pa.Table and cls is not pa.RecordBatch:
            self.refuse(wanted)

        def read(data: bytes) -> Any:
            data = bytes(data)
            check_arrow(data, self.max_depth, self.max_items)
            try:
                table = ipc.open_stream(pa.py_buffer(data)).read_all()
                table.validate(full=True)
            except Exception as error:
                raise CodecError(
                    f"the Arrow stream can't be read ({type(error).__name__})"
                ) from None
            table = fit(table)
            return table if cls is pa.Table else _one_batch(table)

        return read


def _as_it_is(table: Any) -> Any:
    return table


def _one_batch(table: Any) -> Any:
    batches = table.to_batches()
    if len(batches) > 1:
        raise Mismatch(f"expected one record batch, got {len(batches)}")
    return batches[0] if batches else pa.RecordBatch.from_pylist([], table.schema)


def _fitter(schema: Any) -> Callable[[Any], Any]:
    """Return what makes a table have the columns of *schema*.

    Columns it does not name are left out, missing ones are null, and numbers are widened.
    """

    def fit(table: Any) -> Any:
        columns = [_column(table, field) for field in schema]
        return pa.Table.from_arrays(columns, schema=schema)

    return fit


def _column(table: Any, field: Any) -> Any:
    places = table.schema.get_all_field_indices(field.name)
    where = f"column {field.name!r}"
    if len(places) > 1:
        raise Mismatch("it comes more than once", where)
    if not places:
        if not field.nullable:
            raise Mismatch("it is missing", where)
        return pa.nulls(table.num_rows, field.type)
    column = table.column(places[0])
    if column.null_count and not field.nullable:
        raise Mismatch("it has nulls", where)
    if column.type == field.type:
        return column
    if not (_is_number(column.type) and _is_number(field.type)):
        raise Mismatch(f"expected {field.type}, got another type", where)
    try:
        return column.cast(field.type)
    except pa.ArrowInvalid:
        raise Mismatch(f"expected {field.type}, got numbers out of its range", where) from None


def _is_number(kind: Any) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))
