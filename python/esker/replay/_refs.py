"""References to one row of a dataset, as the catalogue's `frame_ref` and `obs_ref` hold them."""

from __future__ import annotations

import dataclasses

from esker._errors import InvalidArgument
from esker._refs import Ref, parse_ref


@dataclasses.dataclass(frozen=True)
class FrameRef:
    """Names one row of a dataset of a run: `h5://{run_id}/{dataset}/{index}`.

    Parameters
    ----------
    run_id : str
        The run.
    dataset : str
        "frames", "observations", "observations/goal", …
    index : int
        The row, from 0.
    """

    run_id: str
    dataset: str
    index: int

    @staticmethod
    def parse(text: str) -> FrameRef | None:
        """The ref in `text`; None where it is none (refs of ranges and of whole datasets too)."""
        if not isinstance(text, str):
            return None
        try:
            ref = parse_ref(text)
        except InvalidArgument:
            return None
        return None if ref.index is None else FrameRef(ref.run, ref.path, ref.index)

    def to_uri(self) -> str:
        """The text, which `parse` reads; special characters of names are percent-encoded."""
        return str(Ref(self.run_id, self.dataset, self.index))

    def __str__(self) -> str:
        return self.to_uri()


def make_frame_ref(run_id: str, index: int, dataset: str = "frames") -> str:
    """The text of a ref: `h5://{run_id}/{dataset}/{index}`."""
    return FrameRef(run_id, dataset, index).to_uri()
