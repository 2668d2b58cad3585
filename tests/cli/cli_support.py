"""What the CLI tests do again and again: record an array, get it back."""

import numpy as np


def save(esker, name, array):
    np.save(esker.directory / name, array)
    return array


def record(esker, run, array, *options, column="x"):
    save(esker, f"{column}.npy", array)
    return esker("record", "data", run, f"{column}.npy", "--ring", "4M", *options)


def get_npy(esker, ref):
    esker("get", "data", ref, "-o", "out.npy")
    return np.load(esker.directory / "out.npy")
