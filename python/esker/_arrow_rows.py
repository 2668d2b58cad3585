"""Record batches into the streams of a run, and rows of a run as record batches."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from esker._arrow import batches, capsule
from esker._errors import InvalidArgument, RangeError, TypeMismatch, call
from esker._handle import Closing, Handle
from esker._native import ffi, lib
from esker._refs import encoded

if TYPE_CHECKING:
    from esker._reader import Reader
    from esker._run import Run

ColumnRules = Mapping[str, str | tuple[str, int]]


def column_rules(columns: ColumnRules) -> str:
    """Codecs and chunk rows of single columns, as `esk_arrow_sink_options.columns` has them."""
    rules = []
    for name, rule in columns.items():
        codec, rows = (rule, 0) if isinstance(rule, str) else rule
        path = "".join(f"%{byte:02X}" if chr(byte) in " ,;@#%" else chr(byte) for byte in name.encode())
        rules.append(f"{path}{'@' + codec if codec else ''}{f'#{rows}' if rows else ''}")
    return " ".join(rules)


class ArrowRows:
    """Rows of a stream for whatever takes Arrow: `pyarrow.table(rows)`, `polars.from_arrow(rows)`.

    Made by `Reader.arrow`. Each taking reads anew; close the reader after what was made of it.
    """

    def __init__(
        self,
        reader: Reader,
        stream: str,
        start: int,
        stop: int | None,
        step: int,
        columns: Sequence[str] | None,
        batch_rows: int,
    ) -> None:
        self._reader = reader
        self._stream = encoded(stream, "stream")
        self._options = ffi.new("esk_arrow_rows *")
        self._options.struct_size = ffi.sizeof("esk_arrow_rows")
        numbers = (start, 2**64 - 1 if stop is None else stop, step, batch_rows)
        if not all(0 <= one < 2**64 for one in numbers) or step == 0:
            raise RangeError(
                f"stream {stream!r}: expected start, stop and batch_rows from 0 on and step from 1 on, found"
                f" {numbers}"
            )
        self._options.start, self._options.stop, self._options.step, self._options.batch_rows = numbers
        if columns is not None:
            if isinstance(columns, str):
                raise TypeMismatch(f"columns: expected a list of names, found the text {columns!r}")
            self._names = [ffi.new("char[]", encoded(name, "columns")) for name in columns]
            self._list = ffi.new("char *[]", [*self._names, ffi.NULL])
            self._options.columns = ffi.cast("char const *const *", self._list)
            self._options.column_count = len(self._names)

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        """The capsule of the C stream interface; another schema than the stream's own is not made."""
        del requested_schema
        with self._reader._handle as reader:
            return capsule(
                "stream",
                lambda out: call(lib.esk_reader_arrow_select, reader, self._stream, self._options, out),
            )


class ArrowSink(Closing):
    """Takes record batches of one schema into a stream of a run.

    Made by `Run.arrow`; for one thread at a time.
    """

    def __init__(
        self,
        run: Run,
        name: str,
        like: Any,
        codec: str | None,
        chunk_rows: int,
        columns: ColumnRules | None,
        units: Mapping[str, str] | None,
        long_names: Mapping[str, str] | None,
    ) -> None:
        self._run = run
        self._what = f"run {run.name!r}, stream {name!r}"
        options = ffi.new("esk_arrow_sink_options *")
        options.struct_size = ffi.sizeof("esk_arrow_sink_options")
        options.chunk_rows = chunk_rows
        keep = []
        for field, value in {
            "codec": codec,
            "columns": None if columns is None else column_rules(columns),
            "units_json": None if units is None else json.dumps(dict(units)),
            "long_names_json": None if long_names is None else json.dumps(dict(long_names)),
        }.items():
            if value is not None:
                keep.append(ffi.new("char[]", encoded(value, field)))
                setattr(options, field, keep[-1])
        pointer = ffi.new("esk_arrow_sink **")
        with run._handle as inside:
            for schema, _ in batches(like):
                call(lib.esk_run_arrow, inside, encoded(name, "stream"), schema, options, pointer)
                break
            else:
                raise InvalidArgument(f"{self._what}: expected a batch to take the schema from, found none")
        self._handle = Handle(pointer[0], self._what, recording=True)
        run._sinks.add(self)

    def __enter__(self) -> ArrowSink:
        return self

    def append(self, batch: Any) -> int:
        """Appends the rows of record batches; acknowledged on return.

        A batch that takes more than one record of the run's ring is appended in several.

        Returns
        -------
        int
            Index of the first row in the stream; -1 where there was none.
        """
        first, row = -1, ffi.new("uint64_t *")
        with self._run._handle, self._handle as sink:
            for schema, array in batches(batch):
                call(lib.esk_arrow_sink_check, sink, schema)
                most, done = lib.esk_arrow_sink_rows_per_record(sink, array), 0
                while done < array.length:
                    rows = min(most, array.length - done)
                    call(lib.esk_arrow_sink_append, sink, array, done, rows, ffi.NULL, 0, row)
                    first = row[0] if first < 0 else first
                    done += rows
        return first

    def close(self) -> None:
        """Frees the sink; the stream stays."""
        pointer = self._handle.take()
        if pointer is not None:
            lib.esk_arrow_sink_close(pointer)

    def __del__(self) -> None:
        if hasattr(self, "_handle"):
            self.close()
