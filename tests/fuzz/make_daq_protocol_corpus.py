"""Conversations to begin with: make_daq_protocol_corpus.py DIRECTORY.

Two bytes for the target, then messages.
"""

import json
import struct
import sys
from pathlib import Path

import pyarrow as pa


def message(header: dict, body: bytes = b"") -> bytes:
    """A message as docs/PROTOCOL.md has it."""
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return b"ESKM" + struct.pack("<HHII", 1, 0, len(text), len(body)) + text + body


def pieces(table: pa.Table) -> tuple[bytes, bytes]:
    """The stream's schema message, and all that comes behind it without the end mark."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=3)
    schema = table.schema.serialize().to_pybytes()
    return schema, sink.getvalue().to_pybytes()[len(schema) : -8]


def write(instrument: str, body: bytes, **more: bool) -> bytes:
    return message({"type": "WriteBatch", "instrument": instrument, **more}, body)


def conversations() -> dict[str, bytes]:
    plain = pa.table(
        {"timestamp": pa.array(range(7), pa.int64()), "voltage": pa.array(range(7), pa.float64())}
    )
    words = pa.table(
        {"word": pa.array(["a", "b", None, "a"]).dictionary_encode(), "list": [[1], [], None, [2, 3]]}
    )
    flush, stats = message({"type": "Flush"}), message({"type": "GetStats"})
    made = {}
    for name, table in {"plain": plain, "words": words}.items():
        schema, batches = pieces(table)
        made[name] = write("scope", schema + batches) + flush
        made[name + "-continues"] = (
            write("scope", schema + batches) + write("scope", batches, continues=True) * 3 + stats
        )
        made[name + "-end"] = write("scope", schema + batches + b"\xff\xff\xff\xff\0\0\0\0")
        made[name + "-again"] = write("scope", schema + batches) * 2 + write("other", schema + batches)
    made["metadata"] = (
        message({"type": "SetMetadata", "key": "operator", "value": "Ada"})
        + message({"type": "SetInstrumentMetadata", "instrument": "scope", "key": "gain", "value": 2.5})
        + message({"type": "SetMetadata", "key": "deep", "value": [[[{"a": None}]]]})
        + flush
    )
    made["hello"] = message({"type": "Hello", "protocol": 1}) + message({"type": "Hello", "protocol": 2})
    made["nonsense"] = message({"type": "Nonsense"}) * 20 + b"ESKM"
    return made


def main() -> None:
    directory = Path(sys.argv[1])
    directory.mkdir(parents=True, exist_ok=True)
    for name, messages in conversations().items():
        for how, first in {"whole": 0xFF, "pieces": 0x09, "no-hello": 0xF8}.items():
            (directory / f"{name}-{how}").write_bytes(bytes([first, 3]) + messages)


main()
