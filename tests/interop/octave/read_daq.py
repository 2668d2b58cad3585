"""Prints what read_daq.m prints, from h5py: read_daq.py FILE INSTRUMENT COLUMN."""

import sys

import h5py
import numpy as np


def main() -> None:
    path, instrument, column = sys.argv[1:]
    with h5py.File(path) as file:
        group = file[instrument]
        pieces = (
            [group[column][:]]
            if column in group
            else [group[name][column][:] for name in sorted(group) if name.startswith("batch_")]
        )
    values = np.concatenate(pieces)
    kind = str(values.dtype).replace("float64", "double")
    print(f"{instrument}/{column}: {len(values)} values from {len(pieces)} dataset(s), class {kind}")
    if len(values) > 0:
        print(f"first {values[0]:.17g}, last {values[-1]:.17g}, sum {values.astype(float).sum():.17g}")


main()
