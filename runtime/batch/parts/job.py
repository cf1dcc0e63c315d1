"""What a run does with every image: all that a worker has to know, in plain values."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...connection import is_address
from ...documents import dump, parse
from ...errors import PromptError
from ...opening import ModelSettings, model_files, open_model
from ...pipeline import FastSAM
from ...prompts.kinds import prompt_from_json
from ...segments import Prompt
from ...stages.reading.decoded import Selection
from ...tiling.grid import Tiles
from ..records import RunSettings
from ..resume import compared_settings


@dataclass(frozen=True)
class Job:
    """How images are segmented, and where results go. It can be pickled: workers get it when they start.

    Attributes:
        output: folder or URL.
        model: path, published name, or address of the model; None for the demo model.
        settings: how the model is opened, and its thresholds.
        clip: folder of a CLIP model, for text prompts.
        prompts: JSON list of the prompts for images without prompts of their own; None for everything.
        selection: what is read of each file.
        isolate: decode files in processes of their own.
        tiles: how large images are cut; None: they are not.
        image_s: an image that takes longer, in seconds, counts as poison.

    Example:
        >>> Job("out", prompts='[{"points": [[3, 4]]}]').prompt_of(None).xy.tolist()
        [[3.0, 4.0]]
    """

    output: str
    model: str | None = None
    settings: ModelSettings = field(default_factory=ModelSettings)
    clip: str | None = None
    prompts: str | None = None
    selection: Selection = field(default_factory=Selection)
    isolate: bool = False
    tiles: Tiles | None = None
    image_s: float = 300.0

    def prompt_of(self, prompts: str | None) -> Prompt | list[Prompt] | None:
        """The prompt of an image.

        Args:
            prompts: its own, as JSON; None: those of the run.

        Raises:
            PromptError, ParameterError: the text describes no prompt.
        """
        text = self.prompts if prompts is None else prompts
        return None if text is None else prompt_of_json(text)

    def open_model(self, threads: int | None) -> FastSAM:
        """The model, on so many threads of this process; None: as the settings say.

        Raises:
            FastSamError: it cannot be opened as requested.
        """
        settings = self.settings if threads is None else self.settings.changed(threads=threads)
        return open_model(
            self.model, settings if self.model is None else settings.for_model(self.model), clip=self.clip
        )


def prompt_of_json(text: str) -> Prompt | list[Prompt] | None:
    """The prompts of a JSON text: one object, or a list of them; an empty list is everything.

    Raises:
        PromptError, ParameterError: the text describes no prompt.

    Example:
        >>> prompt_of_json('{"points": [[3, 4]]}').xy.tolist()
        [[3.0, 4.0]]
    """
    try:
        document = parse(text)
    except ValueError as error:
        raise PromptError(
            f'prompts are {text!r:.80} ({error}); expected JSON such as [{{"points": [[3, 4]]}}]'
        ) from error
    listed = document if isinstance(document, list) else [document]
    prompts: list[Prompt] = [prompt_from_json(item, "prompts") for item in listed]
    return None if not prompts else prompts[0] if len(prompts) == 1 else prompts


@dataclass(frozen=True)
class Description:
    """What results depend on, as it is stored with them. Two runs into one output must agree in `settings`.

    Attributes:
        model: SHA-256 of the checkpoint or of the file, or the address of the model.
        settings: everything that changes results, by name, as plain JSON values.
        class_names: of the model.

    Example:
        >>> len(Description("a", {"conf": 0.4}, ("object",)).settings_sha256)
        64
    """

    model: str
    settings: Mapping[str, Any]
    class_names: tuple[str, ...]

    @property
    def settings_sha256(self) -> str:
        """Hash of the settings, hexadecimal."""
        return hashlib.sha256(dump(self.settings, sort_keys=True).encode()).hexdigest()


def describe(job: Job, model: FastSAM) -> Description:
    """The description of a job with its open model.

    Example:
        >>> with job.open_model(1) as model:  # doctest: +SKIP
        ...     describe(job, model).settings["conf"]
        0.4
    """
    files = [] if is_address(job.model) else model_files(job.model)
    settings = RunSettings.of(
        model, job.prompt_of(None), job.selection, file=Path(files[0]) if files else None, tiles=job.tiles
    )
    compared = parse(dump(compared_settings(settings)))  # as it will be read back
    hashes = (compared.get(name) for name in ("checkpoint_sha256", "file_sha256", "address"))
    return Description(next(filter(None, hashes), "unknown"), compared, model.spec.class_names)
