"""The command line of `esker`: help, usage errors, completion, where the store is."""

import json
import os
import pathlib
import pty
import re
import select
import subprocess
import time

import numpy as np
import pytest
from cli_support import record, save

COMMANDS = [
    "init",
    "record",
    "ls",
    "info",
    "get",
    "cat",
    "query",
    "plot",
    "top",
    "daemon",
    "send",
    "status",
    "episodes",
    "replay",
    "export",
    "migrate",
    "verify",
    "repair",
    "reindex",
    "keygen",
    "decrypt",
    "config",
    "doctor",
    "completion",
    "help",
]


# ---- help, usage, consistency ----


def test_version_is_printed(esker):
    assert re.fullmatch(r"esker \d+\.\d+\.\d+\n", esker.text("--version"))


def test_overview_lists_every_command(esker):
    listed = re.findall(r"^  (\w+) +\S", esker.text("help").split("commands")[1], re.M)
    assert listed == COMMANDS


def test_no_command_is_a_usage_error(esker):
    assert "usage" in esker(code=2).stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_each_command_has_usage_and_examples(esker, command):
    text = esker.text("help", command)
    assert text == esker.text(command, "--help")
    assert f"usage: esker {command}" in text
    assert "\nexamples\n" in text
    assert all(len(line) <= 80 or line.startswith(("  esker", "usage", "  ")) for line in text.splitlines())


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_and_option_is_in_manual_and_completions(esker, command):
    options = set(
        re.findall(
            r"--([a-z][a-z0-9-]+)", esker.text("help", command).split("\noptions\n")[1].split("\nexamples")[0]
        )
    )
    manual = esker.text("help", "--man")
    section = manual.split(f'.SS "esker {command}"')[1].split(".SS ")[0] + manual.split(".SH COMMANDS")[0]
    bash, zsh, fish = (esker.text("completion", shell) for shell in ("bash", "zsh", "fish"))
    assert f"\t{command})" in bash and f"'{command}:" in zsh and f"-a {command} " in fish
    for option in options:
        assert option.replace("-", "\\-") in section, option
        assert f"--{option}" in bash and f"--{option}" in zsh, option
        assert f"-l {option}" in fish, option


def test_manual_is_good_roff(esker):
    page = esker.text("help", "--man").encode()
    shown = subprocess.run(
        ["man", "--warnings", "-l", "-"],
        input=page,
        capture_output=True,
        env={**os.environ, "MANWIDTH": "100"},
    )
    if shown.returncode == 127 or shown.stdout == b"":
        pytest.skip("no man here")
    assert shown.stderr == b""
    assert b"esker record" in shown.stdout and b"EXIT STATUS" in shown.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_script_parses(esker, shell):
    script = esker.directory / "script"
    script.write_text(esker.text("completion", shell))
    try:
        subprocess.run([shell, "-n", str(script)], check=True)
    except FileNotFoundError:
        pytest.skip(f"no {shell} here")


def complete(esker, *words):
    """What bash offers behind `words` (the last one is being typed)."""
    script = esker.directory / "completion.bash"
    script.write_text(esker.text("completion", "bash"))
    quoted = " ".join("'" + word.replace("'", "'\\''") + "'" for word in words)
    line = f"source {script}; COMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}; _esker; "
    line += "printf '%s\\n' \"${COMPREPLY[@]}\""
    out = subprocess.run(["bash", "-c", line], capture_output=True, text=True, cwd=esker.directory).stdout
    return set(out.split("\n")) - {""}


def test_bash_completes_commands_options_runs_and_refs(store):
    record(store, "game", np.arange(3))
    record(store, "odd name", np.arange(3))
    assert {"verify", "record", "--version"} <= complete(store, store.binary, "")
    assert complete(store, store.binary, "repa") == {"repair"}
    assert complete(store, store.binary, "get", "--col") == {"--columns-per-row"}
    assert complete(store, store.binary, "record", "--policy", "o") == {"overwrite"}
    assert {"minari", "video", "npz", "game"} <= complete(store, store.binary, "export", "-C", "data", "")
    assert complete(store, store.binary, "export", "vi") == {"video"}
    assert "game" in complete(store, store.binary, "ls", "-C", "data", "ga")
    assert "game" in complete(store, store.binary, "ls", "data", "")
    assert "odd\\ name" in complete(store, store.binary, "ls", "data", "odd")
    assert complete(store, store.binary, "get", "-C", "data", "h5", ":", "//g") == {"//game/"}
    assert complete(store, store.binary, "help", "do") == {"doctor"}


def test_fish_completes_commands_options_and_runs(store):
    record(store, "game", np.arange(3))
    (store.directory / "script").write_text(store.text("completion", "fish"))

    def offers(line):
        command = ["fish", "-c", f"source script; complete -C '{line}'"]
        path = f"{pathlib.Path(store.binary).parent}:{os.environ['PATH']}"
        try:
            done = subprocess.run(
                command,
                capture_output=True,
                text=True,
                cwd=store.directory,
                env={**store.environment, "PATH": path},
            )
        except FileNotFoundError:
            pytest.skip("no fish here")
        return {line.split("\t")[0] for line in done.stdout.splitlines()}

    assert offers("esker ver") >= {"verify"}
    assert offers("esker get --colu") == {"--columns-per-row"}
    assert "game" in offers("esker ls -C data g")
    assert "h5://game/" in offers("esker get -C data h5")
    assert offers("esker record --policy o") == {"overwrite"}


ZSHRC = """
PS1= RPS1=
unsetopt zle_bracketed_paste prompt_sp
autoload -Uz compinit; compinit -u -D
source ./script
show() { print -r -- "<$BUFFER>"; BUFFER= }
zle -N show; bindkey '^X' show
bindkey '^I' complete-word
print ready
"""


def test_zsh_completes_commands_options_and_runs(store):
    """Tab in an interactive zsh on a terminal of its own; Control-X prints the line as it is then."""
    record(store, "game", np.arange(3))
    record(store, "odd name", np.arange(3))
    (store.directory / "script").write_text(store.text("completion", "zsh"))
    (store.directory / ".zshrc").write_text(ZSHRC)
    path = f"{pathlib.Path(store.binary).parent}:{os.environ['PATH']}"
    environment = {**store.environment, "PATH": path, "ZDOTDIR": str(store.directory), "TERM": "dumb"}
    master, slave = pty.openpty()
    try:
        zsh = subprocess.Popen(
            ["zsh", "-i"],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=store.directory,
            env=environment,
            start_new_session=True,
        )
    except FileNotFoundError:
        pytest.skip("no zsh here")
    finally:
        os.close(slave)

    def answer(pattern):
        seen, deadline = b"", time.monotonic() + 30
        while (found := re.search(pattern, seen)) is None and time.monotonic() < deadline:
            if select.select([master], [], [], 0.5)[0]:
                seen += os.read(master, 65536)
        assert found, seen
        return found[1].decode()

    def completed(line):
        os.write(master, line.encode() + b"\t\x18")
        return answer(rb"<([^>]*)>")

    assert answer(rb"(ready)\r\n")
    assert completed("esker ver") == "esker verify "
    assert completed("esker get --colu") == "esker get --columns-per-row "
    assert completed("esker ls -C data ga") == "esker ls -C data game "
    assert completed("esker ls data odd") == "esker ls data odd\\ name "
    assert completed("esker get -C data h5://g") == "esker get -C data h5://game/"
    assert completed("esker record --policy o") == "esker record --policy overwrite "
    zsh.kill()
    zsh.wait()
    os.close(master)


def test_near_misses_are_pointed_out(store):
    assert "did you mean 'verify'" in store("verfy", code=2).stderr
    assert "did you mean --json" in store("ls", "data", "--jsno", code=2).stderr


@pytest.mark.parametrize(
    "words",
    [
        ["nosuch"],
        ["ls", "--nosuch"],
        ["ls", "-Z"],
        ["ls", "data", "a", "b"],
        ["ls", "--json=1"],
        ["init"],
        ["get", "data"],
        ["query", "data"],
        ["record", "data"],
        ["record", "data", "r"],
        ["record", "data", "r", "-c", "x:u9"],
        ["record", "data", "r", "-c", "x:u8", "-c"],
        ["record", "data", "r", "-c", "x:u8", "--codec", "gzip:99"],
        ["record", "data", "r", "-c", "x:u8", "--policy", "perhaps"],
        ["record", "data", "r", "-c", "x:u8", "--ring", "big"],
        ["record", "data", "r", "-c", "x:u8", "--ring", "-1"],
        ["record", "data", "r", "-c", "x:u8", "--ring", "1e30G"],
        ["record", "data", "r", "-c", "x:u8", "--commit-interval", "0"],
        ["record", "data", "r", "-c", "x:u8", "--metadata", "[1]"],
        ["record", "data", "r", "-c", "x:u8", "--metadata", "{"],
        ["record", "data", "r", "-c", "x:str"],
        ["record", "data", "r", "x.txt"],
        ["cat", "data", "r", "--csv", "--json"],
        ["query", "data", "select 1", "--csv", "--json"],
        ["get", "data", "h5://r/x", "-o", "x.gif"],
        ["get", "data", "h5://r/x", "-f", "gif"],
        ["get", "data", "h5://r/x", "--scale", "0"],
        ["get", "data", "h5://r/x", "--scale", "1/0"],
        ["get", "data", "h5://r/x", "--every", "0"],
        ["get", "data", "h5://r/x", "--columns-per-row", "0"],
        ["verify", "data", "-j", "many"],
        ["completion"],
        ["completion", "tcsh"],
        ["help", "nosuch"],
    ],
)
def test_usage_errors_exit_with_2_and_say_why(store, words):
    done = store(*words, code=2)
    assert done.stderr.startswith("esker: ") and "Try 'esker help" in done.stderr
    assert done.stdout == b""


def test_errors_exit_with_1_and_say_why(store):
    for words in (
        ["ls", "data", "nosuch"],
        ["info", "data", "nosuch"],
        ["cat", "data", "nosuch"],
        ["get", "data", "h5://nosuch/x"],
        ["get", "data", "h5://", "-o", "x.npy"],
        ["query", "data", "select * from nosuch"],
        ["query", "data", "delete from runs"],
        ["init", "data"],
        ["init", "no/such/parent"],
        ["ls", "-C", "nosuch"],
        ["info", "nosuch.h5"],
        ["doctor", "nosuch"],
    ):
        done = store(*words, code=1)
        assert done.stderr.startswith("esker: "), words
        assert done.stdout == b"", words


# ---- the store ----


def test_store_comes_from_option_argument_environment_or_directory(store):
    record(store, "r", np.arange(4))
    expected = store.text("ls", "data", "--names")
    assert expected == "r\n"
    assert store.text("ls", "-C", "data", "--names") == expected
    assert store.text("-C", "data", "ls", "--names") == expected
    assert store.text("ls", "--store=data", "--names") == expected
    assert store.text("ls", "--names", environment={"ESKER_STORE": "data"}) == expected
    store.directory = store.directory / "data"
    assert store.text("ls", "--names") == expected
    store("ls", "r")


def test_a_directory_that_is_no_store_is_named(store):
    (store.directory / "plain").mkdir()
    for words in (["ls", "plain"], ["verify", "./plain"], ["get", "./plain", "h5://r/x"]):
        done = store(*words, code=1)
        assert "plain" in done.stderr and "esker.db" in done.stderr
    assert "no store here" in store("ls", code=1).stderr


def test_words_behind_a_double_dash_are_no_options(store):
    save(store, "x.npy", np.arange(2))
    store("record", "-C", "data", "--ring", "1M", "--", "-odd", "x.npy")
    assert store.text("ls", "data", "--names") == "-odd\n"
    assert len(json.loads(store.text("ls", "data", "--json", "--", "-odd"))["columns"]) == 1
