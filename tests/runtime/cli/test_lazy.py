"""Commands are imported when they are used, and their help is that of their modules."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import typer

from fastsam_deploy.runtime import cli
from fastsam_deploy.runtime.cli.main import COMMANDS, app

PACKAGE = cli.__name__
SHOW = f"""
import json, sys
sys.argv[0] = "fastsam"
from {PACKAGE}.main import main
try:
    main()
finally:
    names = [name.rpartition(".")[2] for name in sys.modules if name.startswith("{PACKAGE}.")]
    print(json.dumps(names), file=sys.stderr)
"""


def commands_imported(*arguments: str, **variables: str) -> tuple[str, set[str]]:
    """What `fastsam` printed, and the modules of commands that it imported."""
    run = [sys.executable, "-c", SHOW, *arguments]
    environment = {**os.environ, "COLUMNS": "200", "TERM": "dumb", **variables}
    done = subprocess.run(run, capture_output=True, text=True, encoding="utf-8", env=environment, check=False)
    return done.stdout, set(json.loads(done.stderr.splitlines()[-1])) & set(COMMANDS)


def written_help(name: str) -> str:
    """The help of a command as its module has it."""
    command = getattr(import_module(f"{PACKAGE}.{name}"), name)
    return str(command.info.help) if isinstance(command, typer.Typer) else inspect.getdoc(command) or ""


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_is_what_its_module_has_under_its_name(name: str) -> None:
    command: Any = typer.main.get_command(app)
    command = command.commands[name]
    assert command.name == name
    assert command.help == written_help(name) != ""
    assert command.callback is None or command.callback.__module__ == f"{PACKAGE}.{name}"


def test_every_module_of_a_command_is_listed() -> None:
    modules = {path.stem for path in Path(cli.__path__[0]).glob("*.py")} - {"__init__", "__main__", "main"}
    assert {name for name in modules if hasattr(import_module(f"{PACKAGE}.{name}"), name)} == set(COMMANDS)


def test_the_help_lists_every_command_in_this_order_with_the_first_lines_of_its_own() -> None:
    shown, imported = commands_imported("--help")
    lines = [line.strip("│| ").split(maxsplit=1) for line in shown.splitlines()]
    listed = [(words[0], words[1]) for words in lines if len(words) == 2 and words[0] in COMMANDS]
    assert listed == [(name, " ".join(written_help(name).split("\n\n")[0].split())) for name in COMMANDS]
    assert imported == set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_imports_no_other(name: str) -> None:
    shown, imported = commands_imported(name, "--help")
    assert written_help(name).split(".")[0].split()[0] in shown
    assert imported == {name}


def test_a_word_that_is_no_command_imports_none() -> None:
    assert commands_imported("--version")[1] == set()
    assert commands_imported("segmnt", "photo.jpg")[1] == set()


def test_completing_a_name_imports_the_commands_that_begin_with_it() -> None:
    completing = {"_FASTSAM_COMPLETE": "complete_bash", "COMP_CWORD": "1"}
    shown, imported = commands_imported(COMP_WORDS="fastsam se", **completing)
    assert shown.split() == ["segment", "serve"]
    assert imported == {"segment", "serve"}


@pytest.mark.parametrize("group", ["bench", "batch"])
def test_a_group_alone_shows_its_commands(group: str) -> None:
    shown, _ = commands_imported(group)
    assert "Usage: fastsam " + group in shown
    completing = {"_FASTSAM_COMPLETE": "complete_bash", "COMP_CWORD": "2", "COMP_WORDS": f"fastsam {group} "}
    root: Any = typer.main.get_command(app)
    assert commands_imported(**completing)[0].split() == list(root.commands[group].commands)
