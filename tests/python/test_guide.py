"""The code of docs/guide/python.md runs, and prints what it says."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import pytest

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "guide" / "python.md"


def test_the_guide_runs_from_top_to_bottom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```(python|text)\n(.*?)```", GUIDE.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert sum(kind == "python" for kind, _ in blocks) >= 5
    names: dict[str, object] = {}
    printed = ""
    for kind, block in blocks:
        if kind == "text":
            assert printed == block
            continue
        with contextlib.redirect_stdout(io.StringIO()) as out:
            exec(compile(block, str(GUIDE), "exec"), names)
        printed = out.getvalue()


def test_the_guide_names_every_exception() -> None:
    import esker

    text = GUIDE.read_text(encoding="utf-8")
    kinds = [name for name in esker.__all__ if isinstance(getattr(esker, name), type)]
    errors = [name for name in kinds if issubclass(getattr(esker, name), esker.Error)]
    assert [name for name in errors if f"`{name}`" not in text and name not in ("Error", "OutOfMemory")] == []
