"""A copy of the last observation, in memory that is used again from step to step."""

from __future__ import annotations

import numpy as np

from esker.replay._leaves import Tree


def keep(value: Tree, before: Tree = None) -> Tree:
    """A copy of a tree of arrays, in the memory of an earlier copy where that fits.

    An environment may hand out the array that it computes in, and change it in the next step; what is
    recorded has to be what the agent saw.

    Parameters
    ----------
    value
        The tree.
    before, optional
        What `keep` returned before; not to be used any more.
    """
    if isinstance(value, np.ndarray):
        if (
            isinstance(before, np.ndarray)
            and before.dtype is value.dtype
            and before.shape == value.shape
            and value.dtype != object
        ):
            np.copyto(before, value)
            return before
        return np.array(value, order="C")
    if isinstance(value, dict):
        earlier = before if isinstance(before, dict) else {}
        return {key: keep(child, earlier.get(key)) for key, child in value.items()}
    if isinstance(value, tuple):
        earlier = before if isinstance(before, tuple) and len(before) == len(value) else (None,) * len(value)
        return tuple(keep(child, old) for child, old in zip(value, earlier, strict=True))
    return list(value) if isinstance(value, list) else value
