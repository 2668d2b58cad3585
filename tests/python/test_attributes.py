"""Attributes of the root: a caller's values, and counts of rows, as h5py shows them."""

from __future__ import annotations

import json
from pathlib import Path

import esker
import h5py
import numpy as np
import pytest

VALUES = {"env_id": "ALE/Breakout-v5", "seed": 7, "gamma": 0.99, "whole": 2.0, "training": True, "empty": ""}


def check_values(file: h5py.File) -> None:
    for name, value in VALUES.items():
        assert file.attrs[name] == value
    assert isinstance(file.attrs["env_id"], str)
    assert file.attrs["seed"].dtype == np.int64
    assert file.attrs["gamma"].dtype == np.float64
    assert file.attrs["whole"].dtype == np.float64
    assert file.attrs["training"].dtype == np.bool_


def test_attributes_stand_at_the_root_of_every_segment(store: esker.Store) -> None:
    with store.run("run", {"note": 1}, attributes=VALUES, segment_bytes=20_000, commit_interval=None) as run:
        stream = run.stream("/", "noise:u8[1000]", rows_attribute="total_steps")
        rng = np.random.default_rng(1)
        for step in range(90):
            stream.append(rng.integers(0, 255, 1000).astype(np.uint8))
            if step % 10 == 9:
                run.commit()
    paths = [*sorted(Path(store.path).glob("run_*.h5")), Path(store.path) / "run.h5"]
    assert len(paths) > 2
    totals = []
    for path in paths:
        with h5py.File(path) as file:
            check_values(file)
            assert json.loads(file.attrs["metadata"]) == {"note": 1}
            totals.append(int(file.attrs["total_steps"]))
            assert file.attrs["total_steps"] == file.attrs["esker_stream"][1] + len(file["noise"])
            assert file.attrs["total_steps"].dtype == np.int64
    assert totals == sorted(totals)
    assert totals[-1] == 90


def test_a_continued_run_keeps_its_attributes_and_takes_new_ones(store: esker.Store) -> None:
    with store.run("run", attributes=VALUES) as run:
        run.stream("steps", "x:i32", rows_attribute="total_steps").append(1)
    with store.run("run", append=True, attributes={"seed": 8, "extra": "new"}) as run:
        run.stream("steps", "x:i32").append(2)
        run.commit()
        with h5py.File(run.path) as file:
            assert file.attrs["total_steps"] == 2
            assert file.attrs["seed"] == 8
            assert file.attrs["extra"] == "new"
            assert file.attrs["env_id"] == VALUES["env_id"]
    with store.run("run", append=True, segment_bytes=1) as run:  # the next segment is made by rotation
        stream = run.stream("steps", "x:i32")
        stream.append(3)
        run.commit()
        stream.append(4)
        run.commit()
    assert len(list(Path(store.path).glob("run*.h5"))) > 1
    with h5py.File(Path(store.path) / "run.h5") as file:
        assert file.attrs["total_steps"] == 4
        assert file.attrs["seed"] == 8
        assert file.attrs["gamma"] == 0.99


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"esker_format": 1}, "Esker's own"),
        ({"metadata": 1}, "Esker's own"),
        ({"created_at": "x"}, "Esker's own"),
        ({"list": [1, 2]}, 'attribute "list": expected a number.*found an array'),
        ({"object": {"a": 1}}, "found an object"),
        ({"nothing": None}, "found null"),
        ({"a/b": 1}, "'/'"),
        ({"": 1}, "empty"),
        ({"text": "a\0b"}, "attributes, line 1"),
    ],
)
def test_attributes_that_cannot_be_are_refused(
    store: esker.Store, attributes: dict[str, object], message: str
) -> None:
    with pytest.raises(esker.InvalidArgument, match=message):
        store.run("run", attributes=attributes)
    assert "run" not in store
    assert list(Path(store.path).glob("*.h5")) == []


def test_a_row_count_needs_a_name_of_its_own(store: esker.Store) -> None:
    with store.run("run", attributes={"steps": 5}) as run:
        for name in ("steps", "esker_steps", "metadata", ""):
            with pytest.raises(esker.InvalidArgument):
                run.stream("a", "x:i32", rows_attribute=name)
        run.stream("a", "x:i32", rows_attribute="rows")
        with pytest.raises(esker.InvalidArgument, match="rows"):
            run.stream("b", "x:i32", rows_attribute="rows")
        run.stream("b", "x:i32").append(1)
    with pytest.raises(esker.InvalidArgument, match="rows"):
        store.run("run", append=True, attributes={"rows": 5})
    with h5py.File(Path(store.path) / "run.h5") as file:
        assert file.attrs["rows"] == 0
        assert file.attrs["steps"] == 5


def test_integers_beyond_64_bits_become_reals(store: esker.Store) -> None:
    with store.run("run", attributes={"big": 2**70, "small": -(2**63)}) as run:
        path = run.path
    with h5py.File(path) as file:
        assert file.attrs["big"] == float(2**70)
        assert file.attrs["small"] == -(2**63)


def test_readers_see_attributes_of_any_file(store: esker.Store, tmp_path: Path) -> None:
    with store.run("run", {"note": 1}, attributes=VALUES) as run:
        run.stream("/", "x:i32", rows_attribute="total_steps").append(1)
        run.commit()
        reader = store["run"]
        attributes = reader.attributes
        assert attributes.pop("created_at").endswith("Z")
        assert attributes == {**VALUES, "total_steps": 1}
        run.stream("/", "x:i32").append(2)
        run.commit()
        reader.refresh()
        assert reader.attributes["total_steps"] == 2
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = np.arange(3)
        file.attrs["text"] = "ü"
        file.attrs["bytes"] = np.bytes_("fixed")
        file.attrs["small"] = np.int8(-3)
        file.attrs["nan"] = np.nan
        file.attrs["list"] = [1, 2]
        file.attrs["complex"] = 1j
        file.attrs["metadata"] = "no JSON"
    other = esker.open_file(tmp_path / "other.h5")
    assert other.metadata == {}
    assert other.attributes == {
        "metadata": "no JSON",
        "text": "ü",
        "bytes": "fixed",
        "small": -3,
        "nan": None,
    }
