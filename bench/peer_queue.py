"""Python's own queue between processes, as ring_rows.py's peer: one process puts, another gets. Prints one JSON object.

peer_queue.py SIZE RECORDS
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import time


def consume(queue: multiprocessing.Queue, done: multiprocessing.Queue, records: int) -> None:
    """Takes `records` records and tells when it had the last."""
    done.put(0.0)
    for _ in range(records):
        queue.get()
    done.put(time.monotonic())


def main() -> None:
    """Puts and prints the rate."""
    size, records = int(sys.argv[1]), int(sys.argv[2])
    queue: multiprocessing.Queue = multiprocessing.Queue()
    done: multiprocessing.Queue = multiprocessing.Queue()
    consumer = multiprocessing.Process(target=consume, args=(queue, done, records))
    consumer.start()
    done.get()
    record = os.urandom(size)
    started = time.monotonic()
    for _ in range(records):
        queue.put(record)
    seconds = done.get() - started
    consumer.join()
    print(json.dumps({"seconds": seconds, "records_per_s": records / seconds}))


if __name__ == "__main__":
    main()
