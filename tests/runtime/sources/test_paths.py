"""Which files a command line means."""

from __future__ import annotations

from pathlib import Path

import pytest

from fastsam_deploy.runtime.errors import ImageError
from fastsam_deploy.runtime.sources.paths import find_images, search_images
from fastsam_deploy.runtime.stages.reading import formats


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in (
        "a/x.jpg", "a/y.PNG", "a/.hidden.jpg", "a/notes.txt", "a/z.overlay.jpg", "a/z.overlay.png", "a/Z.OVERLAY.WebP",
        "a/y.masks/000.png", "b/deep/x.webp", "b/[1].jpg", "empty/notes.txt",
    ):  # fmt: skip
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(b"not read here")
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        pytest.param(["a"], ["a/x.jpg", "a/y.PNG"], id="a folder holds what ends like an image, and no overlays"),
        pytest.param(["a/x.jpg", "a"], ["a/x.jpg", "a/y.PNG"], id="each file once"),
        pytest.param(["a/x.jpg", "./a/../a/x.jpg"], ["a/x.jpg"], id="by two names"),
        pytest.param(["b/**/*.webp"], ["b/deep/x.webp"], id="a pattern descends"),
        pytest.param(["**/*"], ["a/x.jpg", "a/y.PNG", "b/[1].jpg", "b/deep/x.webp"], id="everything below"),
        pytest.param(["b/[1].jpg"], ["b/[1].jpg"], id="a file whose name looks like a pattern"),
        pytest.param(
            ["a/notes.txt", "a/z.overlay.jpg"], ["a/notes.txt", "a/z.overlay.jpg"], id="a named file is taken"
        ),
        pytest.param(["none.jpg"], ["none.jpg"], id="a missing file is found out when it is read"),
    ],
)
def test_which_files_are_meant(tree: Path, arguments: list[str], expected: list[str]) -> None:
    assert find_images(arguments) == [Path(name) for name in expected]


@pytest.mark.parametrize("argument", ["empty", "*.bmp"])
def test_a_folder_or_pattern_without_images_is_an_error(tree: Path, argument: str) -> None:
    with pytest.raises(ImageError, match="no image found"):
        find_images(["a", argument])


def test_arguments_without_images_do_not_hide_the_others(tree: Path) -> None:
    search = search_images(["empty", "a", "*.bmp", "none.jpg"])
    assert search.paths == (Path("a/x.jpg"), Path("a/y.PNG"), Path("none.jpg"))
    assert [str(error).split(":")[0] for error in search.errors] == ["empty", "*.bmp"]


@pytest.mark.parametrize("heif", [False, True], ids=["without pillow-heif", "with it"])
def test_images_that_are_not_read_are_said_in_one_line(
    tree: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, heif: bool
) -> None:
    for name in ("a/p.HEIC", "a/q.cr2", "a/r.psd", "a/.hidden.psd", "a/s.jfif", "a/t.mpo", "a/u.j2k", "b/v.svg"):
        Path(name).write_bytes(b"not read here")
    monkeypatch.setattr(formats, "find_spec", lambda _: object() if heif else None)
    read = [path.name for path in find_images(["a", "b/*", "a/*"])]
    assert read == [*(["p.HEIC"] if heif else []), "s.jfif", "t.mpo", "u.j2k", "x.jpg", "y.PNG", "[1].jpg"]
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith(f"{3 if heif else 4} files were skipped, of formats that are not read: a/")
    assert ("pip install pillow-heif" in caplog.messages[0]) != heif
    with pytest.raises(ImageError, match="no image found, but 1 of formats that are not read"):
        find_images(["b/*.svg"])


def test_a_folder_that_cannot_be_read_is_one_line(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Path) -> list[Path]:
        raise PermissionError(13, "Permission denied")  # tests may run as root, who is never refused

    monkeypatch.setattr(Path, "iterdir", refuse)
    (error,) = search_images(["a", "b/[1].jpg"]).errors
    assert str(error) == "a: cannot be searched (Permission denied); check the path and its permissions"


def test_a_name_that_is_too_long_is_left_to_reading(tree: Path) -> None:
    for name in ("x" * 300 + ".jpg", "y" * 300 + "*.jpg"):
        search = search_images([name, "b/[1].jpg"])
        assert search.paths[-1] == Path("b/[1].jpg")
        assert len(search.paths) + len(search.errors) == 2


def test_recursive_includes_sub_folders_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = ("b.jpg", "a/2.jpg", "a/1.jpg", "a/deep/x.png", ".hidden/x.jpg", "out/x.png", "out/x.overlay.jpg")
    for name in (*names, "a/1.masks/000.png", "a/1.crops/000.png", "a/raw.cr2", "a/notes.txt"):
        Path("photos", name).parent.mkdir(parents=True, exist_ok=True)
        Path("photos", name).touch()
    Path("photos/loop").symlink_to(tmp_path / "photos")
    search = search_images(["photos"], recursive=True, exclude=[Path("photos/out")])
    assert [path.as_posix() for path in search.paths] == [
        *("photos/b.jpg", "photos/a/1.jpg", "photos/a/2.jpg", "photos/a/deep/x.png")
    ]
    assert [path.name for path in search.skipped] == ["raw.cr2"]
    assert [path.as_posix() for path in search_images(["photos"]).paths] == ["photos/b.jpg"]
