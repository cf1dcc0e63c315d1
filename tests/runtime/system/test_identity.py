"""Two names of one file are known as such, and no output replaces an input."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fastsam_deploy.runtime.errors import ParameterError
from fastsam_deploy.runtime.system.identity import check_outputs, file_identity, refuse_overwriting


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """With `clip.avi`, a symbolic link and a hard link to it, a link to the folder, and a loop of links."""
    monkeypatch.chdir(tmp_path)
    Path("clip.avi").write_bytes(b"frames")
    Path("soft.avi").symlink_to("clip.avi")
    os.link("clip.avi", "hard.avi")
    Path("here").symlink_to(tmp_path)
    Path("loop.avi").symlink_to("loop.avi")
    return tmp_path


SPELLINGS = ["clip.avi", "./clip.avi", "here/../{folder}/clip.avi", "here/clip.avi", "soft.avi", "hard.avi"]


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_an_output_that_is_an_input_is_refused_in_any_spelling(folder: Path, spelling: str) -> None:
    output = Path(spelling.format(folder=folder.name))
    with pytest.raises(ParameterError, match=r"avi: is one of the inputs and would be overwritten; choose another -o"):
        check_outputs([Path("other.avi"), Path("clip.avi")], {"--json": None, "-o": output})


def test_two_outputs_of_one_file_are_refused_before_it_exists(folder: Path) -> None:
    with pytest.raises(ParameterError, match=r"here/x\.avi: is the file of --output and would be overwritten.*--json"):
        check_outputs([Path("clip.avi")], {"--output": Path("x.avi"), "--json": Path("here/x.avi")})
    Path("x.avi").touch()
    with pytest.raises(ParameterError, match="is the file of --output"):
        check_outputs([Path("clip.avi")], {"--output": Path("x.avi"), "--json": Path("here/x.avi")})


def test_an_input_that_does_not_exist_is_not_written_either(folder: Path) -> None:
    with pytest.raises(ParameterError, match="is one of the inputs"):
        check_outputs([Path("none.avi")], {"-o": Path("./none.avi")})


def test_other_files_are_not_refused(folder: Path) -> None:
    known = check_outputs([Path("clip.avi")], {"-o": Path("x.avi"), "--json": Path("x.jsonl")})
    assert sorted(known.values()) == ["one of the inputs", "the file of --json", "the file of -o"]
    refuse_overwriting(Path("y.avi"), known, "-o")
    with pytest.raises(ParameterError, match=r"x\.jsonl: is the file of --json .* choose another -o"):
        refuse_overwriting(Path("here/x.jsonl"), known, "-o")


@pytest.mark.skipif(not Path("/dev/null").exists(), reason="no /dev/null here")
def test_a_device_takes_any_number_of_outputs(folder: Path) -> None:
    check_outputs([], {"-o": Path("/dev/null"), "--json": Path("/dev/null")})


def test_a_loop_of_links_has_an_identity(folder: Path) -> None:
    assert file_identity(Path("loop.avi")) == file_identity(Path("./loop.avi"))
