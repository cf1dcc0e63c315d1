"""nvImageCodec as the decoder of JPEG files. Without a GPU the library's own decoder for the CPU takes its place."""

from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from fastsam_deploy.runtime.errors import ImageError, MissingDependencyError
from fastsam_deploy.runtime.stages import image as module
from fastsam_deploy.runtime.stages.image import ImageFile, load_image, load_images
from fastsam_deploy.runtime.stages.reading import nvimagecodec
from fastsam_deploy.runtime.stages.reading.nvimagecodec import JpegDecoder


@pytest.fixture(scope="module")
def decoder() -> JpegDecoder:
    pytest.importorskip("nvidia.nvimgcodec", reason="it comes with the extra [nvimagecodec]")
    return JpegDecoder(None)


def _jpeg(image: Image.Image, **settings: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "JPEG", **settings)
    return stream.getvalue()


@pytest.mark.parametrize("quality", [30, 75, 95])
@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("progressive", [False, True])
def test_its_pixels_are_those_of_the_usual_decoder(
    decoder: JpegDecoder, coffee: Path, quality: int, subsampling: int, progressive: bool
):
    photo = Image.open(coffee).convert("RGB")
    content = _jpeg(photo, quality=quality, subsampling=subsampling, progressive=progressive)
    pixels = decoder.decoded(content)
    assert pixels is not None
    assert np.abs(pixels.astype(int) - load_image(content)).max() <= 2


@pytest.mark.parametrize("orientation", range(1, 9))
def test_it_turns_images_upright(decoder: JpegDecoder, coffee: Path, orientation: int):
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = _jpeg(Image.open(coffee).convert("RGB").crop((0, 0, 90, 60)), quality=95, exif=exif)
    pixels, usual = decoder.decoded(content), load_image(content)
    assert pixels is not None and pixels.shape == usual.shape
    assert np.abs(pixels.astype(int) - usual).max() <= 2


def test_what_it_leaves_to_the_usual_decoder(decoder: JpegDecoder, coffee: Path, monkeypatch: pytest.MonkeyPatch):
    photo = Image.open(coffee).convert("RGB")
    whole = _jpeg(photo)
    png = io.BytesIO()
    photo.save(png, "PNG")
    for content in (png.getvalue(), _jpeg(photo.convert("L")), _jpeg(photo.convert("CMYK")), whole[:-500], b"", b"x"):
        assert decoder.decoded(content) is None
    monkeypatch.setattr(nvimagecodec, "MAX_PIXELS", photo.width * photo.height - 1)
    assert decoder.decoded(whole) is None


def test_files_go_through_it_and_errors_stay(
    decoder: JpegDecoder, coffee: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    read: list[bool] = []
    real = JpegDecoder.decoded

    def decoded(self: JpegDecoder, content: bytes) -> object:
        pixels = real(self, content)
        read.append(pixels is not None)
        return pixels

    monkeypatch.setattr(JpegDecoder, "decoded", decoded)
    photo = load_image(coffee)
    gray, cut = tmp_path / "gray.png", tmp_path / "cut.jpg"
    cv2.imwrite(str(gray), photo[..., 0])
    cut.write_bytes(coffee.read_bytes()[:5000])
    loaded = load_images([coffee, photo, gray, coffee.read_bytes(), io.BytesIO(coffee.read_bytes())], decoder=decoder)
    assert sorted(read) == [False, True, True], "an array and a stream are not for it"
    for i in (0, 1, 3, 4):
        assert np.abs(loaded[i][0].astype(int) - photo).max() <= 2
    assert load_images([ImageFile(coffee, bands=(3, 2, 1))], decoder=decoder)[0][0].shape == photo.shape
    with pytest.raises(ImageError, match=r"cut\.jpg"):
        load_images([cut], decoder=decoder)
    assert module.load_images([coffee])[0][0].shape == photo.shape


def test_it_is_told_if_it_is_missing(monkeypatch: pytest.MonkeyPatch):
    def missing(name: str) -> object:
        raise ModuleNotFoundError(f"No module named {name!r}")

    monkeypatch.setattr(nvimagecodec, "import_module", missing)
    with pytest.raises(MissingDependencyError, match=r"run: pip install .*nvimagecodec"):
        JpegDecoder(0)
