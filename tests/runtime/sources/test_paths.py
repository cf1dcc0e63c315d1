"""Which files a command line means."""

from __future__ import annotations

from pathlib import Path

import pytest

from fastsam_deploy.runtime.errors import ImageError
from fastsam_deploy.runtime.sources.paths import find_images


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
