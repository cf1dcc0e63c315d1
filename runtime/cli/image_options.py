"""Groups of options for images: what is read from a file, and how a large image is cut."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from ..errors import ParameterError
from .options import network_option, reading_option

if TYPE_CHECKING:
    from ..stages.image import ImageLoader
    from ..stages.reading.decoded import Selection
    from ..tiling.grid import Tiles


@dataclass(frozen=True)
class ReadingOptions:
    """What to read from an image file.

    Example:
        >>> ReadingOptions(page=2, bands="3,2,1").selection().bands
        (3, 2, 1)
    """

    page: Annotated[
        int | None,
        reading_option("Number of the image in files with several, such as TIFF and GIF, from 0. Default: the first."),
    ] = None
    bands: Annotated[
        str | None,
        reading_option(
            "Bands to read as red, green and blue, or one as gray, counted from 1. Default: the colours of the file.",
            metavar="3,2,1",
        ),
    ] = None
    value_range: Annotated[
        str,
        reading_option(
            "For values of more than 8 bits, those that become black and white. full: the limits of the type; minmax "
            "or percentile: those of the image; or two numbers, LOW,HIGH.",
            "--range",
            metavar="LIMITS",
        ),
    ] = "full"
    isolate: Annotated[
        bool,
        reading_option(
            "Decode files in a process of their own, which may take 20 s and 2 GiB for each: for images of strangers.",
            "--isolate",
        ),
    ] = False

    @contextmanager
    def loader(self) -> Iterator[ImageLoader | None]:
        """What reads the files, while the block lasts; None for the usual way."""
        if not self.isolate:
            yield None
            return
        from ..stages.isolated import IsolatedLoader

        with IsolatedLoader() as loader:
            yield loader

    def selection(self) -> Selection:
        """The selection. Raises ParameterError if a value is out of range."""
        from ..stages.reading.decoded import Selection

        bands = None if self.bands is None else _numbers("--bands", self.bands, int, "3,2,1")
        value_range: Any = self.value_range
        if "," in self.value_range:
            value_range = _numbers("--range", self.value_range, float, "0,4095")
        return Selection(self.page, bands, value_range)


@dataclass(frozen=True)
class TileOptions:
    """How large images are cut, see `Tiles`.

    Example:
        >>> TileOptions().parsed() is None, TileOptions(tiles=1024).parsed().size_px
        (True, 1024)
    """

    tiles: Annotated[
        int | None,
        network_option(
            "For large images: segment overlapping tiles of this side, in pixels of the image, and merge what they "
            "give. --max-det counts in each tile.",
            "--tiles",
            metavar="PIXELS",
        ),
    ] = None
    tile_overlap: Annotated[
        float | None,
        network_option("Share of a tile that the next one shows too, 0 to 0.75. Default: 0.65.", "--tile-overlap"),
    ] = None

    def parsed(self) -> Tiles | None:
        """The tiles; None without them. Raises ParameterError if a value is out of range."""
        from ..tiling.grid import Tiles

        if self.tiles is None:
            if self.tile_overlap is not None:
                raise ParameterError("--tile-overlap without --tiles; add --tiles 1024")
            return None
        return Tiles(self.tiles) if self.tile_overlap is None else Tiles(self.tiles, self.tile_overlap)


def _numbers(name: str, text: str, kind: Callable[[str], Any], example: str) -> tuple[Any, ...]:
    try:
        return tuple(kind(part) for part in text.split(","))
    except ValueError as error:
        raise ParameterError(f"{name}: {text!r:.80}; expected numbers with commas, such as {example}") from error
