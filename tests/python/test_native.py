"""The extension: it has every function of the public headers, and the package has what it exports."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import esker
from esker._errors import BY_STATUS
from esker._native import ffi, lib

ROOT = Path(__file__).resolve().parents[2]


def declared() -> set[str]:
    text = " ".join(path.read_text() for path in (ROOT / "include" / "esker").glob("*.h"))
    text = re.sub(r"/\*.*?\*/", " ", text, flags=re.DOTALL)
    return set(re.findall(r"ESK_API\s[^;(]*?\b(esk_\w+)\s*\(", text))


def test_every_public_function_is_in_the_extension() -> None:
    functions = declared()
    assert len(functions) > 50
    missing = [name for name in sorted(functions) if not hasattr(lib, name)]
    assert missing == []


def test_functions_that_the_package_calls_are_public() -> None:
    used = set()
    for path in (ROOT / "python" / "esker").rglob("*.py"):
        used |= set(re.findall(r"\blib\.(esk_\w+)", path.read_text()))
    assert used <= declared()
    assert len(used) > 40


def test_every_status_has_an_exception() -> None:
    codes = {value for name, value in ffi.typeof("esk_status").relements.items() if name != "ESK_OK"}
    assert codes == set(BY_STATUS)
    assert codes | {lib.ESK_OK} == set(map(int, esker.Status))


def test_version_is_the_library_version() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+", esker.__version__)


def test_all_names_exist() -> None:
    assert [name for name in esker.__all__ if not hasattr(esker, name)] == []


def test_package_says_that_it_is_typed() -> None:
    assert (Path(esker.__file__).parent / "py.typed").exists()


def test_machine_measures() -> None:
    machine = esker.machine()
    assert machine.cores >= 1
    assert machine.memory_bytes > 1 << 20
    assert machine.memcpy_bytes_per_s > 1e6
    assert machine.hdf5_version.count(".") == 2
    assert machine.simd


def test_interpreter_ends_cleanly_with_a_recording_open(tmp_path: Path) -> None:
    program = f"""
import logging, esker
logging.basicConfig(level=logging.DEBUG)
store = esker.create({str(tmp_path / "store")!r})
run = store.run("run", ring_bytes=1 << 20, commit_interval=0.01)
stream = run.stream("/", "x:i64")
for i in range(1000):
    stream.append(i)
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    with esker.open(tmp_path / "store") as store:
        assert len(store["run"]["x"]) == 1000
