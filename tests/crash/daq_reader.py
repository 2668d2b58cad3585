"""Opens files with stock h5py, reads and waits, again and again, until it is killed: see crash_daq.py.

    daq_reader.py FILE...

What was there stays there: a column of a segment never has fewer rows than before.
"""

from __future__ import annotations

import random
import sys
import time

import h5py

TRIES = 100  # in the moment in which a commit is applied a file cannot be read


def rows_of(path: str) -> dict[str, int]:
    """Rows of every growing dataset, by segment and name; what is newest of each is read."""
    with h5py.File(path) as file:
        segment = int(file.attrs["esker_segment"][0])
        rows: dict[str, int] = {}

        def visit(name: str, item: h5py.HLObject) -> None:
            if isinstance(item, h5py.Dataset) and item.maxshape[:1] == (None,):
                rows[f"{path} {segment} {name}"] = len(item)
                item[-10:]

        file.visititems(visit)
        time.sleep(random.choice([0, 0.02, 0.1]))  # and holds it open
        return rows


def main(paths: list[str]) -> int:
    seen: dict[str, int] = {}
    fewer = 0
    while True:
        try:
            rows = rows_of(random.choice(paths))
        except (OSError, KeyError, RuntimeError, ValueError):
            time.sleep(0.005)
            continue
        gone = [name for name, count in rows.items() if count < seen.get(name, 0)]
        fewer = fewer + 1 if gone else 0
        if fewer > TRIES:
            print("rows are gone of", *gone, file=sys.stderr)
            return 1
        seen.update({name: count for name, count in rows.items() if count >= seen.get(name, 0)})


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
