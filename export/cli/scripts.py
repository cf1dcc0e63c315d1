"""The arguments of `scripts/pt2onnx.sh` and `scripts/onnx2trt.sh`, turned into those of `fastsam-export`.

The two scripts take the flags and environment variables of the original FastSAM export, and every option of
`fastsam-export` as well. The command itself says which options take a value, so that no list of them can become
outdated.

    python -m fastsam_deploy.export.cli.scripts pt2onnx --weights FastSAM-s.pt --max_size 640 --half
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import typer

from ...runtime.errors import ParameterError
from .main import app, main


@dataclass(frozen=True)
class Script:
    """How a script's flags differ from those of the command behind it.

    Attributes:
        command: subcommand of `fastsam-export`.
        model: the flag for the file that the command takes as its argument.
        variables: flag → environment variable that gives its value where the flag is absent.
        defaults: makes the values of flags that neither the flag nor its variable gives, from the known ones, among
            which are the flags without a value.
        aliases: other spellings → flag of the command.

    Example:
        >>> SCRIPTS["pt2onnx"].command, SCRIPTS["pt2onnx"].aliases["--max_size"]
        ('onnx', '--imgsz')
    """

    command: str
    model: str
    variables: Mapping[str, str]
    defaults: Callable[[Mapping[str, str]], Mapping[str, str]]
    aliases: Mapping[str, str] = field(default_factory=dict)


def _onnx_defaults(given: Mapping[str, str]) -> Mapping[str, str]:
    size = given.get("--imgsz", "1024")
    return {"--weights": "FastSAM-x.pt", "--imgsz": size, "--output": f"fast_sam_{size.replace(',', 'x')}.onnx"}


def _engine_defaults(given: Mapping[str, str]) -> Mapping[str, str]:
    onnx = given.get("--onnx", "fast_sam_1024.onnx")
    stem = onnx.removesuffix(".onnx")
    if "--rtx" in given:
        return {"--onnx": onnx, "--output": f"{stem}.rtx"}
    if _INSTEAD & given.keys():
        return {"--onnx": onnx}
    return {"--onnx": onnx, "--output": f"{stem}.plan", "--precision": "fp16"}


_INSTEAD = {"--check", "--layers", "--compare"}
"""Flags with which nothing is built."""


SCRIPTS = {
    "pt2onnx": Script(
        "onnx",
        "--weights",
        {"--weights": "WEIGHTS", "--output": "OUTPUT", "--imgsz": "MAX_SIZE"},
        _onnx_defaults,
        {"-o": "--output", "--max_size": "--imgsz", "--max-size": "--imgsz"},
    ),
    "onnx2trt": Script(
        "engine",
        "--onnx",
        {"--onnx": "ONNX", "--output": "OUTPUT", "--precision": "PRECISION"},
        _engine_defaults,
        {"-o": "--output"},
    ),
}


def command_line(script: Script, arguments: Sequence[str], environment: Mapping[str, str]) -> list[str]:
    """Arguments for `fastsam-export`.

    A flag overrides its environment variable. The model may be given with or without its flag; the last one is used.

    Args:
        script: one of `SCRIPTS`.
        arguments: what the script was called with.
        environment: environment variables; empty ones count as absent.

    Returns:
        The subcommand, the model, and all options.

    Raises:
        ParameterError: an option that takes a value has none.

    Example:
        >>> command_line(SCRIPTS["pt2onnx"], ["--weights", "a.pt", "--nms", "--conf", "0.2"], {"MAX_SIZE": "640"})
        ['onnx', 'a.pt', '--imgsz', '640', '--output', 'fast_sam_640.onnx', '--nms', '--conf', '0.2']
    """
    known = {flag: value for flag, name in script.variables.items() if (value := environment.get(name))}
    valued = _options_with_a_value(script.command) | {script.model}
    rest: list[str] = []
    words = iter(arguments)
    for word in words:
        spelled, equals, text = word.partition("=")
        flag = script.aliases.get(spelled, spelled)
        if not word.startswith("-"):
            known[script.model] = word
        elif flag not in valued:
            rest.append(word)
        else:
            value = text if equals else next(words, None)
            if value is None:
                raise ParameterError(f"{word} needs a value; see --help")
            if flag in script.variables:
                known[flag] = value
            else:
                rest += [flag, value]
    options = {**script.defaults({**dict.fromkeys(rest, ""), **known}), **known}
    model = options.pop(script.model)
    return [script.command, model, *(text for pair in options.items() for text in pair), *rest]


def _options_with_a_value(command: str) -> set[str]:
    """Flags of a subcommand that are followed by a value."""
    parameters = typer.main.get_command(app).commands[command].params  # type: ignore[attr-defined]
    return {flag for parameter in parameters if not getattr(parameter, "is_flag", True) for flag in parameter.opts}


def run(name: str, arguments: Sequence[str]) -> None:
    """Run a script in this process, which ends with it.

    Args:
        name: a key of `SCRIPTS`.
        arguments: what the script was called with.

    Example:
        >>> run("pt2onnx", ["--weights", "FastSAM-s.pt"])  # doctest: +SKIP
    """
    try:
        sys.argv[1:] = command_line(SCRIPTS[name], arguments, os.environ)
    except ParameterError as error:
        sys.exit(_failed(f"{name}.sh: {error}"))
    main()


def _failed(message: str) -> int:
    print(message, file=sys.stderr)  # noqa: T201
    return 2


if __name__ == "__main__":
    run(sys.argv[1], sys.argv[2:])
