"""Runs whose finished files are encrypted."""

from __future__ import annotations

import os
import stat
import subprocess
import sys

import esker
import h5py
import numpy as np
import pytest
from esker.daq import SessionStorage, StorageConfig


@pytest.fixture
def key(tmp_path):
    path = tmp_path / "key"
    esker.make_key(path)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    return path


def test_finished_files_are_encrypted_and_read_as_others(tmp_path, key):
    values = np.arange(100_000.0)
    with esker.create(tmp_path / "s", key_file=key) as store:
        with store.run("r", ring_bytes=4 << 20, encrypt=True, attributes={"secret": "needle-2718"}) as run:
            run.stream("/", "x:f64@none").extend(x=values)
        (sealed,) = (tmp_path / "s").glob("r*.h5x")
        assert not list((tmp_path / "s").glob("r*.h5"))
        assert (
            b"needle-2718" not in sealed.read_bytes() and values[500:600].tobytes() not in sealed.read_bytes()
        )
        assert (store["r"]["x"][:] == values).all()
    esker.decrypt(sealed, tmp_path / "plain.h5", key)
    with h5py.File(tmp_path / "plain.h5") as file:
        assert (file["x"][:] == values).all()
    with pytest.raises(esker.Exists):
        esker.decrypt(sealed, tmp_path / "plain.h5", key)


READ = "import esker, sys; print(len(esker.open(sys.argv[1], read_only=True)['r']['x'][:]))"


def test_without_the_key_nothing_is_read_and_the_message_says_which(tmp_path, key):
    store = esker.create(tmp_path / "s", key_file=key)
    with store, store.run("r", ring_bytes=1 << 20, encrypt=True) as run:
        run.stream("/", "x:f64").extend(x=np.arange(10.0))

    def read(**environment):
        return subprocess.run(
            [sys.executable, "-c", READ, tmp_path / "s"],
            capture_output=True,
            text=True,
            env={**os.environ, **{name: str(value) for name, value in environment.items()}},
        )

    assert read(ESKER_KEY_FILE=key).stdout == "10\n"
    lacking = read()
    assert lacking.returncode != 0 and "AccessDenied" in lacking.stderr and "key" in lacking.stderr
    other = tmp_path / "other"
    esker.make_key(other)
    assert read(ESKER_KEY_FILE=other).returncode != 0


def test_a_run_without_a_key_to_encrypt_with_is_refused(tmp_path, monkeypatch):
    monkeypatch.delenv("ESKER_KEY", raising=False)
    monkeypatch.delenv("ESKER_KEY_FILE", raising=False)
    code = "import esker, sys\nwith esker.create(sys.argv[1]) as s: s.run('r', encrypt=True)"
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "s"], capture_output=True, text=True)
    assert done.returncode != 0 and "NotFound" in done.stderr and "key" in done.stderr


def test_a_session_is_encrypted_when_it_ends(tmp_path, key):
    config = StorageConfig(output_dir=tmp_path / "s", encrypt=True, key_file=str(key))
    with SessionStorage(config) as session:
        session.write_batch("i", {"x": [1, 2, 3]})
        name = session.name
    assert list((tmp_path / "s").glob(f"{name}*.h5x"))
    with esker.open(tmp_path / "s", key_file=key) as store:
        assert store[name]["i/x"][:].tolist() == [1, 2, 3]
