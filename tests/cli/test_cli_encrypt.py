"""Encryption at rest: keygen, record --encrypt, reading with and without the key, decrypt."""

import json
import os
import pathlib
import stat

import h5py
import numpy as np
import pytest
from cli_support import get_npy, record


@pytest.fixture
def encrypted(store):
    """A store with an encrypted run `cam`; the key's name and the rows."""
    name = store.text("keygen", "key").strip()
    rows = np.arange(20000, dtype=np.int64).reshape(-1, 4)
    record(store, "cam", rows, "--encrypt", "--key", "key")
    return name, rows


def segments(store):
    return sorted((store.directory / "data").glob("*.h5*"))


def test_keygen_makes_a_private_file_and_prints_the_keys_name(esker):
    told = esker("keygen", "key")
    secret = (esker.directory / "key").read_text().strip()
    assert stat.S_IMODE(os.stat(esker.directory / "key").st_mode) == 0o600
    assert len(secret) == 64 and len(told.stdout.strip()) == 16
    assert secret not in told.stdout.decode() + told.stderr
    assert "exist" in esker("keygen", "key", code=1).stderr
    assert (esker.directory / "key").read_text().strip() == secret
    assert "name the file" in esker("keygen", code=2).stderr


def test_an_encrypted_run_is_read_where_the_key_is_given(store, encrypted):
    _, rows = encrypted
    assert [path.suffix for path in segments(store)] == [".h5x"]
    store.environment["ESKER_KEY_FILE"] = "key"
    np.testing.assert_array_equal(get_npy(store, "h5://cam/x"), rows)
    assert "no findings" in store.text("verify", "data")
    assert str(rows[7, 2]) in store.text("cat", "data", "h5://cam/x/7")
    assert "cam" in store.text("info", "data", "cam")
    del store.environment["ESKER_KEY_FILE"]
    secret = (store.directory / "key").read_text().strip()
    store.environment["ESKER_KEY"] = secret
    np.testing.assert_array_equal(get_npy(store, "h5://cam/x"), rows)


def test_the_summary_names_the_encrypted_file_and_its_size(store):
    store.text("keygen", "key")
    summary = store.text(
        "record", "data", "cam", "-c", "t:i64", "--encrypt", "--key", "key", "--json", data=b"12345678" * 10
    )
    (file,) = segments(store)
    told = json.loads(summary)
    assert (pathlib.Path(told["file"]).name, told["file_bytes"]) == (file.name, file.stat().st_size)


def test_without_the_key_the_one_that_is_needed_is_named(store, encrypted):
    name, _ = encrypted
    told = store("get", "data", "h5://cam/x", "-o", "x.npy", code=1).stderr
    assert name in told and "ESKER_KEY_FILE" in told
    other = store.text("keygen", "other").strip()
    told = store("get", "data", "h5://cam/x", "-o", "x.npy", "--key", "other", code=1).stderr
    assert name in told and other in told
    secret = (store.directory / "key").read_text().strip()
    assert secret not in told
    assert "cam" in store.text("ls", "data")
    (store.directory / "key").chmod(0o644)
    assert "chmod 600" in store("get", "data", "h5://cam/x", "-o", "x.npy", "--key", "key", code=1).stderr


def test_what_is_decrypted_is_read_by_h5py(store, encrypted):
    _, rows = encrypted
    (store.directory / "plain").mkdir()
    written = store.text("decrypt", "data", "cam", "-o", "plain", "--key", "key").split()
    assert len(written) == 1
    with h5py.File(store.directory / written[0]) as file:
        np.testing.assert_array_equal(file["x"][()], rows)
        assert file.attrs["esker_run"] in ("cam", b"cam")
    source = segments(store)[0]
    store("decrypt", source, "-o", "one.h5", "--key", "key")
    assert (store.directory / "one.h5").read_bytes() == (store.directory / written[0]).read_bytes()
    assert "exists already" in store("decrypt", source, "-o", "one.h5", "--key", "key", code=1).stderr
    assert "directory" in store("decrypt", "data", "cam", "--key", "key", code=2).stderr
    assert 'no run "none"' in store("decrypt", "data", "none", "-o", "plain", "--key", "key", code=1).stderr


def test_a_changed_byte_is_told_with_its_page_and_nothing_is_written(store, encrypted):
    source = segments(store)[0]
    data = bytearray(source.read_bytes())
    data[-1] ^= 1
    source.write_bytes(data)
    last = (len(data) - 128 - 1) // 65552
    told = store("decrypt", source, "-o", "one.h5", "--key", "key", code=1).stderr
    assert f"page {last} " in told and source.name in told
    assert not list(pathlib.Path(store.directory).glob("one.h5*"))


def test_record_with_encryption_needs_a_key(store):
    np.save(store.directory / "x.npy", np.zeros(3))
    told = store("record", "data", "cam", "x.npy", "--ring", "4M", "--encrypt", code=1).stderr
    assert "no key is given" in told
    assert segments(store) == []
