"""CLIP without PyTorch: image and text encoders on any engine, and the tokenizer.

Opening a text encoder imports the library `tokenizers`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..engines import open_network
from ..engines.interface import Network
from ..errors import MissingDependencyError, ModelError, PromptError, pip_install
from ..settings import EngineSettings
from ..system.fork import ForkLock
from .spec import TOKENIZER_FILE, ClipSpec, check_encoder, read_clip_spec

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_BATCH = 32
_CACHED_TEXTS = 1024


class ImageEncoder:
    """Images → features, on a network. Many threads can use it at once.

    Example:
        >>> encoder = ImageEncoder(open_network("clip/image.onnx"), read_clip_spec("clip"))     # doctest: +SKIP
        >>> encoder.encode(np.zeros((2, 3, 224, 224), np.float32)).shape                        # doctest: +SKIP
        (2, 512)
    """

    def __init__(self, network: Network, spec: ClipSpec) -> None:
        """
        Args:
            network: the network; the caller closes it.
            spec: the CLIP model that the network must belong to.

        Raises:
            ModelError: the network does not fit the spec.
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
        """Best number of images for one run."""
        return self._fixed_batch or _BATCH

    def encode(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """The features of images.

        Args:
            images: (n, 3, H, W) float32, normalised as in the spec.

        Returns:
            (n, embed_dim) float32, rows of length 1.

        Raises:
            ModelError: the network is closed, failed to run, or returned values that are not finite.
        """
        return _run(self._network, "images", images, "features", self.batch)

    def encode_patches(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """The features of the patches of one image.

        Args:
            image: (1, 3, H, W) float32, normalised as in the spec.

        Returns:
            (gh, gw, embed_dim) float32, not normalised.

        Raises:
            ModelError: as `encode`, or the network has no such output.
        """
        if not self.spec.image.dense:
            raise ModelError(
                f"{self.spec.name}: has no patch features, expected the output patch_features; use mode='crops', "
                "or a CLIP with a vision transformer and a class token (ViT-B-32)"
            )
        patches: NDArray[np.float32] = _run(self._network, "images", image, "patch_features", self.batch)[0]
        return patches


class TextEncoder:
    """Texts → features, on a network. Many threads can use it at once.

    Example:
        >>> network, spec = open_network("clip/text.onnx"), read_clip_spec("clip")              # doctest: +SKIP
        >>> encoder = TextEncoder(network, spec, "clip/tokenizer.json")                         # doctest: +SKIP
        >>> encoder.encode(["a yellow dog", "a cup"]).shape                                     # doctest: +SKIP
        (2, 512)
    """

    def __init__(self, network: Network, spec: ClipSpec, tokenizer: str | Path) -> None:
        """
        Args:
            network: the network; the caller closes it.
            spec: the CLIP model that the network must belong to.
            tokenizer: path of a `tokenizer.json`.

        Raises:
            ModelError: the network does not fit the spec, or the file is not a tokenizer.
            MissingDependencyError: the library `tokenizers` is not installed.
        """
        check_encoder(spec, network.inputs, network.outputs, network.name, text=True)
        self.spec = spec
        self._network = network
        self._fixed_batch = network.inputs[0].shape[0]
        self._tokenizer = _open_tokenizer(Path(tokenizer))

    def tokens(self, texts: Sequence[str], truncate: bool = False) -> NDArray[np.int64]:
        """The token ids of texts.

        Args:
            texts: n texts.
            truncate: whether to cut texts that are too long; the last token is always the end token.

        Returns:
            (n, context_length) int64 ids with start and end token, padded.

        Raises:
            PromptError: a text is too long, or contains only spaces and characters that the tokenizer drops.
            ModelError: the tokenizer fails.
        """
        settings = self.spec.text
        rows = np.full((len(texts), settings.context_length), settings.pad_id, np.int64)
        # One by one: a batch starts threads in the library, which then warns in every process that forks.
        for row, text in zip(rows, texts, strict=True):
            with _as_model_error(f"{self.spec.name}: its tokenizer fails on {text!r:.60}"):
                encoding = self._tokenizer.encode(text)
            token_ids = encoding.ids
            if all(encoding.special_tokens_mask):
                raise PromptError(f"text {text!r:.60} has no token; expected words; write what the object looks like")
            if len(token_ids) > settings.context_length:
                if not truncate:
                    raise PromptError(
                        f"text {text!r:.60} has {len(token_ids)} tokens, {self.spec.name} takes "
                        f"{settings.context_length} with start and end; shorten it, or cut it with "
                        "Text(…, truncate=True)"
                    )
                token_ids = [*token_ids[: settings.context_length - 1], settings.end_id]
            row[: len(token_ids)] = token_ids
        return rows

    def encode(self, texts: Sequence[str], truncate: bool = False) -> NDArray[np.float32]:
        """The features of texts: (n, embed_dim) float32, rows of length 1.

        Raises:
            PromptError: see `tokens`.
            ModelError: the network is closed, failed to run, or returned values that are not finite.
        """
        token_ids = self.tokens(texts, truncate)
        return _run(self._network, "tokens", token_ids, "features", self._fixed_batch or _BATCH)


class Clip:
    """Both encoders of one CLIP model. Several `FastSAM` and many threads can share it; it caches features of texts.

    Example:
        >>> with Clip.open("clip") as clip, FastSAM(clip=clip) as model:       # doctest: +SKIP
        ...     dog = model.segment("photo.jpg", Text("a yellow dog"))
    """

    def __init__(self, images: ImageEncoder, texts: TextEncoder) -> None:
        """
        Args:
            images: encoder of images; the caller closes its network.
            texts: encoder of texts of the same model; the caller closes its network.

        Raises:
            ModelError: the lengths of their features differ.
        """
        if images.spec.embed_dim != texts.spec.embed_dim:
            raise ModelError(
                f"image features of {images.spec.name} have {images.spec.embed_dim} numbers, text features of "
                f"{texts.spec.name} {texts.spec.embed_dim}; expected the encoders of one model"
            )
        self.images = images
        self.texts = texts
        self._owned: tuple[Network, ...] = ()
        self._cache: OrderedDict[tuple[str, bool], NDArray[np.float32]] = OrderedDict()
        self._lock = ForkLock()

    @classmethod
    def open(cls, folder: str | Path, device: str = "cpu", threads: int | None = None) -> Clip:
        """Open a folder that `fastsam-export clip` wrote.

        Args:
            folder: path of the folder.
            device: as in `FastSAM`.
            threads: as in `FastSAM`.

        Raises:
            ModelError: the folder or a file is missing, or the files do not belong together. The names and sizes of
                tensors are compared, checksums of the files are not.
            DeviceError, MissingDependencyError: as in `open_network`; the library `tokenizers` is also needed.

        Example:
            >>> clip = Clip.open("clip")                                    # doctest: +SKIP
            >>> clip.spec.name                                              # doctest: +SKIP
            'ViT-B-32/openai'
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
        """The spec of the model."""
        return self.images.spec

    @property
    def description(self) -> dict[str, Any]:
        """The model and the engine of its image encoder, for reports."""
        return {"name": self.spec.name, "precision": self.spec.precision, **self.images.description}

    def encode_texts(self, texts: Sequence[str], truncate: bool = False) -> NDArray[np.float32]:
        """As `TextEncoder.encode`. The features of the last 1024 texts are cached."""
        with self._lock:
            cached = {text: self._cache.get((text, truncate)) for text in texts}
        missing = [text for text, feature in cached.items() if feature is None]
        encoded = dict(zip(missing, self.texts.encode(missing, truncate), strict=True)) if missing else {}
        features = {text: encoded[text] if feature is None else feature for text, feature in cached.items()}
        with self._lock:
            for text, feature in features.items():
                self._cache[text, truncate] = feature
                self._cache.move_to_end((text, truncate))
            while len(self._cache) > _CACHED_TEXTS:
                self._cache.popitem(last=False)
        return np.stack([features[text] for text in texts])

    def close(self) -> None:
        """Close the networks that `open` opened. If closing one fails, the other is still closed."""
        with ExitStack() as stack:
            for network in self._owned:
                stack.callback(network.close)

    def __enter__(self) -> Clip:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _run(network: Network, name: str, values: NDArray[Any], output: str, batch: int) -> NDArray[np.float32]:
    """The output for all rows, `batch` rows in each run. A fixed batch is filled up with copies of the last row."""
    fixed = network.inputs[0].shape[0] is not None
    parts = []
    for start in range(0, len(values), batch):
        part = values[start : start + batch]
        count = len(part)
        if fixed and count < batch:
            part = np.concatenate([part, np.repeat(part[-1:], batch - count, axis=0)])
        features = network.run({name: part}, [output])[0][:count]
        if not np.isfinite(features).all():
            raise ModelError(
                f"{network.name}: {output} contain values that are not finite; expected numbers; export it in FP32"
            )
        parts.append(features.astype(np.float32, copy=False))
    return np.concatenate(parts)


def _open_tokenizer(path: Path) -> Tokenizer:
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise MissingDependencyError(f"text prompts: {error}; run: {pip_install('clip')}") from error
    with _as_model_error(f"{path}: cannot be read as a tokenizer"):
        tokenizer = Tokenizer.from_file(str(path))
        # Rows are cut and padded here. The library's own settings can panic, or ask for more memory than there is,
        # which ends the process.
        tokenizer.no_truncation()
        tokenizer.no_padding()
    return tokenizer


@contextmanager
def _as_model_error(doing: str) -> Iterator[None]:
    """What the library raises as a `ModelError`: plain Exception, and panics of its Rust, which are no Exception."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:
        raise ModelError(f"{doing} ({error!s:.200}); make the folder again with fastsam-export clip") from error
