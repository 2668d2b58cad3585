"""The commands that docs/guide/cli.md shows are run in order, and print what stands there but for figures."""

import os
import pathlib
import re
import subprocess

import numpy as np
from conftest import ROOT
from legacy import Legacy

GUIDE = ROOT / "docs/guide/cli.md"
SENSOR = """#!/usr/bin/env python3
import struct, sys
for n in range(1000):
    sys.stdout.buffer.write(struct.pack("<q3d", n, n, n + 0.5, n + 1))
"""


def read_steps(text):
    """The guide's (command, expected output) pairs."""
    steps = []
    for block in re.findall(r"```console\n(.*?)```", text, re.S):
        for step in re.split(r"^\$ ", block, flags=re.M)[1:]:
            command, _, output = step.partition("\n")
            steps.append((command, output))
    return steps


def blur(text):
    """Leaves out what differs from run to run: figures, their units, widths, directories."""
    text = re.sub(r"[\d,.:-]*\d[\d,.:-]*( (n|u|m)?s| [kMG]?B)?(/s)?x?", "#", text)
    return re.sub(r"\S*/data/", "data/", re.sub(r"[ \t]+", " ", text)).replace(" \n", "\n")


def test_the_guide_shows_what_is(esker):
    place = esker.directory
    y, x = np.mgrid[0:84, 0:80]
    frames = np.stack(
        [np.stack([(x + t) // 8 * 8, y // 8 * 8, 0 * x], -1).astype(np.uint8) for t in range(120)]
    )
    np.save(place / "frames.npy", frames)
    np.save(place / "actions.npy", np.arange(120, dtype=np.int32) % 4)
    (place / "sensor").write_text(SENSOR)
    (place / "sensor").chmod(0o755)
    telemetry = Legacy(place / "telemetry.sqlite")
    for name in ("a", "b"):
        telemetry.add(telemetry.episode("game", name, 10, small=True))
    path = f"{pathlib.Path(esker.binary).parent}:{os.environ['PATH']}"
    steps = read_steps(GUIDE.read_text())
    assert len(steps) >= 12
    for command, expected in steps:
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", command],
            cwd=place,
            env={**esker.environment, "PATH": path},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, (command, done.stderr)
        assert blur(done.stdout) == blur(expected), command
    for name in ("frame.png", "sheet.png", "action.npy", "game.mp4", "game.gif", "game.npz"):
        assert (place / name).stat().st_size > 100
