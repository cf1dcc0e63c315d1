"""Groups of options: what a command is that takes them, and that the commands of `fastsam` share theirs."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Annotated, Any

import pytest
import typer
from typer.testing import CliRunner

from fastsam_deploy.runtime.cli import main as cli
from fastsam_deploy.runtime.cli.groups import with_groups
from fastsam_deploy.runtime.cli.options import NetworkOptions, PromptOptions, ResultOptions


@dataclass(frozen=True)
class Volume:
    """A group for the tests."""

    loudness: Annotated[int, typer.Option("--loudness", "-l", help="From 0 to 10.", rich_help_panel="Volume")] = 5
    fade: Annotated[bool, typer.Option(help="Fade out.", rich_help_panel="Volume")] = False


@dataclass(frozen=True)
class Key:
    """A group with an option that must be given."""

    key: Annotated[str, typer.Option(help="Such as C.")]
    sharp: Annotated[list[str] | None, typer.Option(help="May be repeated.")] = None


@dataclass(frozen=True)
class Loudness:
    """A group with a name that another one has."""

    loudness: int = 0


Loud = Annotated[list[int] | None, typer.Option("--loudness", help="May be repeated.")]


def run(command: Any, *arguments: str) -> Any:
    app = typer.Typer()
    app.command()(command)
    return CliRunner().invoke(app, list(arguments), catch_exceptions=False)


@pytest.fixture
def played() -> list[Any]:
    return []


@pytest.fixture
def play(played: list[Any]) -> Any:
    @with_groups
    def play(song: str, *, key: Key, volume: Volume, times: int = 1) -> None:
        """Play a song."""
        played.append((song, key, volume, times))

    return play


def test_options_become_the_fields_of_their_group(play: Any, played: list[Any]) -> None:
    done = run(play, "so what", "--key", "D", "--sharp", "F", "--sharp", "C", "-l", "7", "--fade", "--times", "2")
    assert done.exit_code == 0, done.output
    assert played == [("so what", Key("D", ["F", "C"]), Volume(7, fade=True), 2)]


def test_what_is_not_given_has_the_default_of_its_field(play: Any, played: list[Any]) -> None:
    assert run(play, "so what", "--key", "D").exit_code == 0
    assert played == [("so what", Key("D"), Volume(), 1)]
    done = run(play, "so what")
    assert done.exit_code == 2
    assert "--key" in done.output, "a field without a default is required"
    assert len(played) == 1


def test_the_help_is_that_of_the_fields(play: Any) -> None:
    shown = run(play, "--help").output
    for text in ("Play a song.", "From 0 to 10.", "[default: 5]", "Fade out.", "Such as C.", "--no-fade", "Volume"):
        assert text in shown
    assert shown.index("Such as C.") < shown.index("From 0 to 10.")


def test_a_parameter_of_the_command_takes_the_place_of_an_option(played: list[Any]) -> None:
    @with_groups
    def play(*, volume: Volume, loudness: Loud = None) -> None:
        played.append((volume, loudness))

    assert run(play, "--fade", "--loudness", "1", "--loudness", "2").exit_code == 0
    assert played == [(Volume(5, fade=True), [1, 2])]
    assert "From 0 to 10." not in run(play, "--help").output


def test_the_context_is_handed_on(played: list[Any]) -> None:
    @with_groups
    def play(context: typer.Context, *, volume: Volume) -> None:
        played.append((context.info_name, volume.loudness))

    assert run(play).exit_code == 0
    assert played == [("play", 5)]


def test_two_groups_with_one_name_are_a_mistake() -> None:
    with pytest.raises(TypeError, match="play: two groups have an option loudness"):

        @with_groups
        def play(*, volume: Volume, other: Loudness) -> None: ...


COMMANDS = {"segment": (), "video": (), "speed": ("bench",), "fidelity": ("bench",)}


@pytest.mark.parametrize(
    ("group", "commands"),
    [
        (NetworkOptions, list(COMMANDS)),
        (PromptOptions, ["segment", "video"]),
        (ResultOptions, ["segment"]),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_an_option_of_a_group_is_one_of_all_its_commands(group: type, commands: list[str]) -> None:
    for name in commands:
        command: Any = typer.main.get_command(cli.app)
        for step in (*COMMANDS[name], name):
            command = command.commands[step]
        known = {parameter.name: parameter for parameter in command.params}
        for field in fields(group):
            assert field.name in known, (name, field.name)
            assert known[field.name].default == getattr(field.default, "value", field.default), (name, field.name)
