"""CLIP without PyTorch: image and text encoders on any engine, and the tokenizer.

The library `tokenizers` is imported when a text encoder is opened.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..engines import open_network
from ..engines.interface import Network
from ..errors import MissingDependencyError, ModelError, PromptError
from ..settings import EngineSettings
from .spec import TOKENIZER_FILE, ClipSpec, check_encoder, read_clip_spec

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_BATCH = 32
_TEXTS_KEPT = 1024


class ImageEncoder:
    """Images → features, on a network. Usable from many threads at once."""

    def __init__(self, network: Network, spec: ClipSpec) -> None:
        """
        Args:
            network: stays the caller's to close.
            spec: what the network has to be.

        Raises:
            ModelError: it is another.
        """
        check_encoder(spec, network.inputs, network.outputs, network.name, text=False)
        self.spec = spec
        self._network = network
        self._fixed_batch = network.inputs[0].shape[0]

    @property
    def description(self) -> dict[str, Any]:
        """See `Network.description`."""
        return self._network.description

    @property
    def batch(self) -> int:
        """How many images are best run at once."""
        return self._fixed_batch or _BATCH

    def encode(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n, 3, H, W) float32, normalised as the spec says → (n, embed_dim) float32 of length 1.

        Raises:
            ModelError: the network is closed, failed to run, or gave numbers that are not finite.
        """
        return _run(self._network, "images", images, "features", self.batch)

    def encode_patches(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """(1, 3, H, W) float32 → (gh, gw, embed_dim) float32, of any length.

        Raises:
            ModelError: as `encode`, or the network has no such output.
        """
        if not self.spec.image.dense:
            raise ModelError(
                f"{self.spec.name}: has no features of patches, expected the output patch_features; use mode='crops', "
                "or a CLIP with a vision transformer and a class token (ViT-B-32)"
            )
        patches: NDArray[np.float32] = _run(self._network, "images", image, "patch_features", self.batch)[0]
        return patches


class TextEncoder:
    """Texts → features, on a network. Usable from many threads at once."""

    def __init__(self, network: Network, spec: ClipSpec, tokenizer: str | Path) -> None:
        """
        Args:
            network: stays the caller's to close.
            spec: what the network has to be.
            tokenizer: path of a `tokenizer.json`.

        Raises:
            ModelError: the network is another, or the file is no tokenizer.
            MissingDependencyError: the library `tokenizers` is not installed.
        """
        check_encoder(spec, network.inputs, network.outputs, network.name, text=True)
        self.spec = spec
        self._network = network
        self._fixed_batch = network.inputs[0].shape[0]
        self._tokenizer = _open_tokenizer(Path(tokenizer))

    def tokens(self, texts: Sequence[str], truncate: bool = False) -> NDArray[np.int64]:
        """(n, context_length) int64 ids with start and end, padded.

        Args:
            truncate: cut texts that are too long; the last token stays the end token.

        Raises:
            PromptError: a text is too long, or has nothing but space and signs that the tokenizer drops.
        """
        text = self.spec.text
        rows = np.full((len(texts), text.context_length), text.pad_id, np.int64)
        # One by one: a batch starts threads in the library, which then warns in every process that forks.
        for row, given in zip(rows, texts, strict=True):
            found = self._tokenizer.encode(given)
            if all(found.special_tokens_mask):
                raise PromptError(f"text {given!r:.60} has no token; expected words; write what the object looks like")
            if len(found.ids) > text.context_length:
                if not truncate:
                    raise PromptError(
                        f"text {given!r:.60} has {len(found.ids)} tokens, {self.spec.name} takes {text.context_length} "
                        "with start and end; shorten it, or cut it with Text(…, truncate=True)"
                    )
                row[-1] = text.end_id
            kept = found.ids[: text.context_length - (len(found.ids) > text.context_length)]
            row[: len(kept)] = kept
        return rows

    def encode(self, texts: Sequence[str], truncate: bool = False) -> NDArray[np.float32]:
        """(n, embed_dim) float32 of length 1.

        Raises:
            PromptError: see `tokens`. ModelError: the network is closed, failed, or gave numbers that are not finite.
        """
        tokens = self.tokens(texts, truncate)
        return _run(self._network, "tokens", tokens, "features", self._fixed_batch or _BATCH)


class Clip:
    """Both encoders of one CLIP model. One may serve several `FastSAM` and many threads; texts are kept encoded.

    >>> with Clip.open("clip") as clip, FastSAM(clip=clip) as model:       # doctest: +SKIP
    ...     dog = model.segment("photo.jpg", Text("a yellow dog"))
    """

    def __init__(self, images: ImageEncoder, texts: TextEncoder) -> None:
        """
        Args:
            images, texts: of the same model; their networks stay the caller's to close.

        Raises:
            ModelError: their features do not compare.
        """
        if images.spec.embed_dim != texts.spec.embed_dim:
            raise ModelError(
                f"image features of {images.spec.name} have {images.spec.embed_dim} numbers, text features of "
                f"{texts.spec.name} {texts.spec.embed_dim}; expected the encoders of one model"
            )
        self.images = images
        self.texts = texts
        self._owned: tuple[Network, ...] = ()
        self._known: OrderedDict[tuple[str, bool], NDArray[np.float32]] = OrderedDict()
        self._lock = Lock()

    @classmethod
    def open(cls, folder: str | Path, device: str = "cpu", threads: int | None = None) -> Clip:
        """Open a folder that `fastsam-export clip` made.

        Args:
            device, threads: as of `FastSAM`.

        Raises:
            ModelError: the folder or a file is missing, or the files do not belong together (names and sizes of
                tensors are compared, sums of the files are not).
            DeviceError, MissingDependencyError: as `open_network`; the library `tokenizers` is needed as well.
        """
        folder = Path(folder)
        spec, settings = read_clip_spec(folder), EngineSettings(device, threads)
        with ExitStack() as stack:
            text = open_network(folder / spec.text.file, settings)
            stack.callback(text.close)
            texts = TextEncoder(text, spec, folder / TOKENIZER_FILE)
            image = open_network(folder / spec.image.file, settings)
            stack.callback(image.close)
            clip = cls(ImageEncoder(image, spec), texts)
            clip._owned = text, image
            stack.pop_all()
        return clip

    @property
    def spec(self) -> ClipSpec:
        """What the folder holds."""
        return self.images.spec

    @property
    def description(self) -> dict[str, Any]:
        """Which model, on what its image encoder runs, for reports."""
        return {"name": self.spec.name, "precision": self.spec.precision, **self.images.description}

    def encode_texts(self, texts: Sequence[str], truncate: bool = False) -> NDArray[np.float32]:
        """As `TextEncoder.encode`; the last 1024 texts are remembered."""
        with self._lock:
            known = {text: self._known.get((text, truncate)) for text in texts}
        new = [text for text, feature in known.items() if feature is None]
        found = dict(zip(new, self.texts.encode(new, truncate), strict=True)) if new else {}
        features = {text: found[text] if feature is None else feature for text, feature in known.items()}
        with self._lock:
            for text, feature in features.items():
                self._known[text, truncate] = feature
                self._known.move_to_end((text, truncate))
            while len(self._known) > _TEXTS_KEPT:
                self._known.popitem(last=False)
        return np.stack([features[text] for text in texts])

    def close(self) -> None:
        """Free the networks, if they were opened here; each of them, even where one fails."""
        with ExitStack() as stack:
            for network in self._owned:
                stack.callback(network.close)

    def __enter__(self) -> Clip:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _run(network: Network, name: str, values: NDArray[Any], output: str, batch: int) -> NDArray[np.float32]:
    """The output for all rows, `batch` at a time; a network of fixed batch runs full, its last rows repeated."""
    fixed = network.inputs[0].shape[0] is not None
    parts = []
    for start in range(0, len(values), batch):
        part = values[start : start + batch]
        count = len(part)
        if fixed and count < batch:
            part = np.concatenate([part, np.repeat(part[-1:], batch - count, axis=0)])
        found = network.run({name: part}, [output])[0][:count]
        if not np.isfinite(found).all():
            raise ModelError(
                f"{network.name}: {output} hold values that are not finite; expected numbers; export it in FP32"
            )
        parts.append(found.astype(np.float32, copy=False))
    return np.concatenate(parts)


def _open_tokenizer(path: Path) -> Tokenizer:
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise MissingDependencyError(f"text prompts: {error}; run: pip install 'fastsam-deploy[clip]'") from error
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises plain Exception
        raise ModelError(
            f"{path}: cannot be read as a tokenizer ({error!s:.200}); make the folder again with fastsam-export clip"
        ) from error
