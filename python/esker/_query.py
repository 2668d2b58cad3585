"""Read-only SQL over the catalogue."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from esker._errors import InvalidArgument, NotFound, RangeError, call, text
from esker._native import ffi, lib
from esker._refs import encoded


class Row(tuple[Any, ...]):
    """One row of a query: a tuple whose values are found by name too, `row["name"]` or `row.name`."""

    __slots__ = ()
    columns: tuple[str, ...] = ()

    def __getitem__(self, key: Any) -> Any:
        return tuple.__getitem__(self, self._position(key) if isinstance(key, str) else key)

    def __getattr__(self, name: str) -> Any:
        if name in self.columns:
            return self[name]
        raise AttributeError(f"row: expected one of {', '.join(self.columns)}, found {name!r}")

    def __repr__(self) -> str:
        return (
            f"Row({', '.join(f'{name}={value!r}' for name, value in zip(self.columns, self, strict=True))})"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return _row, (self.columns, tuple(self))

    def keys(self) -> tuple[str, ...]:
        """Names of the columns; `dict(row)` works by it."""
        return self.columns

    def _position(self, name: str) -> int:
        try:
            return self.columns.index(name)
        except ValueError:
            raise NotFound(f"row: expected one of {', '.join(self.columns)}, found {name!r}") from None


class Rows(list[Row]):
    """The rows of a query.

    Attributes
    ----------
    columns : tuple of str
        Names of the columns.
    """

    def __init__(self, columns: tuple[str, ...], rows: Iterator[tuple[Any, ...]]) -> None:
        self.columns = columns
        kind = _row_type(columns)
        super().__init__(kind(row) for row in rows)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rows, (self.columns, [tuple(row) for row in self])


def run_query(store: Any, sql: str, params: Sequence[Any]) -> Rows:
    """Carries out one SELECT on an open `esk_store *`."""
    if isinstance(params, (str, bytes)) or not isinstance(params, Sequence):
        raise InvalidArgument(f"query: expected a sequence of parameters, found {type(params).__name__}")
    pointer = ffi.new("esk_query **")
    call(lib.esk_query_open, store, encoded(sql, "query"), pointer)
    query = pointer[0]
    try:
        for i, value in enumerate(params, 1):
            native, _keep = _native_value(i, value)
            call(lib.esk_query_bind, query, i, native)
        count = lib.esk_query_column_count(query)
        columns = tuple(text(lib.esk_query_column_name(query, i)) for i in range(count))
        return Rows(columns, _step(query, count))
    finally:
        lib.esk_query_close(query)


def _step(query: Any, count: int) -> Iterator[tuple[Any, ...]]:
    there = ffi.new("bool *")
    while True:
        call(lib.esk_query_step, query, there)
        if not there[0]:
            return
        yield tuple(_python_value(lib.esk_query_value(query, i)) for i in range(count))


def _python_value(value: Any) -> Any:
    if value.kind == lib.ESK_NULL:
        return None
    if value.kind == lib.ESK_INTEGER:
        return value.integer
    if value.kind == lib.ESK_REAL:
        return value.real
    data = ffi.unpack(ffi.cast("char *", value.data), value.size) if value.size else b""
    return data.decode("utf-8", "replace") if value.kind == lib.ESK_TEXT else data


def _native_value(index: int, value: Any) -> tuple[Any, Any]:
    native = ffi.new("esk_value *")
    data: bytes | None = None
    value = value.item() if hasattr(value, "item") and hasattr(value, "dtype") else value
    if value is None:
        native.kind = lib.ESK_NULL
    elif isinstance(value, int):
        if not -(2**63) <= value < 2**63:
            raise RangeError(f"query, parameter {index}: expected an integer of 64 bits, found {value}")
        native.kind, native.integer = lib.ESK_INTEGER, int(value)
    elif isinstance(value, float):
        native.kind, native.real = lib.ESK_REAL, value
    elif isinstance(value, str):
        native.kind, data = lib.ESK_TEXT, value.encode()
    elif isinstance(value, (bytes, bytearray, memoryview)):
        native.kind, data = lib.ESK_BLOB, bytes(value)
    else:
        raise InvalidArgument(
            f"query, parameter {index}: expected None, int, float, str or bytes, found {type(value).__name__}"
        )
    if data is None:
        return native, None
    buffer = ffi.new("char[]", data + b"\0")
    native.data, native.size = buffer, len(data)
    return native, buffer


def _row_type(columns: tuple[str, ...]) -> type[Row]:
    return type("Row", (Row,), {"__slots__": (), "columns": columns})


def _row(columns: tuple[str, ...], values: tuple[Any, ...]) -> Row:
    return _row_type(columns)(values)


def _rows(columns: tuple[str, ...], rows: list[tuple[Any, ...]]) -> Rows:
    return Rows(columns, iter(rows))
