"""Tar shards with images, by the conventions of WebDataset.

A sample is the members that follow each other and share a key: the path up to the first dot of the file's name. Its
images are the members whose ending is that of an image. Prompts are in `KEY.prompts.json`, or under the key "prompts"
of `KEY.json`.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from itertools import groupby

from ....documents import dump, parse
from ....errors import ImageError
from ....stages.reading.formats import readable_suffixes
from ..locations import stored_text
from .content import opened_shard
from .files import ListedFile
from .image import SourceImage

SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
_COMPRESSED = SUFFIXES[1:]
_PROMPTS, _JSON = "prompts.json", "json"
_LARGEST_JSON = 1 << 20


def is_shard(name: str) -> bool:
    """Whether a file is a tar shard, by its name.

    Example:
        >>> is_shard("train-000.tar"), is_shard("cat.jpg")
        (True, False)
    """
    return name.lower().endswith(SUFFIXES)


def key_of(name: str) -> tuple[str, str]:
    """Key and ending of a member.

    Example:
        >>> key_of("a.b/0001.left.jpg")
        ('a.b/0001', 'left.jpg')
    """
    folder, slash, file = name.rpartition("/")
    stem, _, ending = file.partition(".")
    return f"{folder}{slash}{stem}", ending


def shard_images(shard: ListedFile) -> Iterator[SourceImage]:
    """The images of a shard, in its order; it is read once. The id is SHARD/KEY; with several images of a sample, their
    endings are added.

    Raises:
        ImageError: it is no tar file, or it is damaged.

    Example:
        >>> [image.id for image in shard_images(ListedFile("train-000.tar", "train-000.tar", ""))]  # doctest: +SKIP
        ['train-000.tar/0001', 'train-000.tar/0002']
    """
    compressed = shard.name.lower().endswith(_COMPRESSED)
    with opened_shard(shard.location) as tar:
        members = ((member, *key_of(member.name), _prompts_in(tar, member)) for member in tar if member.isfile())
        for key, sample in groupby(members, key=lambda item: item[1]):
            listed = list(sample)
            prompts = next((text for *_, text in listed if text is not None), None)
            images = [(member, ending) for member, _, ending, _ in listed if _is_image(ending)]
            for member, ending in images:
                yield SourceImage(
                    id=stored_text(f"{shard.name}/{key}" + (f".{ending}" if len(images) > 1 else "")),
                    location=shard.location,
                    fingerprint=shard.fingerprint,
                    prompts=prompts,
                    member=stored_text(member.name),
                    offset=None if compressed else member.offset_data,
                    size=member.size,
                )


def _is_image(ending: str) -> bool:
    return f".{ending.lower().rpartition('.')[2]}" in readable_suffixes()


def _prompts_in(shard: tarfile.TarFile, member: tarfile.TarInfo) -> str | None:
    """The prompts that a member holds, as JSON."""
    _, ending = key_of(member.name)
    if ending not in (_PROMPTS, _JSON) or member.size > _LARGEST_JSON:
        return None
    file = shard.extractfile(member)
    if file is None:
        return None
    try:
        document = parse(file.read())
    except ValueError as error:
        if ending == _JSON:  # metadata of somebody else
            return None
        raise ImageError(f"{member.name}: is not JSON ({error}); expected a list of prompts") from error
    if ending == _JSON:
        document = document.get("prompts") if isinstance(document, dict) else None
    return None if document is None else dump(document)
