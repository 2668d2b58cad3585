"""Arrow IPC streams of every type that becomes columns, small: seeds for damage.

``make_arrow_store_corpus.py DIRECTORY`` writes them.
"""

import decimal
import sys
from pathlib import Path

import pyarrow as pa
from pyarrow import ipc


def columns():
    """Name and array of each seed."""
    numbers = [1, None, -3, 4, 5]
    yield "numbers", pa.array(numbers, pa.int32())
    yield "bools", pa.array([True, None, False, True, True])
    yield "halves", pa.array([1.5, None, 2.0, 0.0, -1.0], pa.float16())
    yield "texts", pa.array(["a", None, "漢字", "", "long enough for eight bytes"])
    yield "large_texts", pa.array(["a", None, "ß", "", "x"], pa.large_utf8())
    yield "bytes", pa.array([b"\0", None, b"abc", b"", b"x"])
    yield "fixed_bytes", pa.array([b"ab", None, b"\0\0", b"cd", b"ef"], pa.binary(2))
    yield "nothing", pa.nulls(5)
    yield "times", pa.array(numbers, pa.timestamp("ns", "UTC"))
    amounts = [None if n is None else decimal.Decimal(n) / 4 for n in numbers]
    yield "decimals", pa.array(amounts, pa.decimal128(6, 2))
    lists = [[1, None], None, [], [3], [4, 5, 6]]
    yield "lists", pa.array(lists, pa.list_(pa.int16()))
    yield "large_lists", pa.array(lists, pa.large_list(pa.int64()))
    yield "nested", pa.array([[["a"], None], None, [[]], [["b", None]], []])
    yield "pairs", pa.array([[1, 2], None, [3, None], [5, 6], [7, 8]], pa.list_(pa.float32(), 2))
    inner = pa.list_(pa.list_(pa.bool_(), 2), 1)
    yield "pairs_of_pairs", pa.array([[[True, None]], [None], None, [[False, True]], [None]], inner)
    yield "structs", pa.array([{"a": 1, "b": [2]}, None, {"a": None, "b": None}, {"a": 3, "b": []}, None])
    yield "words", pa.array(["x", None, "y", "x", "z"]).dictionary_encode()
    coded = pa.DictionaryArray.from_arrays(pa.array([0, 2, 1, None, 0], pa.uint8()), pa.array([7, 7, None]))
    yield "codes", coded
    yield "maps", pa.array([[("k", 1)], None, [], [("l", None)], []], pa.map_(pa.utf8(), pa.int8()))


def main():
    folder = Path(sys.argv[1])
    arrays = dict(columns())
    sets = {name: {name: array} for name, array in arrays.items()} | {"all": arrays}
    for name, chosen in sets.items():
        batch = pa.RecordBatch.from_pydict(chosen)
        with ipc.new_stream(folder / name, batch.schema) as writer:
            writer.write_batch(batch)
            writer.write_batch(batch.slice(1, 3))


main()
