"""What `fastsam video` does with an open source of frames and an open model."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np

from ..batch.console import say, with_progress
from ..batch.frame_rate import constant_rate
from ..batch.json_lines import JsonLines
from ..batch.video import VideoWriter, segment_video
from ..errors import ImageError
from ..pipeline import FastSAM
from ..segments import Prompt
from ..sources.frames import FrameSource, VideoInfo
from ..sources.isolated import IsolatedVideo
from ..sources.live import LiveSource
from ..sources.video import Video
from ..system.signals import stop_on_signals
from ..tiling.grid import Tiles
from .results import json_file

if TYPE_CHECKING:
    from rich.console import Console


@dataclass
class VideoRun:
    """One run: its source, its outputs, and what was counted.

    Attributes:
        source: open.
        output: video with overlays; None for none.
        json_target: file of JSON lines, "-", or None for none.
        contours: outline the segments.
        every, most, track, tiles: see `segment_video`.

    Example:
        >>> with open_frames("clip.mp4") as source:  # doctest: +SKIP
        ...     VideoRun(source, Path("out.mp4"), None).segment(model, None, console)
    """

    source: FrameSource
    output: Path | None
    json_target: str | None
    contours: bool = True
    every: int = 1
    most: int | None = None
    track: bool = False
    tiles: Tiles | None = None
    _frames: int = field(default=0, init=False)
    _segments: int = field(default=0, init=False)
    _seconds: float = field(default=0.0, init=False)

    def segment(self, model: FastSAM, prompt: Prompt | Sequence[Prompt] | None, console: Console) -> None:
        """Segment the frames and write the outputs. Ctrl-C and SIGTERM end a live source, not the process.

        Raises:
            FastSamError: see `segment_video`. What a live source gave before it was lost is kept.
        """
        start, source = perf_counter(), self.source
        lost: ImageError | None = None
        with ExitStack() as stack:
            lines = stack.enter_context(JsonLines(self.json_target)) if self.json_target is not None else None
            writer = None
            if self.output is not None:
                writer = stack.enter_context(VideoWriter(self.output, self._rated()))
            done = segment_video(
                model,
                source,
                source.name,
                prompt,
                writer,
                lines,
                contours=self.contours,
                every=self.every,
                most=self.most,
                track=self.track,
                tiles=self.tiles,
            )
            total = self.most or -(-source.info.frames // self.every) or None
            with stop_on_signals(lambda _: source.stop()) if isinstance(source, LiveSource) else nullcontext():
                try:
                    for count in with_progress(done, console, total=total):
                        self._frames, self._segments = self._frames + 1, self._segments + count
                except ImageError as error:
                    if not source.is_live or not self._frames:
                        raise
                    lost = error
        self._seconds = perf_counter() - start
        if lost is not None:
            self._count(console)
            raise lost

    def _rated(self) -> VideoInfo:
        """Size and rate of the overlays."""
        info = self.source.info
        if not isinstance(self.source, Video | IsolatedVideo):
            return replace(info, fps=info.fps / self.every) if not self.source.is_live else info
        times_s = self.source.timestamps.times_s[:: self.every]
        return replace(info, fps=constant_rate(np.asarray(times_s), info.fps / self.every))

    def report(self, console: Console) -> None:
        """Say what was done.

        Raises:
            ImageError: frames are missing.
        """
        self._count(console)
        if self.source.missing and self.most is None:
            raise ImageError(
                f"{self.source.name}: {self.source.missing}; the others are done. The file is damaged: copy it again "
                "from where it came"
            )

    def _count(self, console: Console) -> None:
        written = [str(file) for file in (self.output, json_file(self.json_target)) if file is not None]
        where = f" → {', '.join(written)}" if written else ""
        dropped = f", {self.source.dropped} dropped" if isinstance(self.source, LiveSource) else ""
        rate = self._frames / max(self._seconds, 1e-9)
        text = f"{self._frames} frames{dropped}, {self._segments} segments, {rate:.1f} frames/s"
        say(console, f"{self.source.name}: {text}{where}")
