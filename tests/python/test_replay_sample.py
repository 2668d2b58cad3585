"""Sampling for training: stacks, n-step returns, priorities; datasets over many runs, in workers too."""

from __future__ import annotations

import multiprocessing
import pickle
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import esker
import numpy as np
import pytest
from esker.replay import ReplayDataset, ReplayReader, ReplayWriter

LENGTHS = [40, 3, 25, 1, 60]
GAMMA = 0.9


def write_run(directory: Path, name: str, first: int = 0) -> Path:
    """Episodes whose observation and frame are the number of the step, and whose reward is 1 + it."""
    value = first
    with ReplayWriter(name, directory) as writer:
        for number, length in enumerate(LENGTHS):
            for step in range(length):
                done = step == length - 1
                truncated = done and number == 2
                writer.record_step(
                    np.full((2, 2), value % 251, np.uint8),
                    np.array([value, number], np.int32),
                    value,
                    float(value + 1),
                    done,
                    truncated=truncated,
                )
                value += 1
            writer.mark_episode_end()
    return writer.path


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[ReplayReader]:
    with ReplayReader(write_run(tmp_path, "run")) as opened:
        yield opened


def bounds_of(value: int) -> tuple[int, int]:
    """First and last step of the episode that a step is in."""
    first = 0
    for length in LENGTHS:
        if value < first + length:
            return first, first + length - 1
        first += length
    raise AssertionError(value)


@pytest.mark.parametrize(("stack", "n_step"), [(1, 1), (4, 1), (1, 3), (4, 5)])
def test_transitions_are_those_of_the_run(reader: ReplayReader, stack: int, n_step: int) -> None:
    seen = set()
    for _ in range(10):
        batch = reader.sample(64, stack=stack, n_step=n_step, gamma=GAMMA, seed=None, frames=True)
        shape = (64,) if stack == 1 else (64, stack)
        assert batch["observations"].shape == (*shape, 2)
        assert batch["frames"].shape == (*shape, 2, 2)
        observations = batch["observations"].reshape(64, stack, 2)[..., 0]
        following = batch["next_observations"].reshape(64, stack, 2)[..., 0]
        assert np.array_equal(batch["frames"].reshape(64, stack, 2, 2)[..., 0, 0], observations % 251)
        assert np.array_equal(batch["actions"], observations[:, -1])
        assert (batch["weights"] == 1).all()
        for i, value in enumerate(observations[:, -1].tolist()):
            seen.add(value)
            first, last = bounds_of(value)
            expected = [max(first, value - stack + 1 + k) for k in range(stack)]
            assert observations[i].tolist() == expected
            span = min(n_step, last - value + 1)
            assert batch["spans"][i] == span
            reward = sum(GAMMA**k * (value + k + 1) for k in range(span))
            assert batch["rewards"][i] == pytest.approx(reward, rel=1e-5)
            reaches_end = value + n_step > last
            is_cut = bounds_of(value)[0] == 43
            assert bool(batch["terminated"][i]) == (reaches_end and not is_cut)
            assert bool(batch["truncated"][i]) >= (reaches_end and is_cut)
            if not reaches_end:
                target = value + n_step
                assert following[i].tolist() == [max(first, target - stack + 1 + k) for k in range(stack)]
    assert len(seen) > 100


@pytest.mark.parametrize("stack", [1, 3])
@pytest.mark.parametrize("n_step", [1, 4])
def test_what_follows_an_episodes_last_step_is_its_final_observation(
    tmp_path: Path, stack: int, n_step: int
) -> None:
    with ReplayWriter("run", tmp_path) as writer:
        for episode, outcome in enumerate(("truncated", "terminated", "truncated")):
            for step in range(5):
                value = 10 * episode + step
                writer.record_step(None, {"a": value, "b": np.full(2, value)}, value, 0.0, False)
            final = {"a": 10 * episode + 5, "b": np.full(2, 10 * episode + 5)}
            writer.mark_episode_end(outcome, final if episode < 2 else None)
    with ReplayReader(writer.path) as reader:
        batch = reader.sample(500, stack=stack, n_step=n_step, seed=2)
    following = batch["next_observations"]["a"].reshape(500, stack)
    assert np.array_equal(batch["next_observations"]["b"].reshape(500, stack, 2)[..., 0], following)
    for value, found in zip(batch["actions"].tolist(), following.tolist(), strict=True):
        episode, step = divmod(value, 10)
        target = min(step + n_step, 5 if episode < 2 else 4)
        assert found == [10 * episode + max(0, target - stack + 1 + i) for i in range(stack)]


def test_seeds_repeat_draws_and_no_seed_goes_on(reader: ReplayReader) -> None:
    first = reader.sample(50, seed=7)["indices"]
    second = reader.sample(50)["indices"]
    assert not np.array_equal(first, second)
    assert np.array_equal(reader.sample(50, seed=7)["indices"], first)
    assert np.array_equal(reader.sample(50)["indices"], second)
    with ReplayReader(reader.path) as other:
        assert np.array_equal(other.sample(50, seed=7)["indices"], first)
        assert not np.array_equal(other.sample(50, seed=8)["indices"], first)


def test_every_step_is_drawn_about_as_often(reader: ReplayReader) -> None:
    counts = np.bincount(reader.sample(129 * 200, seed=1)["indices"].astype(int), minlength=129)
    assert counts.min() > 120
    assert counts.max() < 280


def test_priorities_steer_what_is_drawn(reader: ReplayReader) -> None:
    draw = {"prioritized": {"alpha": 1.0, "beta": 1.0}}
    with pytest.raises(esker.InvalidArgument, match="after sample"):
        reader.update_priorities([0], [1.0])
    indices = reader.sample(10, **draw, seed=1)["indices"]
    reader.update_priorities(np.arange(129), np.zeros(129))
    reader.update_priorities(indices[:1], [3.0])
    other = next(i for i in range(129) if i != indices[0])
    reader.update_priorities([other], [1.0])
    batch = reader.sample(4000, **draw)
    found, counts = np.unique(batch["indices"], return_counts=True)
    assert set(found.tolist()) == {int(indices[0]), other}
    share = counts[found.tolist().index(int(indices[0]))] / 4000
    assert share == pytest.approx(0.75, abs=0.03)
    assert batch["weights"].max() == pytest.approx(1.0)
    rare = batch["indices"] == other
    assert (batch["weights"][rare] == 1.0).all()
    assert batch["weights"][~rare] == pytest.approx(1 / 3, rel=1e-6)
    with pytest.raises(esker.ShapeMismatch, match="one length"):
        reader.update_priorities([1, 2], [1.0])
    with pytest.raises(esker.RangeError):
        reader.update_priorities([10**6], [1.0])
    with pytest.raises(esker.Error):
        reader.update_priorities([1], [-1.0])


def test_wrong_arguments_are_refused(reader: ReplayReader) -> None:
    for arguments, match in (
        ({"batch": 0}, "batch"),
        ({"batch": 4, "stack": 0}, "stack"),
        ({"batch": 4, "n_step": 0}, "n_step"),
        ({"batch": 4, "gamma": 0.0}, "gamma"),
        ({"batch": 4, "prioritized": {"alpha": 0.5, "betta": 1}}, "betta"),
        ({"batch": 4, "prioritized": {"alpha": -1.0}}, "alpha"),
    ):
        with pytest.raises(esker.Error, match=match):
            reader.sample(**arguments)


def test_what_was_committed_since_is_drawn_after_refresh(tmp_path: Path) -> None:
    with ReplayWriter("run", tmp_path, commit_interval=None) as writer:
        writer.record_step(None, 0, 0, 0.0, False)
        writer.flush()
        with ReplayReader(writer.path) as reader:
            assert set(reader.sample(100)["observations"].tolist()) == {0}
            for i in range(1, 10):
                writer.record_step(None, i, 0, 0.0, False)
            writer.flush()
            assert set(reader.sample(100)["observations"].tolist()) == {0}
            reader.refresh()
            assert set(reader.sample(1000)["observations"].tolist()) == set(range(10))


def test_an_empty_run_has_nothing_to_draw(tmp_path: Path) -> None:
    with ReplayWriter("run", tmp_path, obs_shape=(2,)) as writer:
        pass
    with ReplayReader(writer.path) as reader, pytest.raises(esker.RangeError):
        reader.sample(1)


def test_dict_observations_are_stacked_by_leaf(tmp_path: Path) -> None:
    with ReplayWriter("run", tmp_path) as writer:
        for i in range(20):
            writer.record_step(None, {"a": np.full(3, i, np.float32), "b": {"c": i}}, (i, i / 2), 0.0, False)
    with ReplayReader(writer.path) as reader:
        batch = reader.sample(30, stack=2)
    assert batch["observations"]["a"].shape == (30, 2, 3)
    assert np.array_equal(batch["observations"]["a"][..., 0], batch["observations"]["b"]["c"])
    assert np.array_equal(batch["actions"]["0"], batch["observations"]["b"]["c"][:, 1])
    assert np.array_equal(batch["actions"]["1"], batch["actions"]["0"] / 2)


# ---- datasets ---------------------------------------------------------------------------------------


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    for number in range(3):
        write_run(tmp_path, f"run-{number}", 1000 * number)
    return tmp_path


def test_a_dataset_draws_from_all_runs(runs: Path) -> None:
    dataset = ReplayDataset(runs, 64, stack=4, seed=5, batches=20)
    batches = list(dataset)
    assert len(batches) == 20
    values = np.concatenate([batch["actions"] for batch in batches])
    assert set((values // 1000).tolist()) == {0, 1, 2}
    for batch in batches:
        assert batch["observations"].shape == (64, 4, 2)
        assert np.array_equal(batch["observations"][:, -1, 0], batch["actions"])
        assert (batch["observations"][..., 0] // 1000 == (batch["actions"] // 1000)[:, None]).all()


def test_a_seed_repeats_the_batches_and_iterations_differ(runs: Path) -> None:
    def drawn(dataset: ReplayDataset) -> list[list[int]]:
        return [batch["actions"].tolist() for batch in dataset]

    one, two = (ReplayDataset(runs, 16, seed=5, batches=3) for _ in range(2))
    first = drawn(one)
    assert drawn(two) == first
    assert drawn(one) != first
    assert drawn(ReplayDataset(runs, 16, seed=6, batches=3)) != first


def test_sources_are_paths_stores_readers_or_several(runs: Path) -> None:
    with esker.open(runs) as store, ReplayReader(runs / "run-1.h5") as reader:
        for source, expected in (
            (store, {0, 1, 2}),
            (reader, {1}),
            (runs / "run-2.h5", {2}),
            ([reader, str(runs / "run-0.h5")], {0, 1}),
        ):
            batch = next(iter(ReplayDataset(source, 500, seed=1)))
            assert set((batch["actions"] // 1000).tolist()) == expected
        assert reader.is_open
    with pytest.raises(esker.InvalidArgument, match="one source"):
        ReplayDataset([], 4)
    with pytest.raises(esker.RangeError, match="batch_size"):
        ReplayDataset(runs, 0)
    (runs / "empty").mkdir()
    with pytest.raises(esker.InvalidArgument, match="one run"):
        next(iter(ReplayDataset(runs / "empty", 4)))


def test_priorities_of_a_dataset(runs: Path) -> None:
    dataset = ReplayDataset(runs, 32, prioritized=True, seed=1)
    with pytest.raises(esker.InvalidArgument, match="under way"):
        dataset.update_priorities([0], [1.0])
    batches = iter(dataset)
    batch = next(batches)
    dataset.update_priorities(np.arange(3 * 129), np.zeros(3 * 129))
    dataset.update_priorities(batch["indices"][:1], [1.0])
    assert set(next(batches)["indices"].tolist()) == {int(batch["indices"][0])}


def test_transforms_are_applied(runs: Path) -> None:
    dataset = ReplayDataset(runs, 8, batches=2, transform=lambda batch: batch["rewards"].shape)
    assert list(dataset) == [(8,), (8,)]


def _drawn(dataset: ReplayDataset) -> list[list[int]]:
    return [batch["actions"].tolist() for batch in dataset]


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_datasets_work_in_children(runs: Path, method: str) -> None:
    dataset = ReplayDataset(runs, 16, stack=4, seed=5, batches=4)
    expected = _drawn(pickle.loads(pickle.dumps(dataset)))
    with multiprocessing.get_context(method).Pool(2) as pool:
        assert pool.map_async(_drawn, [dataset, dataset]).get(60) == [expected, expected]


def _child(dataset: ReplayDataset, queue: Any) -> None:
    queue.put(_drawn(dataset))


def test_an_iteration_goes_on_in_parent_and_forked_child(runs: Path) -> None:
    """As a DataLoader forks while the parent reads on."""
    with ReplayReader(runs / "run-0.h5") as reader:
        before = reader.sample(16, seed=3)["indices"]
        context = multiprocessing.get_context("fork")
        queue = context.Queue()
        child = context.Process(target=_child, args=(ReplayDataset(reader, 16, seed=4, batches=3), queue))
        child.start()
        found = queue.get(timeout=60)
        child.join()
        assert child.exitcode == 0
        assert found == _drawn(ReplayDataset(reader, 16, seed=4, batches=3))
        assert np.array_equal(reader.sample(16, seed=3)["indices"], before)


@pytest.fixture
def torch(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """What ReplayDataset looks at of torch.utils.data, without torch."""

    class IterableDataset:
        pass

    data = types.ModuleType("torch.utils.data")
    data.IterableDataset = IterableDataset  # type: ignore[attr-defined]
    data.get_worker_info = lambda: data.worker  # type: ignore[attr-defined]
    data.worker = None  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch.utils.data", data)
    return data


def test_workers_of_a_data_loader_share_the_batches(runs: Path, torch: Any) -> None:
    dataset = ReplayDataset(runs, 16, seed=5, batches=7)
    assert isinstance(dataset, torch.IterableDataset)
    assert isinstance(dataset, ReplayDataset)
    drawn = []
    for worker in range(3):
        torch.worker = types.SimpleNamespace(id=worker, num_workers=3)
        drawn.append(_drawn(pickle.loads(pickle.dumps(dataset))))
    assert [len(batches) for batches in drawn] == [3, 2, 2]
    assert drawn[0][0] != drawn[1][0] != drawn[2][0]


def test_torch_is_not_imported(runs: Path) -> None:
    dataset = ReplayDataset(runs, 16, batches=1)
    assert len(list(dataset)) == 1
    assert type(dataset) is ReplayDataset
    assert "torch" not in sys.modules
