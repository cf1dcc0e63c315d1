"""Pages, values of more than 8 bits and damage in the formats that Pillow reads."""

from __future__ import annotations

import io
import logging
import struct
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image, features

from fastsam_deploy.runtime.errors import ImageError
from fastsam_deploy.runtime.stages.image import load_image

COFFEE = Path(__file__).parents[4] / "examples" / "images" / "coffee.jpg"


def encoded(image: Image.Image, format_name: str, **settings: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format_name, **settings)
    return stream.getvalue()


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    return Image.open(COFFEE).crop((200, 100, 290, 160))


COLOURS = ((255, 0, 0), (0, 255, 0), (0, 0, 255))


def animation(format_name: str) -> bytes:
    frames = [Image.new("RGB", (8, 6), colour) for colour in COLOURS]
    lossless = {"lossless": True} if format_name == "WEBP" else {}
    return encoded(frames[0], format_name, save_all=True, append_images=frames[1:], **lossless)


@pytest.mark.parametrize("format_name", ["GIF", "PNG", "WEBP"])
def test_a_frame_of_an_animation_is_chosen(format_name: str, caplog: pytest.LogCaptureFixture) -> None:
    content = animation(format_name)
    for page, colour in enumerate(COLOURS):
        assert load_image(content, page=page)[0, 0].tolist() == list(colour)
    assert not caplog.messages
    load_image(content, name="x.gif")
    assert caplog.messages == ["x.gif: holds 3 images, the first was read; page=… (--page) reads another, from 0"]
    with pytest.raises(ImageError, match="has no page 3; it holds 3, counted from 0"):
        load_image(content, page=3)


def test_an_image_alone_has_no_other_page(photo: Image.Image) -> None:
    content = encoded(photo, "JPEG")
    assert load_image(content, page=0).shape == (60, 90, 3)
    for source in (content, photo, np.asarray(photo)):
        with pytest.raises(ImageError, match="has no page 1; it holds 1"):
            load_image(source, page=1)


def test_previews_behind_a_photograph_are_no_warning(photo: Image.Image, caplog: pytest.LogCaptureFixture) -> None:
    content = encoded(photo, "MPO", save_all=True, append_images=[photo.rotate(180)])
    with caplog.at_level(logging.INFO):
        first, second = load_image(content), load_image(content, page=1)
    assert np.abs(first[::-1, ::-1].astype(int) - second).mean() < 3
    assert [record.levelname for record in caplog.records] == ["INFO"]


@pytest.mark.parametrize(("format_name", "ending"), [("JPEG", "jfif"), ("MPO", "mpo"), ("JPEG2000", "j2k")])
def test_less_usual_endings_are_read(photo: Image.Image, tmp_path: Path, format_name: str, ending: str) -> None:
    photo.save(tmp_path / f"x.{ending}", format_name)
    assert load_image(tmp_path / f"x.{ending}").shape == (60, 90, 3)


def test_heic_is_read_where_its_library_is_installed(photo: Image.Image) -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    stream = io.BytesIO()
    pillow_heif.from_pillow(photo).save(stream, quality=95)
    registered = dict(Image.OPEN)
    loaded = load_image(stream)
    assert np.abs(loaded.astype(int) - np.asarray(photo)).mean() < 5
    assert registered == Image.OPEN, "Pillow itself reads no HEIC because of us"


# Values of more than 8 bits


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_range_of_16_bit_png_is_chosen(channels: int) -> None:
    """Pillow keeps only the high byte of 16-bit colours, which is not enough for 12-bit data."""
    stored = np.random.default_rng(channels).integers(0, 4096, (30, 40, channels)).astype(np.uint16)
    stored[0, :2] = [[0], [4095]]
    content = cv2.imencode(".png", stored[..., [2, 1, 0, *range(3, channels)]] if channels > 1 else stored)[1].tobytes()
    colours = stored[..., :3].astype(float)
    expected = np.broadcast_to(np.rint(colours * 255 / 4095), (30, 40, 3))
    for given in ("minmax", (0, 4095)):
        assert np.abs(load_image(content, range=given) - expected).max() <= 1
    assert np.abs(load_image(content, range="percentile").astype(int) - expected).max() <= 6
    assert np.array_equal(load_image(content), np.broadcast_to(stored[..., :3] >> 8, (30, 40, 3)))


@pytest.mark.parametrize("channels", [1, 3])
def test_an_image_almost_black_is_warned_of(channels: int, caplog: pytest.LogCaptureFixture) -> None:
    stored = np.full((4, 4, channels), 4095, np.uint16)
    content = cv2.imencode(".png", stored)[1].tobytes()
    load_image(content, name="x.png")
    load_image(np.full((4, 4), 4095, np.uint16))
    assert len(caplog.messages) == 2
    assert caplog.messages[0].startswith("x.png: its values use 12 of 16 bits, so it is read almost black")
    assert "range=(0, 4095) (--range 0,4095) or 'minmax'" in caplog.messages[0]
    caplog.clear()
    load_image(content, range=(0, 65535))  # chosen
    load_image(cv2.imencode(".png", stored * 16)[1].tobytes())
    load_image(np.zeros((4, 4), np.uint16))
    assert not caplog.messages


def test_a_range_means_nothing_to_8_bits(photo: Image.Image) -> None:
    for content in (encoded(photo, "JPEG"), encoded(photo, "PNG")):
        assert np.array_equal(load_image(content, range="minmax"), load_image(content))


# Damage


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow reads no AVIF")
def test_avif_files_with_one_bit_flipped_give_an_image_or_an_error(photo: Image.Image) -> None:
    """319 of 2 528 such files raised a RuntimeError, and one of them ended a whole folder."""
    content, rng, refused = encoded(photo, "AVIF", quality=60), np.random.default_rng(3), 0
    for bit in rng.permutation(8 * len(content))[:300]:
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << (bit % 8)
        try:
            assert load_image(damaged, max_pixels=1_000_000).shape[2] == 3
        except ImageError:
            refused += 1
    assert refused > 20, "this damages nothing"


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("Decoding of color planes failed"), struct.error("4 bytes"), SyntaxError("broken"),
        zlib.error("Error -3"), cv2.error("-215"), OverflowError("too large"), KeyError("mode"), RecursionError(),
        Image.DecompressionBombError("bomb"), AssertionError(),
    ],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
def test_whatever_a_decoder_raises_is_an_image_error(
    photo: Image.Image, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(_: Image.Image) -> None:
        raise error

    content = encoded(photo, "PNG")
    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", fail)
    with pytest.raises(
        ImageError, match=r"x\.png: 90×60 PNG image is damaged or cut short \(.+\); get it again"
    ) as caught:
        load_image(content, name="x.png")
    assert caught.value.__cause__ is error


def test_too_little_memory_is_no_damage(photo: Image.Image, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: Image.Image) -> None:
        raise MemoryError

    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", fail)
    with pytest.raises(ImageError, match="not enough memory"):
        load_image(encoded(photo, "PNG"))


def test_a_decoders_long_story_is_cut(photo: Image.Image, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: Image.Image) -> None:
        raise ValueError("x\n" * 10_000)

    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", fail)
    with pytest.raises(ImageError) as caught:
        load_image(encoded(photo, "PNG"))
    assert len(str(caught.value)) < 400
    assert "\n" not in str(caught.value)
