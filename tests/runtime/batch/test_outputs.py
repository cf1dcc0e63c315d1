"""What outputs are called, and that none replaces an input or another output."""

from __future__ import annotations

from pathlib import Path

import pytest

from fastsam_deploy.runtime.batch.outputs import OutputFolder, output_names
from fastsam_deploy.runtime.errors import FastSamError, ParameterError


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("a/x.jpg", "a/z.overlay.jpg", "a/y.masks/000.png"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(b"not read here")
    return tmp_path


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        pytest.param([], [], id="none"),
        pytest.param(["a/x.jpg"], ["x"], id="one"),
        pytest.param(["a/x.jpg", "b/y.jpg"], ["x", "y"], id="two stems"),
        pytest.param(["a/x.jpg", "b/x.jpg", "b/y.jpg"], ["a/x", "b/x", "y"], id="one stem, two folders"),
        pytest.param(["a/x.jpg", "a/x.png"], ["x.jpg", "x.png"], id="one stem, two endings"),
        pytest.param(["a/X.jpg", "a/x.png"], ["X.jpg", "x.png"], id="a difference in case only"),
        pytest.param(["x.jpg", "a/x.jpg", "a/x.png"], ["x", "a/x.jpg", "a/x.png"], id="both"),
        pytest.param(["a/..jpg"], ["..jpg"], id="nothing but dots before the ending"),
        pytest.param(["a/...png", "a/.jpg"], ["...png", ".jpg"], id="hidden names"),
        pytest.param(["x.jpg", "x.png", "x.jpg.png"], ["x.jpg", "x.png", "x.jpg-2"], id="a name that is taken"),
    ],
)
def test_each_image_has_a_name_of_its_own(paths: list[str], expected: list[str]) -> None:
    names = output_names([Path(path) for path in paths])
    assert [str(name) for name in names] == expected
    assert len({str(name).casefold() for name in names}) == len(paths)


def test_names_of_an_earlier_run_are_not_given_again() -> None:
    names = output_names([Path("b/x.jpg"), Path("b/y.jpg")], taken=[Path("x"), Path("X-2"), Path("z")])
    assert [str(name) for name in names] == ["x-3", "y"]


def test_an_input_is_never_replaced(tree: Path) -> None:
    output = OutputFolder(tree / "a", [Path("a/z.overlay.jpg"), Path("a/y.masks/000.png")])
    assert output.file(Path("new"), ".overlay.jpg") == tree / "a/new.overlay.jpg"
    with pytest.raises(FastSamError, match=r"z\.overlay\.jpg: is one of the inputs"):
        output.file(Path("z"), ".overlay.jpg")
    with pytest.raises(FastSamError, match=r"000\.png: is one of the inputs"):
        output.numbered(Path("y"), ".masks", 1)
    with pytest.raises(FastSamError, match=r"000\.png: is one of the inputs"):
        output.numbered(Path("y"), ".masks", 0)
    assert Path("a/y.masks/000.png").read_bytes() == b"not read here"


def test_a_link_to_an_input_is_known_as_such(tree: Path) -> None:
    Path("link").symlink_to(tree / "a")
    with pytest.raises(FastSamError, match="is one of the inputs"):
        OutputFolder(Path("link"), [Path("a/x.jpg")]).file(Path("x"), ".jpg")


def test_a_set_of_an_earlier_run_does_not_mix_with_the_new_one(tree: Path) -> None:
    output = OutputFolder(tree / "out", [])
    for path in output.numbered(Path("x"), ".masks", 3):
        path.write_bytes(b"old")
    (tree / "out/x.masks/mine.png").write_bytes(b"not of ours")
    assert [path.name for path in output.numbered(Path("x"), ".masks", 1)] == ["000.png"]
    assert sorted(path.name for path in (tree / "out/x.masks").iterdir()) == ["000.png", "mine.png"]


def test_an_output_folder_that_cannot_be_made(tree: Path) -> None:
    with pytest.raises(FastSamError, match="cannot make this folder"):
        OutputFolder(tree / "a/x.jpg/out", [])


@pytest.mark.parametrize("name", ["out.png", "out.JPG", "folder/out.webp"])
def test_an_output_that_has_the_name_of_a_picture_is_no_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(ParameterError, match=r"out\.\w+: has the name of a picture, expected a folder"):
        OutputFolder(tmp_path / name, [])
    assert not list(tmp_path.iterdir())
    (tmp_path / "is a folder.png").mkdir()
    OutputFolder(tmp_path / "is a folder.png", [])


@pytest.mark.parametrize("target", ["outside", "missing"])
def test_no_link_leads_out_of_the_folder(tree: Path, target: str) -> None:
    """`--masks` through a planted link overwrote and removed files of its target."""
    kept = tree / "outside/000.png"
    kept.parent.mkdir()
    kept.write_bytes(b"of somebody else")
    (tree / "outside/007.png").write_bytes(b"too")
    (tree / "out").mkdir()
    (tree / "out/x.masks").symlink_to(tree / target)
    (tree / "out/sub").symlink_to(tree / target)
    (tree / "out/x.overlay.jpg").symlink_to(tree / target / "000.png")
    (tree / "out/y.masks").mkdir()
    (tree / "out/y.masks/000.png").symlink_to(kept)
    (tree / "out/y.masks/009.png").symlink_to(kept)
    output = OutputFolder(tree / "out", [])
    for write in (
        lambda: output.numbered(Path("x"), ".masks", 1),
        lambda: output.numbered(Path("y"), ".masks", 1),
        lambda: output.numbered(Path("sub/x"), ".masks", 1),
        lambda: output.file(Path("x"), ".overlay.jpg"),
        lambda: output.file(Path("sub/x"), ".overlay.jpg"),
        lambda: output.file(Path("sub/deep/x"), ".txt", replaces_link=True),
    ):
        with pytest.raises(FastSamError, match=r"leads out of .* through a symbolic link; remove the link"):
            write()
    assert sorted(path.name for path in (tree / "outside").iterdir()) == ["000.png", "007.png"]
    assert kept.read_bytes() == b"of somebody else" and not (tree / "missing").exists()


def test_links_inside_the_folder_and_the_folder_itself_are_followed(tree: Path) -> None:
    (tree / "real/kept.masks").mkdir(parents=True)
    (tree / "real/x.masks").symlink_to("kept.masks")
    (tree / "real/x.jpg").symlink_to(tree / "a/x.jpg")
    (tree / "out").symlink_to("real")
    output = OutputFolder(tree / "out", [])
    assert output.numbered(Path("x"), ".masks", 1) == [tree / "out/x.masks/000.png"]
    assert output.file(Path("x"), ".overlay.jpg").parent == tree / "out"
    assert output.file(Path("x"), ".jpg", replaces_link=True).is_symlink()
