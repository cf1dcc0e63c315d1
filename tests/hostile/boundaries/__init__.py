"""Every boundary: the modules here list theirs."""

from __future__ import annotations

from tests.hostile.boundaries import batches, checkpoints, images, models, segments, texts, videos, wire
from tests.hostile.boundary import Boundary

BOUNDARIES: dict[str, Boundary] = {
    boundary.name: boundary
    for module in (images, segments, texts, wire, models, videos, batches, checkpoints)
    for boundary in module.BOUNDARIES
}
