"""Image files of every format, as `load_image` and a server read them."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np
from PIL import Image

from fastsam_deploy.runtime import load_image
from fastsam_deploy.runtime.stages.reading.formats import image_format
from tests.hostile.boundary import Boundary

MOST_PIXELS = 2_000_000
_SIDES = (48, 36)


def _gradient() -> Image.Image:
    x, y = np.meshgrid(np.arange(_SIDES[0]), np.arange(_SIDES[1]))
    noise = np.random.default_rng(0).integers(0, 60, x.shape)
    return Image.fromarray(np.stack([x * 5, y * 7, noise + 90], -1).astype(np.uint8))


def _encoded(image: Image.Image, form: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def _jpeg() -> list[bytes]:
    image = _gradient()
    turned = Image.Exif()
    turned[0x0112] = 6
    return [
        _encoded(image, "JPEG"),
        _encoded(image, "JPEG", progressive=True, exif=turned),
        _encoded(image.convert("L"), "JPEG"),
        _encoded(image.convert("CMYK"), "JPEG", subsampling=0),
    ]


def _png() -> list[bytes]:
    image = _gradient()
    modes = [_encoded(image.convert(mode), "PNG") for mode in ("RGB", "RGBA", "L", "LA", "P", "1")]
    deep = Image.fromarray(np.asarray(image)[..., 0].astype(np.uint16) << 8)
    moving = _encoded(image, "PNG", save_all=True, append_images=[image.rotate(90)])
    return [*modes, _encoded(deep, "PNG"), moving]


def _bmp() -> list[bytes]:
    image = _gradient()
    runs = bytes.fromhex("0805 0000 0407 0402 0000 0801 0000 0403 0003 01020300 0102 0001")
    table = b"".join(bytes([i, i, i, 0]) for i in range(256))
    sizes = (54 + len(table) + len(runs), 0, 54 + len(table), 40, 8, 4, 1, 8, 1, len(runs), 0, 0, 256, 0)
    rle = b"BM" + struct.pack("<IIIIiiHHIIIIII", *sizes) + table + runs
    return [_encoded(image.convert(mode), "BMP") for mode in ("RGB", "P", "L", "1")] + [rle]


def _gif() -> list[bytes]:
    image = _gradient()
    return [_encoded(image, "GIF"), _encoded(image, "GIF", save_all=True, append_images=[image.rotate(90)])]


def _webp() -> list[bytes]:
    image = _gradient()
    return [
        _encoded(image, "WEBP"),
        _encoded(image, "WEBP", lossless=True),
        _encoded(image.convert("RGBA"), "WEBP"),
        _encoded(image, "WEBP", save_all=True, append_images=[image.rotate(90)]),
    ]


def _tiff() -> list[bytes]:
    image = _gradient()
    kinds = ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg")
    seeds = [_encoded(image, "TIFF", compression=kind) for kind in kinds]
    seeds += [_encoded(image.convert(mode), "TIFF") for mode in ("1", "L", "P", "F", "RGBA", "CMYK")]
    seeds.append(_encoded(image, "TIFF", save_all=True, append_images=[image]))
    if find_spec("tifffile"):
        import tifffile

        pixels = np.asarray(image)
        for options in (
            {"tile": (16, 16), "photometric": "rgb"},
            {"bigtiff": True, "photometric": "rgb"},
            {"byteorder": ">", "photometric": "rgb", "planarconfig": "separate"},
        ):
            stream = io.BytesIO()
            data = pixels if "planarconfig" not in options else pixels.transpose(2, 0, 1).astype(np.uint16) * 200
            tifffile.imwrite(stream, data, **options)
            seeds.append(stream.getvalue())
    return seeds


def _avif() -> list[bytes]:
    return [_encoded(_gradient(), "AVIF"), _encoded(_gradient().convert("RGBA"), "AVIF", quality=30)]


def _heif() -> list[bytes]:
    if not find_spec("pillow_heif"):
        return [_encoded(_gradient(), "AVIF").replace(b"ftypavif", b"ftypheic")]
    import pillow_heif

    pillow_heif.register_heif_opener()
    return [_encoded(_gradient(), "HEIF"), _encoded(_gradient().convert("L"), "HEIF", quality=30)]


def _jpeg2000() -> list[bytes]:
    image = _gradient()
    return [_encoded(image, "JPEG2000"), _encoded(image.convert("L"), "JPEG2000", no_jp2=True, tile_size=(16, 16))]


def _ppm() -> list[bytes]:
    image = _gradient()
    plain = b"P3 2 2 255\n" + b"1 2 3 4 5 6 7 8 9 10 11 12\n"
    return [_encoded(image, "PPM"), _encoded(image.convert("L"), "PPM"), _encoded(image.convert("1"), "PPM"), plain]


def read(content: bytes) -> None:
    """As a server reads a file: its format by its first bytes, and no more pixels than it takes."""
    pixels = load_image(content, max_pixels=MOST_PIXELS)
    assert pixels.ndim == 3
    assert pixels.shape[2] == 3
    assert pixels.dtype == np.uint8
    assert pixels.shape[0] * pixels.shape[1] <= MOST_PIXELS
    image_format(content[:32], "x")


_MAKERS: dict[str, Callable[[], list[bytes]]] = {
    **{"jpeg": _jpeg, "png": _png, "bmp": _bmp, "gif": _gif, "webp": _webp, "tiff": _tiff},
    **{"avif": _avif, "heif": _heif, "jpeg2000": _jpeg2000, "ppm": _ppm},
}

BOUNDARIES = [
    Boundary(f"image-{name}", make, read, share=2.0 if name == "tiff" else 1.0) for name, make in _MAKERS.items()
]
