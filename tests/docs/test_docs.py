"""README and guides show what is: their commands and code are run in order, and print what stands below them.

What runs, block by block, in one fresh directory per page:

    console   each `$ command`; the lines below it are its output. A page has one shell, so that what `&` puts
              into the background runs until it is killed (`kill %?name`), or the page ends
    sh        without `$`: commands that take minutes; they have to exist, and to be valid shell
    python    in one namespace per page
    c         all blocks of a page together are one program
    text      right behind python or c: what that printed
    any kind  whose first line is a comment that names a file (`# loop.py`, `/* loop.c */`): is written there

In expected output `...` stands for anything within a line, and alone on a line for any lines. Measured
figures (sizes, times, rates, dates) are not compared; counts are, except behind `<!-- live: REASON -->`,
where no figure is. A block behind the comment `<!-- not run: REASON -->` is left out. Rings that a page makes
in /dev/shm get names of their own, and go with the page.

docs/guide/cli.md and python.md are run by tests/cli/test_cli_guide.py and tests/python/test_guide.py.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest
from pages import BUILD, FILE, ROOT, Block, Shell, blocks_of, environment

PAGES = [ROOT / "README.md", *(ROOT / f"docs/guide/{name}.md" for name in ("engine", "replay", "daq"))]
RUN_ELSEWHERE = {
    "cli.md": ROOT / "tests/cli/test_cli_guide.py",
    "python.md": ROOT / "tests/python/test_guide.py",
}
DOCUMENTS = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")])
LONG_RUNNING = {
    "script/demo",
    "script/test",
    "script/bench",
    "script/crash",
    "script/bootstrap",
    "script/build",
}

FIGURE = re.compile(
    r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(\.\d+)?Z?"
    r"|\b\d[\d,.]*(?: (?:ns|us|ms|s|[kMGT]?i?B)\b(?:/s)?|x\b)"
    r"|\b\d+ commits"
)
LIVE = re.compile(
    r"-?\d[\d,.:_]*(e[+-]\d+)?( ?%| (ns|us|ms|s|[kMGT]?i?B)\b)?(/s)?|(?<!\S)-(?!\S)|[\u2581-\u2588]+"
)


def blurred(text: str, place: Path, live: bool) -> str:
    """Without figures, directories and the width of columns."""
    text = FIGURE.sub("#", text.replace(f"{place}/", "").replace(str(place), "."))
    if live:
        text = LIVE.sub("#", text)
    return "\n".join(re.sub(r"[ \t]+", " ", line).rstrip() for line in text.strip("\n").split("\n"))


def matches(expected: str, found: str) -> bool:
    pattern = ""
    for line in expected.split("\n"):
        if line.strip() == "...":
            pattern += r"(?:.*\n)*"
        else:
            pattern += ".*".join(re.escape(part) for part in line.split("...")) + r"\n"
    return re.fullmatch(pattern, found + "\n") is not None


def compare(what: str, expected: str, found: str, place: Path, live: bool = False) -> None:
    wanted, got = blurred(expected, place, live), blurred(found, place, live)
    assert matches(wanted, got), f"{what} shows\n{wanted}\nand prints\n{got}"


def run_console(block: Block, shell: Shell) -> None:
    for step in re.split(r"^\$ ", block.body, flags=re.M)[1:]:
        command, _, expected = step.partition("\n")
        while command.endswith("\\"):
            more, _, expected = expected.partition("\n")
            command += "\n" + more.removeprefix("> ")
        status, printed = shell.run(command)
        assert status == 0, f"{command}\n{printed}"
        compare(f"line {block.line}, `{command}`", expected, printed, shell.place, block.live)


def check_long_running(block: Block) -> None:
    assert subprocess.run(["bash", "-n"], input=block.body, text=True).returncode == 0, block.body
    for line in block.body.splitlines():
        words = shlex.split(line, comments=True)
        if words and words[0].startswith("script/"):
            assert words[0] in LONG_RUNNING, f"`{line}` is short: show it as console, with what it prints"
            source = (ROOT / words[0]).read_text(encoding="utf-8")
            assert os.access(ROOT / words[0], os.X_OK), words[0]
            inner = re.search(r"exec \S*python\S* (\S+\.py)", source)
            options = source + ((ROOT / inner[1]).read_text(encoding="utf-8") if inner else "")
            for word in words[1:]:
                assert not word.startswith("--") or word in options, f"{words[0]} knows no {word}"


def run_c(body: str, place: Path) -> str:
    source = place / "page.c"
    source.write_text(body, encoding="utf-8")
    command = [
        "cc",
        "-std=c17",
        "-Wall",
        "-Wextra",
        "-Werror",
        f"-I{ROOT / 'include'}",
        "-o",
        "page",
        source.name,
    ]
    built = subprocess.run(
        [*command, f"-L{BUILD / 'lib'}", "-lesker"], cwd=place, capture_output=True, text=True, timeout=60
    )
    assert built.returncode == 0, built.stderr
    done = subprocess.run(
        ["./page"], cwd=place, env=environment(place), capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def run_python(block: Block, page: Path, names: dict[str, object]) -> str:
    code = compile("\n" * (block.line - 1) + block.body, str(page), "exec")
    with contextlib.redirect_stdout(io.StringIO()) as out:
        exec(code, names)
    return out.getvalue()


def run_page(page: Path, place: Path, shell: Shell, shared: str) -> None:
    names: dict[str, object] = {}
    program, printed = "", None
    for block in blocks_of(page):
        block.body = block.body.replace("/dev/shm/", shared) if block.kind in ("python", "c") else block.body
        file = FILE.match(block.body)
        if file:
            (place / file["name"]).write_text(block.body, encoding="utf-8")
        elif block.kind == "console":
            assert block.body.startswith("$ "), f"line {block.line}: a console block starts with a command"
            run_console(block, shell)
        elif block.kind == "sh":
            check_long_running(block)
        elif block.kind == "python":
            printed = run_python(block, page, names)
        elif block.kind == "c":
            program += block.body + "\n"
            printed = run_c(program, place) if "int main(" in block.body else None
        elif block.kind == "text":
            assert printed is not None, f"line {block.line}: text behind nothing that prints"
            compare(f"line {block.line}", block.body, printed, place, block.live)
        else:
            assert block.kind == "", f"line {block.line}: who runs a block of {block.kind}?"
    assert "int main(" in program or not program


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_page_shows_what_is(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shared = f"/dev/shm/page-{os.getpid()}-"
    try:
        with contextlib.closing(Shell(tmp_path)) as shell:
            run_page(page, tmp_path, shell, shared)
    finally:
        links = (ring.resolve() for ring in tmp_path.rglob("*.ring") if ring.is_symlink())
        for ring in [*links, *Path("/dev/shm").glob(f"{Path(shared).name}*")]:
            ring.unlink(missing_ok=True)


def test_every_page_with_code_is_run() -> None:
    for page in [ROOT / "README.md", *(ROOT / "docs/guide").glob("*.md")]:
        if page in PAGES:
            continue
        assert page.name in RUN_ELSEWHERE, f"nothing runs {page}"
        assert page.name in RUN_ELSEWHERE[page.name].read_text(encoding="utf-8")


def anchors_of(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", DOCUMENTS, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if re.match(r"https?:", target):
            continue
        name, _, anchor = target.partition("#")
        other = page.parent / name if name else page
        assert other.exists(), target
        assert not anchor or anchor in anchors_of(other), target


@pytest.mark.parametrize("page", DOCUMENTS, ids=lambda page: page.name)
def test_files_and_functions_that_are_named_exist(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.S)
    folders = ("src", "cli", "include", "python", "script", "tests", "bench", "examples", "docs")
    for name in re.findall(rf"`((?:{'|'.join(folders)})/[\w./-]+)`", text):
        assert (ROOT / name).exists(), name
    sources = "".join(
        path.read_text(encoding="utf-8")
        for folder in ("src", "include", "tests/support")
        for path in (ROOT / folder).rglob("*.[ch]")
    )
    for name in re.findall(r"`(esk_\w+|ESK_\w+)`", text):
        assert re.search(rf"\b{name}\b", sources), name


def test_the_format_page_has_every_table_attribute_and_filter(tmp_path: Path) -> None:
    import esker
    import h5py
    import numpy as np

    text = (ROOT / "docs/FORMAT.md").read_text(encoding="utf-8")
    with esker.create(tmp_path / "store") as store:
        with store.run("run") as run:
            run.stream("imu", "x:f64?").append(np.float64(1))
        tables = store.query(
            "SELECT name FROM sqlite_master WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite%'"
        )
        for (table,) in tables:
            assert f"**{table}**" in text, f"table {table}"
            if not table.startswith("v_"):
                for (column,) in store.query(f"SELECT name FROM pragma_table_info('{table}')"):
                    assert f"`{column}`" in text, f"{table}.{column}"
    with h5py.File(tmp_path / "store/run.h5") as file:
        for name in [*file.attrs, *file["imu"].attrs]:
            assert f"`{name}`" in text, f"attribute {name}"
        assert file["imu/x_valid"].dtype == bool
    header = (ROOT / "src/codec/codec.h").read_text(encoding="utf-8")
    numbers = re.findall(r"ESK_FILTER_(\w+) = (\d+)", header)
    assert len(numbers) >= 9
    start = text.index("## Codecs")
    section = text[start : text.index("\n## ", start)].lower()
    for name, number in numbers:
        assert re.search(rf"\b{number}\b", section), f"filter {number} ({name})"
