"""Columns whose names are paths: datasets in groups, for Esker and for h5py."""

from __future__ import annotations

import esker
import h5py
import numpy as np


def test_columns_in_groups_are_datasets_in_groups(store: esker.Store) -> None:
    with store.run("robot") as run:
        stream = run.stream("/", "goal/position:f32[3] goal/camera:u8[4,4]? reward:f64")
        for step in range(10):
            camera = None if step % 2 else np.full((4, 4), step, np.uint8)
            stream.append(np.arange(3, dtype=np.float32) + step, camera, 0.5 * step)
        path = run.path
    with h5py.File(path) as file:
        assert sorted(file) == ["goal", "reward"]
        assert sorted(file["goal"]) == ["camera", "camera_valid", "position"]
        assert file["goal/position"].shape == (10, 3)
        assert np.array_equal(file["goal/position"][7], [7, 8, 9])
        assert file["goal/camera_valid"][:].tolist() == [True, False] * 5
    reader = store["robot"]
    assert sorted(reader) == ["goal/camera", "goal/position", "reward"]
    assert reader["position"].path == "goal/position"
    assert reader["goal/position"].name == "goal/position"
    assert np.array_equal(reader["position"][3], [3, 4, 5])
    assert str(reader["goal/position"].ref(5)) == "h5://robot/goal/position/5"
    assert np.array_equal(store.resolve("h5://robot/goal/position/5"), [5, 6, 7])


def test_a_column_of_a_mapping_may_be_a_path(store: esker.Store) -> None:
    with store.run("robot") as run:
        stream = run.stream("arm", like={"goal/position": np.zeros(3), "goal/name": "x"})
        assert [spec.name for spec in stream.columns] == ["goal/position", "goal/name"]
        stream.append({"goal/position": np.ones(3), "goal/name": "up"})
    assert store["robot"]["arm/goal/name"][0] == "up"
