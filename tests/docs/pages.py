"""Pages and their blocks, and the shell in which a page's commands run: see test_docs.py."""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("ESK_BUILD", ROOT / "build"))

FENCE = re.compile(
    r"^(?:<!-- (?P<mark>not run|live): .+? -->\n)?```(?P<kind>\w*)\n(?P<body>.*?)^```$", re.M | re.S
)
FILE = re.compile(r"(?:# |/\* )(?P<name>\w[\w.-]*\.(?:py|c|toml))(?: \*/)?\n")
JOBS = re.compile(r"^(?:\S+: (?:line \d+: )? *\d+|\[\d+\][+-]?) +(?:Killed|Terminated|Done|Exit) .*\n", re.M)


@dataclass
class Block:
    kind: str
    body: str
    line: int
    live: bool


def blocks_of(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [
        Block(
            match["kind"],
            match["body"],
            text.count("\n", 0, match.start("body")) + 1,
            match["mark"] == "live",
        )
        for match in FENCE.finditer(text)
        if match["mark"] != "not run"
    ]


def environment(place: Path) -> dict[str, str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if name.startswith(("ASAN_", "UBSAN_", "LD_PRELOAD"))
    }
    path = f"{BUILD / 'bin'}:{ROOT / '.venv/bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    return {
        **kept,
        "PATH": path,
        "HOME": str(place),
        "TZ": "UTC",
        "LD_LIBRARY_PATH": str(BUILD / "lib"),
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "PKG_CONFIG_PATH": str(BUILD / "meson-uninstalled"),
        "CPATH": str(ROOT / "include"),
    }


class Shell:
    """The bash of one page. Its children, in groups of their own, do not outlive it."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.steps = 0
        self.bash = subprocess.Popen(
            ["bash", "--norc", "-s"],
            cwd=place,
            env=environment(place),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.bash.stdin is not None
        self.bash.stdin.write("set -m -o pipefail\n")

    def run(self, command: str, timeout_s: float = 300) -> tuple[int, str]:
        """Exit status of the command, and what it printed."""
        self.steps += 1
        step, out = (self.place / f".step-{self.steps}{ending}" for ending in (".sh", ""))
        step.write_text(command, encoding="utf-8")
        assert self.bash.stdin is not None and self.bash.stdout is not None
        self.bash.stdin.write(f'{{ source ./{step.name}; }} >./{out.name} 2>&1 </dev/null; echo "$?"\n')
        self.bash.stdin.flush()
        ready, _, _ = select.select([self.bash.stdout], [], [], timeout_s)
        printed = JOBS.sub("", out.read_text(encoding="utf-8"))
        assert ready, f"{command}\ndid not end within {timeout_s} s\n{printed}"
        return int(self.bash.stdout.readline()), printed

    def close(self) -> None:
        children = Path(f"/proc/{self.bash.pid}/task/{self.bash.pid}/children").read_text().split()
        for child in map(int, children):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child, signal.SIGKILL)
        self.bash.kill()
        self.bash.communicate()
