"""The weights of FastSAM in the public release that ultralytics itself downloads from."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import ParameterError

RELEASE = "https://github.com/ultralytics/assets/releases/download/v8.4.0"
"""The release; its files do not change."""


@dataclass(frozen=True, slots=True)
class PublishedWeights:
    """A checkpoint that can be downloaded.

    Attributes:
        name: such as "FastSAM-s".
        size_bytes: of the file.
        sha256: of the file, hexadecimal.

    Example:
        >>> published("FastSAM-s").file_name
        'FastSAM-s.pt'
    """

    name: str
    size_bytes: int
    sha256: str

    @property
    def file_name(self) -> str:
        """Name of the checkpoint."""
        return f"{self.name}.pt"

    def url(self, release: str = RELEASE) -> str:
        """Address of the checkpoint, in the public release or in a copy of it."""
        return f"{release.rstrip('/')}/{self.file_name}"

    def __str__(self) -> str:
        return f"{self.size_bytes / 1e6:.1f} MB, SHA-256 {self.sha256}"


# ultralytics publishes no hashes. These, and the sizes, were recorded for this release by projects that do not know
# each other: a dozen for s, two for x (docs/adr/0026).
PUBLISHED = {
    weights.name: weights
    for weights in (
        PublishedWeights("FastSAM-s", 23_851_578, "c9f78716a81c7aff0d608ccc73e1b82ab3aaad86005049f6a92106a0be6d0844"),
        PublishedWeights("FastSAM-x", 144_972_346, "752cadc2828edb1cd4bc4f9eb587100631af06ea2108f4c9ed56df4755701e76"),
    )
}
"""Name → weights."""


def published(name: str) -> PublishedWeights:
    """The weights of this name.

    Raises:
        ParameterError: there are none.

    Example:
        >>> published("FastSAM-x").size_bytes
        144972346
        >>> published("FastSAM-m")
        Traceback (most recent call last):
        ...
        fastsam_deploy.runtime.errors.ParameterError: 'FastSAM-m' are no published weights; expected FastSAM-s or \
FastSAM-x
    """
    weights = PUBLISHED.get(name.removesuffix(".pt"))
    if weights is None:
        raise ParameterError(f"{name!r:.60} are no published weights; expected {' or '.join(PUBLISHED)}")
    return weights
