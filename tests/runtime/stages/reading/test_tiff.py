"""TIFF: every kind is right to the pixel or refused, never another picture. tifffile writes, an independent witness."""

from __future__ import annotations

import contextlib
import io
import itertools
import struct
import tracemalloc
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from fastsam_deploy.runtime.errors import ImageError
from fastsam_deploy.runtime.stages.image import load_image

tifffile = pytest.importorskip("tifffile", reason="writes the files of these tests; in the extra [dev]")

H, W, TILE = 40, 51, (16, 32)


def values(bits: int, samples: int) -> NDArray[Any]:
    """(h, w, samples) without symmetry; neighbours are alike, so that predictors and compression have work to do."""
    rng = np.random.default_rng(bits * 10 + samples)
    rows, columns, bands = np.ogrid[:H, :W, :samples]
    smooth = (rows * 3 + columns * 2 + bands * 60 + rng.integers(0, 9, (H, W, samples))) % 256
    wide = smooth << (bits - 8) if bits > 8 else smooth >> (8 - bits)
    low_bits = rng.integers(0, 1 << (bits - 8), (H, W, samples)) if bits > 8 else 0
    return (wide | low_bits).astype(np.uint8 if bits <= 8 else np.uint16)


def gray(band: NDArray[Any]) -> NDArray[Any]:
    """(h, w) → (h, w, 3)"""
    return np.repeat(band[..., None], 3, axis=2)


def lzw(raw: bytes, row_bytes: int) -> bytes:
    """LZW as libtiff writes it."""
    image = Image.frombytes("L", (row_bytes, len(raw) // row_bytes), raw)
    stream = io.BytesIO()
    image.save(stream, "TIFF", compression="tiff_lzw")
    tags = Image.open(io.BytesIO(stream.getvalue())).tag_v2
    assert len(tags[273]) == 1
    return stream.getvalue()[tags[273][0] :][: tags[279][0]]


def lzw_segments(array: NDArray[Any], tile: tuple[int, int] | None, order: str, predictor: bool) -> Iterator[bytes]:
    """The strips (of 9 rows) or tiles of (planes, h, w, samples), as `tifffile.imwrite` takes them."""
    height, width = tile or (9, W)
    for plane in array:
        for top, left in itertools.product(range(0, H, height), range(0, W, width)):
            part = plane[top : top + height, left : left + width]
            if tile:
                part = np.pad(part, ((0, height - part.shape[0]), (0, width - part.shape[1]), (0, 0)))
            if predictor:
                part = np.diff(part, axis=1, prepend=np.zeros_like(part[:, :1]))
            raw = part.astype(part.dtype.newbyteorder(order)).tobytes()
            yield lzw(raw, width * part.shape[2] * part.dtype.itemsize)


def tiff(array: NDArray[Any], **settings: Any) -> bytes:
    stream = io.BytesIO()
    tifffile.imwrite(stream, array, **settings)
    return stream.getvalue()


def with_short(content: bytes, tag: int, value: int) -> bytes:
    """The same file with another value of one tag of its first page."""
    changed = bytearray(content)
    with tifffile.TiffFile(io.BytesIO(content)) as file:
        struct.pack_into(f"{file.byteorder}H", changed, file.pages[0].tags[tag].valueoffset, value)
    return bytes(changed)


def plain_tiff(pixels: bytes, tags: dict[int, Any], *, next_page: int = 0) -> bytes:
    """A file of one strip with exactly these tags, for what tifffile does not write."""
    strip = {273: 8, 279: len(pixels)}
    entries, beyond = [], b""
    directory = 8 + len(pixels) + len(pixels) % 2
    after = directory + 6 + 12 * len(strip | tags)
    for tag, value in sorted((strip | tags).items()):
        numbers = np.atleast_1d(value).astype("<u4")
        packed = numbers.tobytes()
        if len(packed) > 4:
            packed, beyond = struct.pack("<I", after + len(beyond)), beyond + packed
        entries.append(struct.pack("<HHI", tag, 4, len(numbers)) + packed)
    header = b"II*\0" + struct.pack("<I", directory) + pixels + b"\0" * (len(pixels) % 2)
    return header + struct.pack("<H", len(entries)) + b"".join(entries) + struct.pack("<I", next_page) + beyond


def described(pixels: NDArray[Any], bits: int, photometric: int, **tags: Any) -> dict[int, Any]:
    """The tags that an image of (h, w) or (h, w, samples) needs."""
    samples = 1 if pixels.ndim == 2 else pixels.shape[2]
    needed = {256: pixels.shape[1], 257: pixels.shape[0], 258: [bits] * samples, 262: photometric, 277: samples}
    return needed | {int(tag.removeprefix("t")): value for tag, value in tags.items()}


KINDS = [
    (bits, samples, planar, photometric)
    for bits in (8, 16)
    for samples, planar, photometric in (
        *((1, "contig", photometric) for photometric in ("minisblack", "miniswhite")),
        *itertools.product((3, 4), ("contig", "separate"), ("minisblack", "rgb")),
    )
]


@pytest.mark.parametrize(("bits", "samples", "planar", "photometric"), KINDS)
def test_every_kind_is_right_to_the_pixel(bits: int, samples: int, planar: str, photometric: str) -> None:
    """The 400 kinds of which 78 were other pictures and 124 were called damaged."""
    stored = values(bits, samples)
    seen = stored if photometric != "miniswhite" else ~stored
    colours = seen[..., :3] if samples > 1 else seen.repeat(3, axis=2)
    expected = colours >> 8 if bits == 16 else colours
    planes = stored.transpose(2, 0, 1)[..., None] if planar == "separate" else stored[None]
    settings: dict[str, Any] = {"photometric": photometric}
    if samples > 1:
        settings["planarconfig"] = planar
        settings["extrasamples"] = ["unspecified"] * (samples - (3 if photometric == "rgb" else 1))
    shape = (samples, H, W) if planar == "separate" else (H, W, samples) if samples > 1 else (H, W)
    for compression, predictor, tile, order in itertools.product(
        (None, "zlib", "lzw"), (False, True), (None, TILE), ("<", ">")
    ):
        if predictor and compression is None:
            continue
        layout = {"tile": tile, "byteorder": order, **settings, **({} if tile else {"rowsperstrip": 9})}
        data: Any = planes.reshape(shape)
        if compression == "lzw":
            data = lzw_segments(planes, tile, order, predictor)
            layout |= {"shape": shape, "dtype": stored.dtype}
        # tifffile lets nobody write LZW without its codecs, so the tag is put right afterwards.
        content = tiff(data, compression=compression and "zlib", predictor=predictor, **layout)
        if compression == "lzw":
            content = with_short(content, 259, 5)
        loaded = load_image(content)
        assert np.array_equal(loaded, expected), (compression, predictor, tile, order)


@pytest.mark.parametrize("bits", [1, 2, 4, 10, 12, 14])
@pytest.mark.parametrize("samples", [1, 3])
def test_values_that_are_no_whole_bytes_fill_the_range(bits: int, samples: int) -> None:
    stored = np.random.default_rng(bits).integers(0, 1 << bits, (H, W, samples))
    stored[0, :2] = [[0], [(1 << bits) - 1]]
    each_bit = (stored[..., None] >> np.arange(bits - 1, -1, -1)) & 1
    rows = np.packbits(each_bit.reshape(H, -1).astype(np.uint8), axis=1)
    content = plain_tiff(rows.tobytes(), described(stored, bits, 2 if samples == 3 else 1))
    expected = stored * 255 // ((1 << bits) - 1) if bits < 8 else stored >> (bits - 8)
    assert np.array_equal(load_image(content), np.broadcast_to(expected, (H, W, 3)))


_COLOURED = ("L", "LA", "RGB", "RGBA", "CMYK", "YCbCr")


@pytest.mark.parametrize(
    ("mode", "compression"),
    [
        *itertools.product(("1",), ("group3", "group4", "tiff_ccitt")),
        *itertools.product(("1", "P", *_COLOURED), ("packbits", "tiff_lzw", "zstd", "lzma")),
        *itertools.product(_COLOURED, ("jpeg",)),
    ],
)
def test_what_pillow_writes(mode: str, compression: str, caplog: pytest.LogCaptureFixture) -> None:
    smooth = values(8, 3)
    image = Image.fromarray(smooth).convert(mode if mode != "P" else "RGB")
    if mode == "P":
        image = image.convert("P", palette=Image.Palette.ADAPTIVE)
    stream = io.BytesIO()
    image.save(stream, "TIFF", compression=compression)
    expected = np.asarray(Image.open(stream).convert("RGB"))
    # libtiff converts YCbCr itself for Pillow, and rounds in another way.
    assert np.abs(load_image(stream).astype(int) - expected).max() <= (mode == "YCbCr")
    assert not caplog.messages


def test_white_is_zero_in_black_and_white_too() -> None:
    fax = np.zeros((H, W), bool)
    fax[5:9, 3:40] = True
    rows = np.packbits(fax, axis=1).tobytes()
    assert np.array_equal(load_image(plain_tiff(rows, described(fax, 1, 0))), gray(np.where(fax, 0, 255)))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_colours_multiplied_with_alpha_are_divided_by_it(dtype: Any) -> None:
    full = np.iinfo(dtype).max
    pixels = np.array([[[full // 4, full // 8, 0, full // 2], [7, 8, 9, 0], [full, 3, 2, full]]], dtype)
    loaded = load_image(tiff(pixels, photometric="rgb", extrasamples=["assocalpha"]))
    shift = 8 * (pixels.itemsize - 1)
    assert np.abs(loaded[0, 0].astype(int) - [126, 63, 0]).max() <= 2
    assert loaded[0, 1:].tolist() == (pixels[0, 1:, :3] >> shift).tolist()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_respected(orientation: int) -> None:
    stored = values(16, 3)
    content = tiff(stored, photometric="rgb", extratags=[(274, "H", 1, orientation, True)])
    upright = [
        stored, stored[:, ::-1], stored[::-1, ::-1], stored[::-1], stored.swapaxes(0, 1), np.rot90(stored, -1),
        stored[::-1, ::-1].swapaxes(0, 1), np.rot90(stored),
    ][orientation - 1]  # fmt: skip
    assert np.array_equal(load_image(content), upright >> 8)


def test_parts_that_were_never_written_are_black() -> None:
    pixels = np.full((64, 64), 200, np.uint8)
    content = bytearray(tiff(pixels, photometric="minisblack", tile=(32, 32)))
    with tifffile.TiffFile(io.BytesIO(content)) as file:
        offsets = file.pages[0].tags[324].valueoffset
    content[offsets + 4 : offsets + 8] = b"\0\0\0\0"
    loaded = load_image(content)
    assert not loaded[:32, 32:].any()
    assert (loaded[32:] == 200).all()


def test_old_files_without_sizes_of_strips() -> None:
    pixels = values(8, 1)[..., 0]
    content = bytearray(plain_tiff(pixels.tobytes(), described(pixels, 8, 1)))
    at = content.index(struct.pack("<HHI", 279, 4, 1))
    content[at : at + 2] = struct.pack("<H", 280)  # another tag, which says nothing of strips
    assert np.array_equal(load_image(content), gray(pixels))


# Pages and bands


def pages(*grays: int, **settings: Any) -> bytes:
    stream = io.BytesIO()
    with tifffile.TiffWriter(stream, **settings) as writer:
        for level in grays:
            writer.write(np.full((H, W), level, np.uint8), photometric="minisblack", metadata=None)
    return stream.getvalue()


@pytest.mark.parametrize("settings", [{}, {"bigtiff": True}, {"byteorder": ">"}], ids=["classic", "big", "other order"])
def test_a_page_is_chosen(settings: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    content = pages(10, 20, 30, **settings)
    assert [load_image(content, page=page)[0, 0, 0] for page in range(3)] == [10, 20, 30]
    assert not caplog.messages, "who chooses a page knows that there are others"
    assert load_image(content, name="stack.tif")[0, 0, 0] == 10
    assert caplog.messages == ["stack.tif: holds 3 images, the first was read; page=… (--page) reads another, from 0"]
    with pytest.raises(ImageError, match="has no page 3; it holds 3, counted from 0"):
        load_image(content, page=3)


def test_smaller_copies_of_an_image_are_not_counted(caplog: pytest.LogCaptureFixture) -> None:
    stream = io.BytesIO()
    with tifffile.TiffWriter(stream) as writer:
        writer.write(np.full((H, W), 9, np.uint8), photometric="minisblack", metadata=None)
        writer.write(np.full((9, 9), 9, np.uint8), photometric="minisblack", subfiletype=1, metadata=None)
    assert load_image(stream).shape == (H, W, 3)
    assert not caplog.messages


@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_bands_are_chosen(planar: str, caplog: pytest.LogCaptureFixture) -> None:
    stored = values(16, 5)
    data = stored.transpose(2, 0, 1) if planar == "separate" else stored
    content = tiff(data, photometric="minisblack", planarconfig=planar, extrasamples=["unspecified"] * 4, tile=TILE)
    assert np.array_equal(load_image(content, bands=(5, 3, 1)), stored[..., [4, 2, 0]] >> 8)
    assert np.array_equal(load_image(content, bands=[4]), gray(stored[..., 3] >> 8))
    assert not caplog.messages
    assert np.array_equal(load_image(content, name="scene.tif"), stored[..., :3] >> 8)
    assert caplog.messages == [
        "scene.tif: has 5 bands, of which 1, 2, 3 were read; bands=(3, 2, 1) (--bands 3,2,1) reads others"
    ]
    with pytest.raises(ImageError, match="has no band 6; it holds 5, counted from 1"):
        load_image(content, bands=(6, 1, 2))


def test_two_bands_are_read_as_gray_and_said(caplog: pytest.LogCaptureFixture) -> None:
    stored = values(8, 2)
    content = tiff(stored, photometric="minisblack", planarconfig="contig", extrasamples=["unspecified"])
    assert np.array_equal(load_image(content), gray(stored[..., 0]))
    assert "has 2 bands, of which 1 were read" in caplog.text
    caplog.clear()
    alpha = tiff(stored, photometric="minisblack", planarconfig="contig", extrasamples=["unassalpha"])
    assert np.array_equal(load_image(alpha), gray(stored[..., 0]))
    assert not caplog.messages


def test_bands_of_a_palette_are_those_of_its_colours() -> None:
    image = Image.fromarray(values(8, 3)).convert("P", palette=Image.Palette.ADAPTIVE)
    stream = io.BytesIO()
    image.save(stream, "TIFF")
    assert np.array_equal(load_image(stream, bands=(3, 2, 1)), np.asarray(image.convert("RGB"))[..., ::-1])


# Values of more than 8 bits


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.uint32, np.float32, np.float64])
def test_values_without_a_full_range_need_one(dtype: Any) -> None:
    stored = np.array([[-5, 0, 5]], dtype) if np.dtype(dtype).kind != "u" else np.array([[70000, 70005, 70010]], dtype)
    content = tiff(stored, photometric="minisblack")
    with pytest.raises(ImageError, match=r"-bit.*range='minmax'"):
        load_image(content)
    assert load_image(content, range="minmax")[0, :, 0].tolist() == [0, 128, 255]


def test_values_that_are_no_number_are_black() -> None:
    stored = np.array([[np.nan, -np.inf, 0, 1, np.inf]], np.float32)
    loaded = load_image(tiff(stored, photometric="minisblack"), range="minmax")
    assert loaded[0, :, 0].tolist() == [0, 0, 0, 255, 255]


def test_channels_share_one_range() -> None:
    stored = np.array([[[100, 200, 1100]]], np.uint16)
    assert load_image(tiff(stored, photometric="rgb"), range="minmax").tolist() == [[[0, 26, 255]]]


# What is refused, and damage


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        pytest.param({262: 8}, "colours are CIELab", id="CIELab"),
        pytest.param({262: 32803}, "raw mosaic", id="mosaic"),
        pytest.param({262: 77}, "colours are of kind 77", id="unknown colours"),
        pytest.param({262: 2}, "1 of 3 colours", id="RGB of one sample"),
        pytest.param({262: 3}, "palette", id="no palette"),
        pytest.param({262: 6, 277: 3, 258: [8, 8, 8]}, "lower resolution", id="subsampled"),
        pytest.param({262: 0, 339: 2}, "signed", id="signed white is zero"),
        pytest.param({259: 6}, "compression 6", id="old JPEG"),
        pytest.param({259: 34712}, "compression 34712", id="JPEG 2000"),
        pytest.param({259: 5, 317: 9}, "predictor 9", id="predictor"),
        pytest.param({317: 2}, "predictor 2 and compression 1", id="predictor alone"),
        pytest.param({258: 24}, "values of 24 bits", id="24 bits"),
        pytest.param({258: [8, 16], 277: 2}, "bands differ", id="bands of two types"),
        pytest.param({339: 6}, "contradicts itself", id="complex numbers"),
        pytest.param({256: 0}, "is 0×40 pixels", id="no width"),
        pytest.param({256: 1 << 20, 257: 1 << 20}, "the limit is", id="too large"),
        pytest.param({278: 3}, "places and 1 sizes", id="too few strips"),
        pytest.param({322: 16, 323: 0}, "contradicts itself", id="tiles of no height"),
        pytest.param({322: 1 << 16, 323: 1 << 16}, "strips or tiles of", id="a huge tile"),
        pytest.param({254: 1}, "raw photographs", id="preview first"),
        pytest.param({50706: [1, 4, 0, 0]}, "raw photographs", id="DNG"),
    ],
)
def test_kinds_that_are_refused(tags: dict[int, Any], message: str) -> None:
    pixels = values(8, 1)[..., 0]
    with pytest.raises(ImageError, match=message):
        load_image(plain_tiff(pixels.tobytes(), described(pixels, 8, 1) | tags), name="x.tif")


def test_a_loop_of_pages_is_found() -> None:
    pixels = values(8, 1)[..., 0]
    directory = 8 + pixels.size
    with pytest.raises(ImageError, match="loop"):
        load_image(plain_tiff(pixels.tobytes(), described(pixels, 8, 1), next_page=directory))


def test_a_strip_that_expands_without_end_is_not_expanded() -> None:
    """50 MB of zeros for an image of 2 kB; only as much as the image needs is asked for."""
    bomb = zlib.compress(bytes(50_000_000))
    pixels = np.zeros((H, W), np.uint8)
    content = plain_tiff(bomb, described(pixels, 8, 1, t259=8))
    tracemalloc.start()
    try:
        assert load_image(content, max_pixels=10_000).shape == (H, W, 3)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("compression", [None, "zlib", "tiff_lzw", "jpeg", "packbits"])
def test_damage_and_cuts_give_an_image_or_an_error(compression: str | None) -> None:
    stream = io.BytesIO()
    Image.fromarray(values(8, 3)).save(
        stream, "TIFF", compression=compression and compression.replace("zlib", "tiff_adobe_deflate")
    )
    whole, rng = stream.getvalue(), np.random.default_rng(7)
    for _ in range(300):
        damaged = bytearray(whole[: rng.integers(1, len(whole) + 1)] if rng.random() < 0.3 else whole)
        for at in rng.integers(0, len(damaged), rng.integers(1, 4)):
            damaged[at] ^= 1 << rng.integers(8)
        with contextlib.suppress(ImageError):
            assert load_image(damaged, max_pixels=1_000_000).shape[2] == 3


def test_a_cut_file_is_never_filled_up() -> None:
    content = tiff(values(16, 3), photometric="rgb", compression="zlib", rowsperstrip=4)
    for part in np.linspace(0.01, 0.99, 40):
        with pytest.raises(ImageError):
            load_image(content[: int(len(content) * part)])
