"""esker migrate telemetry: every array compared with numpy, kills in between, databases that shrink."""

import json
import signal
import time

import h5py
import numpy as np
import pytest
from legacy import BARE, STEP_COLUMNS, Legacy


@pytest.fixture
def legacy(tmp_path):
    return Legacy(tmp_path / "old.sqlite")


def migrate(esker, *words, code=0):
    return json.loads(esker.text("migrate", "telemetry", "old.sqlite", "data", "--json", *words, code=code))


def check_run(esker, run, steps):
    """The file of a run holds exactly these steps, in this order."""
    with h5py.File(esker.directory / "data" / f"{run}.h5") as file:
        assert len(file["rewards"]) == file.attrs["total_steps"] == len(steps)
        np.testing.assert_array_equal(file["legacy_rowids"], [s["rowid"] for s in steps])
        np.testing.assert_array_equal(file["actions"], [s["action"] for s in steps])
        np.testing.assert_array_equal(file["rewards"], np.array([s["reward"] for s in steps], "f4"))
        for column, name in (("render_payload", "frames"), ("observation", "observations")):
            valid = file[f"{name}_valid"][:]
            assert file[name].dtype == np.uint8
            for row, step in enumerate(steps):
                assert valid[row] == (step[column] is not None), (name, row)
                if step[column] is not None:
                    np.testing.assert_array_equal(file[name][row], step[column], err_msg=f"{name} {row}")


# ---- whole databases ----


def test_frames_and_observations_of_full_size_come_out_as_they_went_in(esker, legacy):
    for run in ("game one", "game-2"):
        for n, length in enumerate((7, 5)):
            legacy.add(legacy.episode(run, f"{run}-{n}", length))
            legacy.add_episode(f"{run}-{n}", run, seed=40 + n)
    report = migrate(esker)
    assert report["runs"] == 2 and report["episodes"] == 4 and report["findings"] == []
    assert report["steps"] == report["moved"] == report["refs"] == 24 and report["verified"] == 48
    assert report["array_bytes"] == 24 * (84 * 84 * 4 + 210 * 160 * 3)
    for run, steps in legacy.steps.items():
        check_run(esker, run, steps)
        with h5py.File(esker.directory / f"data/{run}.h5") as file:
            assert list(file["episodes/lengths"]) == [7, 5] and list(file["episodes/starts"]) == [0, 7]
            assert list(file["episodes/seed"]) == [40, 41]
            assert [text.decode() for text in file["episodes/outcome"]] == ["terminated"] * 2
            assert file["timestamps"][1] == 1_767_322_801_250_000_000
            assert [json.loads(t) for t in file["infos"][:3]] == [{"lives": i} for i in range(3)]
            assert list(file["time_steps"][:3]) == [100, 101, 102] and set(file["payload_versions"]) == {2}
            assert file["worker_ids"][0] == b"w0" and file["legacy_episodes"][0].decode() == f"{run}-0"
            assert file.attrs["legacy_run_id"] == run and file.attrs["migrated_from"] == "old.sqlite"
    esker("verify", "data")


def test_an_episode_that_never_ended_is_marked_once_its_worker_went_on(esker, legacy):
    a = legacy.episode("game", "a", 4, small=True, ended=False)
    b = legacy.episode("game", "b", 3, small=True, ended=False, worker_id="w1")
    c = legacy.episode("game", "c", 5, small=True, ended=False)
    legacy.add([*a, *b, *c])
    migrate(esker)
    with h5py.File(esker.directory / "data/game.h5") as file:
        assert list(file["episodes/ids"]) == [0] and file["episodes/outcome"][0] == b"unfinished"
        assert file.attrs["total_episodes"] == 1
    episodes = json.loads(esker.text("episodes", "data", "game", "--json"))
    assert [(e["outcome"], e["length"]) for e in episodes] == [("unfinished", n) for n in (4, 3, 5)]


def test_refs_in_the_database_lead_to_the_arrays(esker, legacy):
    legacy.add(legacy.episode("game", "a", 6, small=True))
    migrate(esker)
    rows = legacy.query("SELECT frame_ref, obs_ref, replay_row, observation FROM steps ORDER BY rowid")
    for i, (frame_ref, obs_ref, row, observation) in enumerate(rows):
        assert (frame_ref, obs_ref, row) == (f"h5://game/frames/{i}", f"h5://game/observations/{i}", i)
        assert np.array_equal(json.loads(observation), legacy.steps["game"][i]["observation"])
        esker("get", "data", frame_ref, "-o", "out.npy")
        np.testing.assert_array_equal(
            np.load(esker.directory / "out.npy"), legacy.steps["game"][i]["render_payload"]
        )


def test_a_database_without_the_newer_columns_becomes_a_run_of_its_own_name(esker, tmp_path):
    legacy = Legacy(tmp_path / "old.sqlite", BARE)
    legacy.add(legacy.episode("old", "a", 5, small=True))
    legacy.add(legacy.episode("old", "b", 4, small=True))
    assert migrate(esker)["steps"] == 9
    check_run(esker, "old", legacy.steps["old"])
    with h5py.File(esker.directory / "data/old.h5") as file:
        assert "infos" not in file and "worker_ids" not in file
        assert list(file["episode_ids"]) == [0] * 5 + [1] * 4


def test_run_names_the_run_of_steps_that_have_none_or_chooses_one(esker, tmp_path, legacy):
    bare = Legacy(tmp_path / "bare.sqlite", BARE)
    bare.add(bare.episode("x", "a", 3, small=True))
    esker("migrate", "telemetry", "bare.sqlite", "data", "--run", "lab")
    check_run(esker, "lab", bare.steps["x"])
    for run in ("one", "two"):
        legacy.add(legacy.episode(run, run, 3, small=True))
    assert migrate(esker, "--run", "two")["moved"] == 3
    assert (tmp_path / "data/two.h5").exists() and not (tmp_path / "data/one.h5").exists()
    assert migrate(esker)["moved"] == 3
    done = esker("migrate", "telemetry", "old.sqlite", "data", "--run", "three", code=1)
    assert 'no step with the run_id "three"' in done.stderr


def test_interleaved_episodes_lie_side_by_side_and_unfinished_ones_are_marked(esker, legacy):
    a = legacy.episode("game", "a", 6, small=True)
    b = legacy.episode("game", "b", 4, small=True, ended=False, worker_id="w1")
    c = legacy.episode("game", "c", 3, small=True, ended=False)
    legacy.add([a[1], b[0], a[0], a[2], b[1], a[3], c[0], b[2], a[4], c[1], b[3], a[5], c[2]])
    legacy.add_episode("c", "game", truncated=1)
    migrate(esker)
    check_run(esker, "game", [*a, *b, *c])
    with h5py.File(esker.directory / "data/game.h5") as file:
        assert list(file["episode_ids"]) == [0] * 6 + [1] * 4 + [2] * 3
        assert list(file["step_ids"]) == [*range(6), *range(4), *range(3)]
        assert list(file["episodes/ids"]) == [0, 2]
        assert [text.decode() for text in file["episodes/outcome"]] == ["terminated", "truncated"]
    episodes = json.loads(esker.text("episodes", "data", "game", "--json"))
    assert [e["outcome"] for e in episodes] == ["terminated", "unfinished", "truncated"]


# ---- payloads of other kinds ----


def test_members_of_an_object_are_datasets_and_its_texts_are_kept(esker, legacy):
    steps = legacy.episode("game", "a", 4, small=True)
    for i, step in enumerate(steps):
        step["observation"] = {
            "position": [0.5 * i, 0.1, -1e-7],
            "goal": {"pixels": legacy.frame((9, 8)), "distance": i},
            "who": "me",
        }
        step["action"] = [0.25, float(i)]
        step["space_signature"] = None
    steps[3]["observation"]["who"] = "you"
    legacy.add(steps)
    assert migrate(esker)["findings"] == []
    with h5py.File(esker.directory / "data/game.h5") as file:
        position = file["observations/position"]
        assert position.dtype == np.float64
        np.testing.assert_array_equal(position, [s["observation"]["position"] for s in steps])
        pixels = file["observations/goal/pixels"]
        assert pixels.dtype == np.uint8
        np.testing.assert_array_equal(pixels, [s["observation"]["goal"]["pixels"] for s in steps])
        np.testing.assert_array_equal(file["observations/goal/distance"], range(4))
        np.testing.assert_array_equal(file["actions"], [s["action"] for s in steps])
        usual = json.loads(file.attrs["metadata"])["migration"]["payloads"]["observations"]["text"]
        assert json.loads(usual) == {
            "position": None, "goal": {"pixels": None, "distance": None}, "who": "me",
        }  # fmt: skip
        assert list(file["observation_texts_valid"]) == [False, False, False, True]
        assert json.loads(file["observation_texts"][3])["who"] == "you"


def test_single_precision_reals_and_small_numbers_get_the_dtype_that_holds_them(esker, legacy):
    steps = legacy.episode("game", "a", 5, small=True, space_signature='{"dtype": "float32", "shape": [6]}')
    for step in steps:
        step["observation"] = legacy.rng.random(6, np.float32)
        step["render_payload"] = None
        step["action"] = 0.5
    legacy.add(steps)
    assert migrate(esker)["findings"] == []
    with h5py.File(esker.directory / "data/game.h5") as file:
        assert file["observations"].dtype == np.float32 and "frames" not in file
        np.testing.assert_array_equal(file["observations"], [s["observation"] for s in steps])
        assert file["actions"].dtype == np.float64


def test_a_discrete_observation_and_a_rendered_text_are_kept(esker, legacy):
    steps = legacy.episode("lake", "a", 4, small=True, space_signature=None)
    for i, step in enumerate(steps):
        step["observation"] = str(i * 3).encode()
        step["render_payload"] = json.dumps({"grid": [["S", "F"], ["H", str(i)]]}).encode()
        step["action"] = "left" if i % 2 else "right"
    legacy.add(steps)
    assert migrate(esker, "--drop-blobs")["findings"] == []
    with h5py.File(esker.directory / "data/lake.h5") as file:
        assert list(file["observations"]) == [0, 3, 6, 9]
        assert [json.loads(text)["grid"][1][1] for text in file["frame_texts"]] == ["0", "1", "2", "3"]
        assert [text.decode() for text in file["action_texts"]] == ["right", "left"] * 2
    rows = legacy.query("SELECT observation, render_payload IS NULL FROM steps")
    assert rows == [(None, 0)] * 4  # there is no array for what was rendered: it stays


# ---- what cannot be moved ----


def test_bad_rows_are_listed_and_kept_and_the_others_stay_aligned(esker, legacy):
    steps = legacy.episode("game", "a", 200, small=True)
    legacy.add(steps)
    bad = {  # 23 is none of the steps from which the dtype is guessed
        3: ("observation", b"[[1, 2], [3]]", "rows of different lengths at byte 11"),
        7: ("render_payload", b'{"frame": [[[1', "no JSON at byte"),
        11: ("observation", b"not json", "not a number at byte 0"),
        19: ("render_payload", json.dumps({"frame": [[[1, 2, 3]]]}).encode(), "another shape"),
        23: ("observation", json.dumps(np.full((12, 10), 256).tolist()).encode(), "dtype does not hold"),
        29: ("timestamp", "yesterday", "no time"),
        31: ("reward", "much", "no number"),
    }
    for i, (column, value, _) in bad.items():
        legacy.execute(f"UPDATE steps SET {column} = ? WHERE rowid = ?", value, steps[i]["rowid"])
        steps[i][column] = None
    steps[31]["reward"] = 0
    report = migrate(esker, "--drop-blobs", code=1)
    found = {f["rowid"]: f for f in report["findings"]}
    assert sorted(found) == sorted(steps[i]["rowid"] for i in bad) and report["finding_count"] == len(bad)
    for i, (column, value, message) in bad.items():
        finding = found[steps[i]["rowid"]]
        assert finding["column"] == column and message in finding["message"], finding
        if column in ("observation", "render_payload"):
            kept = legacy.query(f"SELECT {column} FROM steps WHERE rowid = ?", steps[i]["rowid"])
            assert kept == [(value,)]
    check_run(esker, "game", steps)
    kept = legacy.query("SELECT count(observation), count(render_payload), count(replay_row) FROM steps")
    assert kept == [(3, 2, 200)]
    again = migrate(esker, "--drop-blobs", code=1)
    assert again["moved"] == 0 and again["finding_count"] >= 5


def test_missing_cells_and_payloads_that_say_null_stay_missing(esker, legacy):
    steps = legacy.episode("game", "a", 9, small=True)
    steps[0]["render_payload"] = steps[4]["observation"] = steps[8]["observation"] = None
    legacy.add(steps)
    legacy.execute("UPDATE steps SET observation = 'null' WHERE rowid = ?", steps[4]["rowid"])
    assert migrate(esker)["findings"] == []
    check_run(esker, "game", steps)
    refs = legacy.query("SELECT frame_ref IS NULL, obs_ref IS NULL FROM steps")
    assert [i for i, row in enumerate(refs) if row[0]] == [0] and [
        i for i, row in enumerate(refs) if row[1]
    ] == [4, 8]


def test_refs_of_others_are_kept_with_their_payloads(esker, legacy):
    legacy.add(legacy.episode("game", "a", 3, small=True))
    legacy.execute("ALTER TABLE steps ADD COLUMN frame_ref TEXT")
    legacy.execute("UPDATE steps SET frame_ref = 'frames/2.png' WHERE rowid = 2")
    report = migrate(esker, "--drop-blobs", code=1)
    assert [(f["rowid"], f["column"]) for f in report["findings"]] == [(2, "frame_ref")]
    rows = legacy.query("SELECT frame_ref, render_payload IS NULL, observation IS NULL FROM steps")
    assert rows == [("h5://game/frames/0", 1, 1), ("frames/2.png", 0, 1), ("h5://game/frames/2", 1, 1)]


# ---- again ----


def test_drop_blobs_shrinks_the_database_and_nothing_else_changes(esker, legacy):
    for n in range(3):
        legacy.add(legacy.episode("game", f"e{n}", 10))
    before = legacy.query("SELECT rowid, episode_id, step_index, action, reward, info FROM steps")
    first = migrate(esker)
    size = legacy.path.stat().st_size
    report = migrate(esker, "--drop-blobs")
    assert first["dropped"] == 0 and report["moved"] == 0
    assert report["dropped"] == report["verified"] == 60
    assert legacy.path.stat().st_size == report["bytes_after"] < size / 100
    assert legacy.query("SELECT rowid, episode_id, step_index, action, reward, info FROM steps") == before
    assert legacy.query("SELECT count(observation), count(render_payload) FROM steps") == [(0, 0)]
    check_run(esker, "game", legacy.steps["game"])
    again = migrate(esker, "--drop-blobs")
    assert again["moved"] == again["verified"] == again["dropped"] == again["refs"] == 0


def test_steps_that_come_later_are_added_and_an_open_episode_goes_on(esker, legacy):
    a = legacy.episode("game", "a", 8, small=True)
    legacy.add(a[:5])
    assert migrate(esker, "--drop-blobs")["moved"] == 5
    # VACUUM may have numbered the rows of this table anew; the later ones may take numbers that were used.
    b = legacy.episode("game", "b", 3, small=True)
    legacy.add([*a[5:], *b])
    assert migrate(esker, "--drop-blobs")["moved"] == 6
    check_run(esker, "game", [*a, *b])
    with h5py.File(esker.directory / "data/game.h5") as file:
        assert list(file["episode_ids"]) == [0] * 8 + [1] * 3 and list(file["step_ids"][:8]) == list(range(8))
        assert list(file["episodes/lengths"]) == [8, 3]
        assert file["episodes/total_reward"][0] == sum(s["reward"] for s in a)


def test_rowids_that_vacuum_numbered_anew_do_not_confuse_it(esker, legacy):
    a = legacy.episode("game", "a", 12, small=True)
    legacy.add(a)
    legacy.execute("DELETE FROM steps WHERE rowid IN (2, 5)")
    steps = [a[i] for i in range(12) if i not in (1, 4)]
    migrate(esker)
    legacy.execute("VACUUM")
    assert legacy.query("SELECT max(rowid) FROM steps") == [(10,)]
    report = migrate(esker, "--drop-blobs")
    assert report["moved"] == 0 and report["dropped"] == 20
    check_run(esker, "game", steps)


def test_no_refs_only_reads_the_database(esker, legacy):
    legacy.add(legacy.episode("game", "a", 4, small=True))
    content = legacy.path.read_bytes()
    assert migrate(esker, "--no-refs")["moved"] == 4
    assert legacy.path.read_bytes() == content
    assert migrate(esker, "--no-refs")["moved"] == 0
    done = esker("migrate", "telemetry", "old.sqlite", "data", "--no-refs", "--drop-blobs", code=2)
    assert "exclude each other" in done.stderr


def kill_at(esker, process, wanted):
    """Kills it once the run's file has the size wanted, or when it ends by itself."""
    path = esker.directory / "data/game.h5"
    while process.poll() is None and not (path.exists() and path.stat().st_size >= wanted):
        time.sleep(0.002)
    process.kill()
    process.communicate()


def test_killed_at_any_moment_it_goes_on_without_loss_or_doubles(esker, legacy):
    for n in range(6):
        legacy.add(legacy.episode("game", f"e{n}", 25, ended=n != 3))
    rng = np.random.default_rng(5)
    killed = 0
    for _ in range(12):
        process = esker.popen("migrate", "telemetry", "old.sqlite", "data", "-j", "1")
        if rng.random() < 0.5:
            time.sleep(rng.random() * 0.8)
            process.kill()
            process.communicate()
        else:
            kill_at(esker, process, rng.integers(1, 6_000_000))
        killed += process.returncode == -signal.SIGKILL
    assert killed >= 3
    migrate(esker)
    check_run(esker, "game", legacy.steps["game"])
    with h5py.File(esker.directory / "data/game.h5") as file:
        ids = file["episode_ids"][:]
        assert list(ids) == [n for n in range(6) for _ in range(25)]
        np.testing.assert_array_equal(file["step_ids"], [*range(25)] * 6)
        assert sorted(file["episodes/ids"]) == [0, 1, 2, 3, 4, 5]
        outcomes = dict(zip(file["episodes/ids"], file["episodes/outcome"], strict=True))
        assert outcomes[3] == b"unfinished" and outcomes[5] == b"terminated"
        assert set(file["episodes/lengths"]) == {25}
    migrate(esker, "--drop-blobs")
    assert legacy.query("SELECT count(observation), count(frame_ref) FROM steps") == [(0, 150)]
    esker("verify", "data")


def test_killed_while_it_drops_it_goes_on_dropping(esker, legacy):
    for n in range(4):
        legacy.add(legacy.episode("game", f"e{n}", 25))
    migrate(esker, "--no-refs")
    for wait in (0.1, 0.25, 0.4, 0.6):
        process = esker.popen("migrate", "telemetry", "old.sqlite", "data", "--drop-blobs")
        time.sleep(wait)
        process.kill()
        process.communicate()
    migrate(esker, "--drop-blobs")
    assert legacy.query("SELECT count(observation), count(obs_ref) FROM steps") == [(0, 100)]
    check_run(esker, "game", legacy.steps["game"])
    assert legacy.path.stat().st_size < 100_000


def test_interrupted_it_says_how_to_go_on(esker, legacy):
    for n in range(4):
        legacy.add(legacy.episode("game", f"e{n}", 50))
    process = esker.popen("migrate", "telemetry", "old.sqlite", "data", "-j", "1")
    while not (esker.directory / "data/game.h5").exists():
        time.sleep(0.002)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1 and b"the same command goes on from there" in err
    report = migrate(esker)
    assert report["moved"] <= 200
    check_run(esker, "game", legacy.steps["game"])


# ---- refusals ----


def test_what_is_no_telemetry_database_is_refused(esker, tmp_path):
    (tmp_path / "junk").write_bytes(b"x" * 5000)
    other = Legacy(tmp_path / "other.sqlite")
    other.execute("DROP TABLE steps")
    narrow = Legacy(tmp_path / "narrow.sqlite", ("episode_id", "reward"))
    empty = Legacy(tmp_path / "empty.sqlite")
    for path, message in (
        ("absent", "no such file"),
        ("junk", "not a database"),
        (other.path, "no table `steps`"),
        (narrow.path, "neither a column `observation` nor `render_payload`"),
        (empty.path, "`steps` is empty"),
    ):
        assert message in esker("migrate", "telemetry", path, "data", code=1).stderr
    assert "which database" in esker("migrate", "telemetry", code=2).stderr
    assert "telemetry was expected" in esker("migrate", "wandb", "x", code=2).stderr


def test_a_run_that_no_migration_made_is_left_alone(store, legacy):
    np.save(store.directory / "x.npy", np.zeros(3))
    store("record", "data", "game", "x.npy", "--ring", "4M")
    legacy.add(legacy.episode("game", "a", 3, small=True))
    done = store("migrate", "telemetry", "old.sqlite", "data", code=1)
    assert "which no migration made" in done.stderr


def test_another_database_is_not_mixed_into_a_run(esker, legacy, tmp_path):
    legacy.add(legacy.episode("game", "a", 5, small=True))
    migrate(esker)
    other = Legacy(tmp_path / "other.sqlite")
    other.add(other.episode("game", "z", 3, small=True))
    done = esker("migrate", "telemetry", "other.sqlite", "data", code=1)
    assert "migrated from another database" in done.stderr
    third = Legacy(tmp_path / "third.sqlite", rng=np.random.default_rng(9))
    third.add(third.episode("game", "a", 5, small=True))
    done = esker("migrate", "telemetry", "third.sqlite", "data", "--drop-blobs", code=1)
    assert "is not what the database has" in done.stderr
    assert third.query("SELECT count(observation) FROM steps") == [(5,)]


def test_a_store_that_did_not_get_the_dropped_arrays_is_refused(esker, legacy):
    legacy.add(legacy.episode("game", "a", 5, small=True))
    migrate(esker, "--drop-blobs")
    done = esker("migrate", "telemetry", "old.sqlite", "data2", code=1)
    assert "moved into another store" in done.stderr


def test_a_database_that_is_being_written_is_refused(esker, legacy):
    legacy.add(legacy.episode("game", "a", 5, small=True))
    database = legacy.connect()
    database.isolation_level = None
    database.execute("BEGIN EXCLUSIVE")
    process = esker.popen("migrate", "telemetry", "old.sqlite", "data")
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1 and b"another process is using it" in err
    database.execute("ROLLBACK")
    database.close()
    migrate(esker)


# ---- scalars ----


def test_times_are_understood_in_every_form_that_databases_have_them(esker, legacy):
    second = 1_767_322_801  # 2026-01-02T03:00:01Z
    forms = {
        "2026-01-02T03:00:01Z": second * 10**9,
        "2026-01-02 03:00:01": second * 10**9,
        "2026-01-02T05:30:01.123456789+02:30": second * 10**9 + 123_456_789,
        "2026-01-01T22:00:01.5-0500": second * 10**9 + 500_000_000,
        "2026-01-02": (second - 3 * 3600 - 1) * 10**9,
        "1969-12-31T23:59:59Z": -(10**9),
        second: second * 10**9,
        second + 0.25: second * 10**9 + 250_000_000,
        second * 1000: second * 10**9,
        second * 10**6 + 7: second * 10**9 + 7000,
        second * 10**9 + 7: second * 10**9 + 7,
        str(second): second * 10**9,
        None: 1,
    }
    steps = legacy.episode("game", "a", len(forms), small=True)
    for step, form in zip(steps, forms, strict=True):
        step["timestamp"] = form
    legacy.add(steps)
    # The column is TEXT: numbers have to be put there without becoming text.
    legacy.execute("ALTER TABLE steps RENAME COLUMN timestamp TO written")
    legacy.execute("ALTER TABLE steps ADD COLUMN timestamp")
    for step in steps:
        legacy.execute("UPDATE steps SET timestamp = ? WHERE rowid = ?", step["timestamp"], step["rowid"])
    assert migrate(esker)["findings"] == []
    with h5py.File(esker.directory / "data/game.h5") as file:
        assert list(file["timestamps"]) == list(forms.values())


def test_steps_without_episode_ids_are_told_apart_by_ends_and_step_indices(esker, tmp_path):
    columns = tuple(c for c in STEP_COLUMNS if c not in ("episode_id", "agent_id"))
    legacy = Legacy(tmp_path / "old.sqlite", columns)
    for length, ended in ((4, True), (3, False), (5, True)):
        legacy.add(legacy.episode("game", "", length, small=True, ended=ended))
    migrate(esker)
    check_run(esker, "game", legacy.steps["game"])
    with h5py.File(esker.directory / "data/game.h5") as file:
        assert list(file["episode_ids"]) == [0] * 4 + [1] * 3 + [2] * 5
        assert list(file["episodes/ids"]) == [0, 1, 2]
        assert [text.decode() for text in file["episodes/outcome"]] == [
            "terminated",
            "unfinished",
            "terminated",
        ]


def test_a_database_with_a_write_ahead_log_shrinks_too(esker, legacy):
    assert legacy.query("PRAGMA journal_mode = wal") == [("wal",)]
    for n in range(2):
        legacy.add(legacy.episode("game", f"e{n}", 10))
    reader = legacy.connect()  # as a program that has it open all the while
    assert reader.execute("SELECT count(*) FROM steps").fetchall() == [(20,)]
    report = migrate(esker, "--drop-blobs")
    reader.close()
    assert report["dropped"] == 40 and report["bytes_after"] < report["bytes_before"] / 50
    check_run(esker, "game", legacy.steps["game"])


def test_many_small_steps_take_little_time(esker, legacy):
    columns = ("episode_id", "step_index", "action", "observation", "reward", "terminated", "run_id")
    with legacy.connect() as database:
        database.executemany(
            f"INSERT INTO steps ({', '.join(columns)}) VALUES (?, ?, ?, ?, ?, ?, 'lake')",
            ((f"e{i // 50}", i % 50, i % 4, f"{i % 16}", 0.5, i % 50 == 49) for i in range(100_000)),
        )
    database.close()
    started = time.monotonic()
    assert migrate(esker)["moved"] == 100_000
    assert time.monotonic() - started < 30
    with h5py.File(esker.directory / "data/lake.h5") as file:
        np.testing.assert_array_equal(file["observations"], np.arange(100_000) % 16)
        np.testing.assert_array_equal(file["episodes/lengths"], [50] * 2000)
        np.testing.assert_array_equal(file["episodes/total_reward"], [25.0] * 2000)


def test_the_catalogue_finds_migrated_steps_by_the_refs_that_the_database_has(esker, legacy):
    steps = legacy.episode("game", "a", 30, small=True)
    steps[7]["render_payload"] = None
    legacy.add(steps)
    migrate(esker, "--drop-blobs")
    sql = "SELECT frame_ref, obs_ref FROM steps WHERE run = 'game' AND reward > 2 ORDER BY row"
    found = json.loads(esker.text("query", "data", sql, "--json"))
    old = legacy.query("SELECT frame_ref, obs_ref FROM steps WHERE reward > 2 ORDER BY rowid")
    assert [(row["frame_ref"], row["obs_ref"]) for row in found] == old and len(old) > 5
