"""What the CLI tests share: the program under test, and a store to work in."""

import os
import pathlib
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]


def find_binary() -> pathlib.Path:
    build = os.environ.get("ESK_BUILD")
    return pathlib.Path(build) / "bin/esker" if build else ROOT / "build/bin/esker"


class Esker:
    """Runs the real program in a directory of its own."""

    def __init__(self, directory: pathlib.Path):
        self.binary = str(find_binary())
        self.directory = directory
        self.environment = {"PATH": os.environ["PATH"], "HOME": str(directory), "TZ": "UTC"}
        for name, value in os.environ.items():
            if name.startswith(("ASAN_", "TSAN_", "LSAN_", "UBSAN_", "LD_")):
                self.environment[name] = value

    def popen(self, *words, environment=None, **options) -> subprocess.Popen:
        options.setdefault("stdout", subprocess.PIPE)
        options.setdefault("stderr", subprocess.PIPE)
        options.setdefault("stdin", subprocess.DEVNULL)
        return subprocess.Popen(
            [self.binary, *map(str, words)],
            cwd=self.directory,
            env={**self.environment, **(environment or {})},
            **options,
        )

    def __call__(self, *words, data=None, code=0, environment=None) -> subprocess.CompletedProcess:
        """Runs to the end and checks the exit status (None: any); `data` is bytes for standard input."""
        process = self.popen(
            *words, environment=environment, stdin=subprocess.DEVNULL if data is None else subprocess.PIPE
        )
        out, err = process.communicate(data, timeout=120)
        done = subprocess.CompletedProcess(words, process.returncode, out, err.decode("utf-8", "replace"))
        assert code is None or done.returncode == code, (
            f"esker {words}: status {done.returncode}, wanted {code}\n{out[-2000:]}\n{done.stderr}"
        )
        return done

    def text(self, *words, **options) -> str:
        return self(*words, **options).stdout.decode()


@pytest.fixture
def esker(tmp_path):
    return Esker(tmp_path)


@pytest.fixture
def store(esker):
    """The program, in a directory with an empty store `data`."""
    esker("init", "data", "-q")
    return esker
