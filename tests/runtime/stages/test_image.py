"""Everything that people hand over as an image, and everything that is none."""

from __future__ import annotations

import contextlib
import io
import re
import struct
import sys
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from fastsam_deploy.runtime.errors import FastSamError, ImageError, ParameterError
from fastsam_deploy.runtime.stages.image import MAX_PIXELS, load_image

COFFEE = Path(__file__).parents[3] / "examples" / "images" / "coffee.jpg"


@pytest.fixture(scope="module")
def photo() -> NDArray[np.uint8]:
    """A part of a photograph, (60, 90, 3) RGB, without symmetry."""
    return np.asarray(Image.open(COFFEE))[100:160, 200:290].copy()


def encoded(image: NDArray[Any] | Image.Image, format_name: str, **settings: Any) -> bytes:
    stream = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(stream, format_name, **settings)
    return stream.getvalue()


@pytest.mark.parametrize("kind", ["str", "Path", "bytes", "bytearray", "memoryview", "PIL", "array"])
def test_every_kind_of_source_gives_the_same_pixels(kind: str) -> None:
    content = COFFEE.read_bytes()
    sources = {
        "str": str(COFFEE),
        "Path": COFFEE,
        "bytes": content,
        "bytearray": bytearray(content),
        "memoryview": memoryview(content),
        "PIL": Image.open(COFFEE),
        "array": np.asarray(Image.open(COFFEE)),
    }
    loaded = load_image(sources[kind])
    assert loaded.shape == (400, 600, 3)
    assert loaded.dtype == np.uint8
    assert loaded.flags.c_contiguous
    assert np.array_equal(loaded, cv2.cvtColor(cv2.imread(str(COFFEE)), cv2.COLOR_BGR2RGB)), "OpenCV sees other pixels"


def test_an_rgb_array_is_not_copied(photo: NDArray[np.uint8]) -> None:
    assert np.shares_memory(load_image(photo), photo)


def test_bgr_arrays_are_reversed(photo: NDArray[np.uint8]) -> None:
    assert np.array_equal(load_image(photo[..., ::-1], color="BGR"), photo)
    bgra = cv2.cvtColor(photo, cv2.COLOR_RGB2BGRA)
    assert np.array_equal(load_image(bgra, color="BGR"), photo)


def test_another_color_order_is_refused(photo: NDArray[np.uint8]) -> None:
    with pytest.raises(ParameterError, match="'rgb', expected 'RGB' or 'BGR'"):
        load_image(photo, color="rgb")


# Crashes in the peers: ultralytics #24750, #25150.
@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        pytest.param((60, 90), np.uint8, id="gray"),
        pytest.param((60, 90, 1), np.uint8, id="gray with a channel axis"),
        pytest.param((60, 90), np.uint16, id="16-bit gray"),
        pytest.param((60, 90, 3), np.uint16, id="16-bit RGB"),
        pytest.param((60, 90), ">u2", id="16-bit gray, high byte first"),
        pytest.param((60, 90, 4), np.uint8, id="RGBA"),
        pytest.param((1, 1, 3), np.uint8, id="one pixel"),
        pytest.param((1, 4000), np.uint8, id="one row"),
    ],
)
def test_arrays_of_all_kinds(shape: tuple[int, ...], dtype: Any) -> None:
    array = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape).astype(dtype)
    expected = (array >> 8 if array.itemsize == 2 else array).reshape(*shape[:2], -1)[..., :3]
    assert np.array_equal(load_image(array), np.broadcast_to(expected, (*shape[:2], 3)))


def test_a_view_that_is_not_contiguous_is_read_right(photo: NDArray[np.uint8]) -> None:
    view = photo[::-1, 10:50:2]
    loaded = load_image(view)
    assert loaded.flags.c_contiguous
    assert np.array_equal(loaded, view)


def test_bool_arrays_are_black_and_white() -> None:
    assert load_image(np.array([[True, False]])).tolist() == [[[255] * 3, [0] * 3]]


@pytest.mark.parametrize(
    ("array", "message"),
    [
        pytest.param(np.zeros((4, 4, 3), np.float32), r"float32.*\(array \* 255\).astype", id="float"),
        pytest.param(np.zeros((4, 4, 3), np.int64), "int64.*expected uint8 or uint16", id="int64"),
        pytest.param(np.zeros((3, 8, 8), np.uint8), r"\(3, 8, 8\).*transpose\(1, 2, 0\)", id="channels first"),
        pytest.param(np.zeros((2, 8, 8, 3), np.uint8), "segment_batch", id="a batch"),
        pytest.param(np.zeros((8, 8, 2), np.uint8), r"shape \(8, 8, 2\)", id="two channels"),
        pytest.param(np.zeros(8, np.uint8), r"shape \(8,\)", id="one dimension"),
        pytest.param(np.zeros((0, 8, 3), np.uint8), "holds no pixel", id="no rows"),
        pytest.param(np.zeros((8, 0), np.uint8), "holds no pixel", id="no columns"),
        pytest.param(np.array([["a"]]), "expected uint8", id="text"),
    ],
)
def test_arrays_that_are_no_image(array: NDArray[Any], message: str) -> None:
    with pytest.raises(ImageError, match=message):
        load_image(array)


@pytest.mark.parametrize("source", [None, 3, [[0, 0]], object()], ids=["None", "int", "list", "object"])
def test_things_that_are_no_image(source: Any) -> None:
    with pytest.raises(ImageError, match="expected a path, bytes, a PIL image or a NumPy array"):
        load_image(source)


@pytest.mark.parametrize(
    ("mode", "format_name"),
    [
        pytest.param("1", "PNG", id="1-bit PNG"),
        pytest.param("L", "PNG", id="gray PNG"),
        pytest.param("L", "JPEG", id="gray JPEG"),
        pytest.param("LA", "PNG", id="gray PNG with alpha"),
        pytest.param("P", "PNG", id="palette PNG"),
        pytest.param("RGBA", "PNG", id="RGBA PNG"),
        pytest.param("CMYK", "JPEG", id="CMYK JPEG"),
        pytest.param("CMYK", "TIFF", id="CMYK TIFF"),
        pytest.param("YCbCr", "JPEG", id="YCbCr JPEG"),
        pytest.param("RGB", "WEBP", id="WebP"),
        pytest.param("RGBA", "WEBP", id="WebP with alpha"),
        pytest.param("RGB", "BMP", id="BMP"),
        pytest.param("P", "GIF", id="GIF"),
        pytest.param("RGB", "TIFF", id="TIFF"),
        pytest.param("RGB", "PPM", id="PPM"),
    ],
)
def test_files_of_all_kinds(photo: NDArray[np.uint8], mode: str, format_name: str) -> None:
    image = Image.fromarray(photo).convert(mode)
    lossy = {"quality": 100} if format_name in ("JPEG", "WEBP") else {}
    loaded = load_image(encoded(image, format_name, **lossy))
    expected = np.asarray(image.convert("RGB")).astype(int)
    assert loaded.shape == photo.shape
    assert np.abs(loaded - expected).mean() < (4 if lossy else 0.001)


def test_a_16_bit_png_keeps_the_high_byte() -> None:
    values = np.linspace(0, 65535, 60 * 90).astype(np.uint16).reshape(60, 90)
    loaded = load_image(encoded(values, "PNG"))
    assert np.array_equal(loaded[..., 1], values >> 8)
    _, colour = cv2.imencode(".png", np.dstack([values, values[::-1], values[:, ::-1]]))
    assert np.array_equal(load_image(colour.tobytes())[..., 2], values >> 8)
    assert np.array_equal(load_image(encoded(values, "TIFF")), loaded)


def test_float_and_32_bit_files_say_what_to_do() -> None:
    with pytest.raises(ImageError, match=r"32-bit float pixels.*convert to uint8"):
        load_image(encoded(np.ones((4, 4), np.float32), "TIFF"))
    with pytest.raises(ImageError, match="32-bit pixels from -5 to -5"):
        load_image(encoded(np.full((4, 4), -5, np.int32), "TIFF"))


def test_alpha_is_dropped_not_blended(photo: NDArray[np.uint8]) -> None:
    rgba = np.dstack([photo, np.zeros(photo.shape[:2], np.uint8)])
    assert np.array_equal(load_image(rgba), photo)
    assert np.array_equal(load_image(encoded(rgba, "PNG")), photo)
    assert np.array_equal(load_image(Image.fromarray(rgba)), photo)


def test_a_palette_with_transparency_does_not_warn(photo: NDArray[np.uint8]) -> None:
    palette = Image.fromarray(photo).convert("P", palette=Image.Palette.ADAPTIVE)
    content = encoded(palette, "PNG", transparency=bytes(range(256)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.array_equal(load_image(content), np.asarray(palette.convert("RGB")))


@pytest.mark.parametrize("format_name", ["GIF", "WEBP", "PNG", "TIFF"])
def test_the_first_frame_of_an_animation_is_read(photo: NDArray[np.uint8], format_name: str) -> None:
    red, blue = (Image.new("RGB", (8, 6), colour) for colour in ((255, 0, 0), (0, 0, 255)))
    lossless = {"lossless": True} if format_name == "WEBP" else {}
    content = encoded(red, format_name, save_all=True, append_images=[blue], **lossless)
    assert Image.open(io.BytesIO(content)).n_frames == 2
    assert load_image(content).tolist() == [[[255, 0, 0]] * 8] * 6


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format_name", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_exif_orientation_is_respected(photo: NDArray[np.uint8], format_name: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    lossless = {"JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True}}.get(format_name, {})
    content = encoded(photo, format_name, exif=exif.tobytes(), **lossless)
    stored = photo.astype(int)
    upright = {
        1: stored,
        2: stored[:, ::-1],
        3: stored[::-1, ::-1],
        4: stored[::-1],
        5: stored.transpose(1, 0, 2),
        6: np.rot90(stored, -1),
        7: stored[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(stored),
    }[orientation]
    for source in (content, Image.open(io.BytesIO(content))):
        loaded = load_image(source)
        assert loaded.shape == upright.shape
        assert np.abs(loaded - upright).mean() < 3


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_broken_exif_is_no_reason_to_refuse_a_photo(photo: NDArray[np.uint8]) -> None:
    for exif in (
        b"Exif\x00\x00garbage",
        b"Exif\x00\x00II*\x00\xff\xff\xff\xff",
        b"Exif\x00\x00MM\x00*\x00\x00\x00\x08\xff",
    ):
        assert load_image(encoded(photo, "JPEG", exif=exif)).shape == photo.shape


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(b"", "empty", id="empty"),
        pytest.param(b"<html>404</html>", "not an image, it begins with b'<html>404</h'", id="HTML"),
        pytest.param(b"%!PS-Adobe-3.0 EPSF-3.0\n", "not an image", id="EPS is not run"),
        pytest.param(b"\xff\xd8\xff", "JPEG, but its header cannot be read", id="three bytes of JPEG"),
        pytest.param(b"\x89PNG\r\n\x1a\n", "PNG, but its header", id="PNG signature alone"),
        pytest.param(b"\xff\xd8\xff\xe0" + b"\x00" * 500, "JPEG", id="zeros behind a JPEG signature"),
        pytest.param(b"P5\n-3 4\n255\n", "PPM", id="PPM of negative width"),
    ],
)
def test_files_that_are_no_image(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        load_image(content)
    (tmp_path / "x.jpg").write_bytes(content)
    with pytest.raises(ImageError, match=r"x\.jpg"):
        load_image(tmp_path / "x.jpg")


def test_a_heic_file_says_what_reads_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)  # as if it were not installed
    with pytest.raises(
        ImageError, match=r"HEIC.*pip install pillow-heif \(the extra \[heif\]\), or convert it to JPEG"
    ):
        load_image(b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00")


def test_paths_that_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"none\.jpg: no such file"):
        load_image(tmp_path / "none.jpg")
    with pytest.raises(ImageError, match="is a folder"):
        load_image(tmp_path)
    with pytest.raises(ImageError, match=r"no such file.*download it first"):
        load_image("https://example.org/a.jpg")
    with pytest.raises(ImageError, match="cannot be opened"):
        load_image("a\0b.jpg")


@pytest.mark.parametrize("progressive", [False, True], ids=["baseline", "progressive"])
def test_a_jpeg_cut_short_is_an_error_not_half_gray(progressive: bool) -> None:
    content = encoded(Image.open(COFFEE), "JPEG", quality=85, progressive=progressive)
    for part in (0.1, 0.5, 0.9, 0.99):
        with pytest.raises(ImageError, match=r"cut short|header"):
            load_image(content[: int(part * len(content))])


@pytest.mark.filterwarnings("ignore:Truncated File Read")
@pytest.mark.parametrize("format_name", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM"])
def test_whatever_is_cut_off_gives_the_same_image_or_an_error(photo: NDArray[np.uint8], format_name: str) -> None:
    content = encoded(photo, format_name)
    whole = load_image(content)
    for end in np.linspace(0, len(content) - 1, 150).astype(int):
        try:
            loaded = load_image(content[:end])
        except ImageError:
            continue
        assert np.array_equal(loaded, whole), f"{format_name}: {end} of {len(content)} bytes"


@pytest.mark.parametrize("format_name", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM"])
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_damaged_files_never_raise_anything_else(format_name: str, data: st.DataObject) -> None:
    content = bytearray(encoded(np.arange(20 * 30 * 3, dtype=np.uint8).reshape(20, 30, 3), format_name))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, min(len(content) - 1, 200)))] = data.draw(st.integers(0, 255))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with contextlib.suppress(FastSamError):
            assert load_image(content, max_pixels=10_000_000).shape[2] == 3


def huge_png(width: int, height: int) -> bytes:
    """A PNG of a few bytes whose header claims width x height."""
    content = bytearray(encoded(np.zeros((1, 1, 3), np.uint8), "PNG"))
    header = b"IHDR" + struct.pack(">II", width, height) + content[24:29]
    content[12:33] = header + struct.pack(">I", zlib.crc32(header))
    return bytes(content)


@pytest.mark.parametrize("max_pixels", [MAX_PIXELS, 1_000_000])
def test_a_decompression_bomb_is_refused_from_its_header(max_pixels: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # Pillow's own limit would warn; ours is the one that counts
        with pytest.raises(ImageError, match=r"60000×50000 are 3,000,000,000 pixels, the limit is"):
            load_image(huge_png(60000, 50000), max_pixels=max_pixels)


@pytest.mark.parametrize(
    ("width", "height", "limit"),
    [(60000, 50000, MAX_PIXELS), (50000, 60000, 1_000_000), (2_000_000_000, 1, 1000), (1, 999_999, 10), (7, 7, 48)],
)
def test_an_image_too_large_is_told_a_size_that_is_not(width: int, height: int, limit: int) -> None:
    with pytest.raises(ImageError, match="make the image smaller") as caught:
        load_image(huge_png(width, height), max_pixels=limit)
    w, h = (int(side) for side in re.findall(r"smaller, (\d+)×(\d+) at most", str(caught.value))[0])
    assert 0.6 * limit < w * h <= limit
    assert abs(w * height - h * width) <= max(width, height), "the same shape, but for a pixel"
    assert ("in Python" in str(caught.value)) == (limit == MAX_PIXELS), "who has another limit has set it"


def test_the_size_limit_can_be_moved(photo: NDArray[np.uint8]) -> None:
    content = encoded(photo, "PNG")
    assert load_image(content, max_pixels=60 * 90).shape == photo.shape
    with pytest.raises(ImageError, match="90×60 are 5,400 pixels, the limit is 5,399"):
        load_image(content, max_pixels=60 * 90 - 1)
    with pytest.raises(ImageError, match="5,400 pixels"):
        load_image(Image.fromarray(photo), max_pixels=5000)
    limit = Image.MAX_IMAGE_PIXELS
    try:
        Image.MAX_IMAGE_PIXELS = 10  # another library's setting is not ours
        assert load_image(content, max_pixels=None).shape == photo.shape
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def test_many_threads_read_the_same_pixels() -> None:
    content = COFFEE.read_bytes()
    expected = load_image(content)
    with ThreadPoolExecutor(8) as pool:
        assert all(np.array_equal(found, expected) for found in pool.map(load_image, [content] * 24))


def test_files_are_read_on_all_processors(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each in its place, the first error named; streams, which may be one and the same, one after the other."""
    import threading

    from fastsam_deploy.runtime.stages import image as module

    photo = np.arange(60 * 90 * 3, dtype=np.uint32).astype(np.uint8).reshape(60, 90, 3)
    files = [tmp_path / f"{i}.png" for i in range(6)]
    for i, path in enumerate(files):
        Image.fromarray(photo + np.uint8(i)).save(path)
    monkeypatch.setattr(module, "usable_cpus", lambda: 3)
    together = threading.Barrier(3, timeout=20)
    real, threads = module.load_image, set()

    def load(source: Any, **settings: Any) -> NDArray[np.uint8]:
        threads.add(threading.get_ident())
        together.wait()
        return real(source, **settings)

    with monkeypatch.context() as patched:
        patched.setattr(module, "load_image", load)
        loaded = module.load_images([*files[:3], photo, *files[4:]])
    assert len(threads) == 3
    for i, (pixels, ms) in enumerate(loaded):
        np.testing.assert_array_equal(pixels, photo if i == 3 else photo + np.uint8(i))
        assert ms > 0
    with pytest.raises(ImageError, match="image 1 of 4"):
        module.load_images([files[0], tmp_path / "none.png", files[1], tmp_path / "neither.png"])
    stream = io.BytesIO(files[2].read_bytes())
    for pixels, _ in module.load_images([stream, stream, files[2]]):
        np.testing.assert_array_equal(pixels, photo + np.uint8(2))
