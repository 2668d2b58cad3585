"""What instruments declared in a ring, and their record batches as anything that takes Arrow takes them."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from esker._arrow import capsule
from esker._errors import TypeMismatch, call, text
from esker._native import ffi, lib

if TYPE_CHECKING:
    from esker.daq._ring import Record, RingBuffer


@dataclasses.dataclass(frozen=True)
class Declaration:
    """What a record's `stream` means: an instrument and the schema of its batches.

    Made by `RingBuffer.declaration`. It is its schema for whatever takes Arrow's:
    `pyarrow.schema(declaration)`.
    """

    ring: RingBuffer = dataclasses.field(repr=False)
    number: int
    instrument: str

    def __arrow_c_schema__(self) -> Any:
        """The capsule of the schema; the ring has to be open."""
        return _read(self.ring, self.number)[1]


class Batch:
    """One record batch of an instrument: `pyarrow.record_batch(batch)`, `session.write_batch("x", batch)`.

    Made by `RingBuffer.batch`, and by the `batches` of taps and consumers. Each taking decodes anew; the ring
    has to be open for it.
    """

    def __init__(self, declaration: Declaration, record: Record) -> None:
        self.declaration = declaration
        self.record = record
        """The record that it came in, with position, sequence and losses."""

    def __repr__(self) -> str:
        return f"<esker.daq.Batch {self.record.sequence} of {self.instrument!r}>"

    @property
    def instrument(self) -> str:
        """Whose it is."""
        return self.declaration.instrument

    def __arrow_c_schema__(self) -> Any:
        """The capsule of the schema."""
        return self.declaration.__arrow_c_schema__()

    def __arrow_c_array__(self, requested_schema: Any = None) -> tuple[Any, Any]:
        """The capsules of schema and array; another schema than the instrument's own is not made."""
        del requested_schema
        payload, number = self.record.payload, self.declaration.number
        with self.declaration.ring._handle as ring:
            array = capsule(
                "array",
                lambda out: call(
                    lib.esk_daq_read_batch, ring, number, ffi.from_buffer(payload), len(payload), out
                ),
            )
        return self.__arrow_c_schema__(), array


def read_declaration(ring: RingBuffer, number: int) -> Declaration:
    """The instrument's declaration of that number."""
    return Declaration(ring, number, _read(ring, number)[0])


def check_batch(record: Record) -> None:
    """Raises unless the record holds a batch."""
    if record.kind != lib.ESK_DAQ_BATCH:
        raise TypeMismatch(f"record {record.sequence}: expected a record batch, found kind {record.kind}")


def _read(ring: RingBuffer, number: int) -> tuple[str, Any]:
    instrument = ffi.new("char[]", lib.ESK_DAQ_MAX_INSTRUMENT + 1)
    with ring._handle as inside:
        schema = capsule(
            "schema", lambda out: call(lib.esk_daq_read_declaration, inside, number, instrument, out)
        )
    return text(instrument), schema
