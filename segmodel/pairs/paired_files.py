"""Image files and their masks: found in folders, paired by path, named and grouped."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from segmodel.errors import ConfigurationError, InputError
from segmodel.images.encoded import IMAGE_SUFFIXES

_MOST_NAMED = 10


@dataclass(frozen=True)
class PairedFiles:
    """An image file and its mask.

    Args:
        folder: Number of the folder that it was found in.
        image: Path.
        mask: Path.
        name: Unique among the files of all folders.
        group: Region; see `DataConfig.group`.
    """

    folder: int
    image: str
    mask: str
    name: str
    group: str


def find_pairs(images: Sequence[str], masks: Sequence[str], group: str = "") -> list[PairedFiles]:
    """Images of folders, with what is below them, and their masks, in order of folders and names.

    Args:
        images: Folders.
        masks: For each, the folder where masks have the same path without its suffix.
        group: As in `DataConfig.group`.

    Raises:
        ConfigurationError: If a folder is not there or holds no image, two images are told apart by
            their suffix alone, an image has two masks, or the expression matches no part of a path.
        InputError: If images have no mask; names them.
    """
    found = [
        (number, path, mask)
        for number, folders in enumerate(zip(images, masks, strict=True))
        for path, mask in _paired(*folders)
    ]
    names = short_names([(images[number], path) for number, path, _ in found])
    regions = folder_names(images)
    return [
        PairedFiles(number, path, mask, name, group_of(path, group) if group else regions[number])
        for (number, path, mask), name in zip(found, names, strict=True)
    ]


def short_names(files: Sequence[tuple[str, str]]) -> list[str]:
    """Names of files below folders, with as many last parts of the folders as tell files apart.

    Args:
        files: For each, its folder and its path.

    >>> short_names([("data/a", "data/a/x/1.jpg"), ("data/b", "data/b/1.jpg")])
    ['x/1.jpg', '1.jpg']
    >>> short_names([("data/a", "data/a/1.jpg"), ("data/b", "data/b/1.jpg")])
    ['a/1.jpg', 'b/1.jpg']
    >>> short_names([("/disk/a/images", "/disk/a/images/1.jpg"), ("/b", "/b/1.jpg")])
    ['images/1.jpg', 'b/1.jpg']
    """
    parts = [_parts(folder) for folder, _ in files]
    below = [_below(folder, path) for folder, path in files]
    different, count, names = len({os.path.abspath(path) for _, path in files}), 0, below
    while len(set(names)) < different:
        count += 1
        names = [
            PurePosixPath(*found[-count:], name).as_posix()
            for found, name in zip(parts, below, strict=True)
        ]
    return names


def folder_names(folders: Sequence[str]) -> list[str]:
    """The last two parts of the paths of folders, or as many as tell them apart.

    >>> folder_names(["/data/tile1/images", "/data/tile2/images/"])
    ['tile1/images', 'tile2/images']
    >>> folder_names(["/data/a/train/images", "/data/b/train/images"])
    ['a/train/images', 'b/train/images']
    """
    parts = [_parts(folder) for folder in folders]
    count = 2
    while len({found[-count:] for found in parts}) < len(set(parts)):
        count += 1
    return [PurePosixPath(*found[-count:]).as_posix() for found in parts]


def group_of(path: str, group: str) -> str:
    r"""What the only group of a regular expression matches in a path.

    >>> group_of("data/tile1/images/7.jpg", r"(tile\d)")
    'tile1'

    Raises:
        ConfigurationError: If it matches nothing; names the path.
    """
    found = re.search(group, Path(path).as_posix())
    if found is None or found[1] is None:
        raise ConfigurationError(
            f"data.group {group!r} matches no part of {path}: every image needs a group"
        )
    return found[1]


def _parts(folder: str) -> tuple[str, ...]:
    """Parts of the whole path of a folder, without the root."""
    return Path(os.path.abspath(folder)).parts[1:]


def _below(folder: str, path: str) -> str:
    return Path(os.path.relpath(path, folder)).as_posix()


def _paired(images: str, masks: str) -> Iterator[tuple[str, str]]:
    """Images of a folder in order of name, each with its mask."""
    by_stem: dict[str, list[str]] = {}
    for path in _listed(masks, images):
        by_stem.setdefault(_stem(masks, path), []).append(path)
    missing, seen = [], dict[str, str]()
    for path in _listed(images, masks):
        stem = _stem(images, path)
        if stem in seen:
            raise ConfigurationError(
                f"{seen[stem]} and {path} would have the same mask: rename one"
            )
        seen[stem] = path
        found = by_stem.get(stem, [])
        if len(found) > 1:
            raise ConfigurationError(
                f"{path} needs one mask, found {' and '.join(found)}: remove all but one"
            )
        if found:
            yield path, found[0]
        else:
            missing.append(path)
    if missing:
        shown = ", ".join(missing[:_MOST_NAMED])
        more = f" and {len(missing) - _MOST_NAMED} more" if len(missing) > _MOST_NAMED else ""
        raise InputError(
            f"no mask with the same path but for its suffix is in {masks} for {shown}{more}: add "
            f"masks, or remove the images"
        )


def _listed(folder: str, other: str) -> list[str]:
    """Image files of a folder and of what is below it, but for hidden ones.

    Where the other folder lies in this one, what is in it is of the other kind.

    Raises:
        ConfigurationError: If there is none.
    """
    if not os.path.isdir(folder):
        raise ConfigurationError(f"{folder} is not a folder that can be read")
    left_out = os.path.realpath(other)
    if left_out == os.path.realpath(folder):
        left_out = ""
    found = []
    for path, folders, files in os.walk(folder, followlinks=True):
        folders[:] = [
            name
            for name in folders
            if name[0] != "." and os.path.realpath(os.path.join(path, name)) != left_out
        ]
        found += [
            os.path.join(path, name)
            for name in files
            if name[0] != "." and PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES
        ]
    if not found:
        suffixes = ", ".join(sorted(IMAGE_SUFFIXES))
        raise ConfigurationError(f"{folder} holds no image ({suffixes})")
    return sorted(found, key=lambda path: _below(folder, path))


def _stem(folder: str, path: str) -> str:
    return str(PurePosixPath(_below(folder, path)).with_suffix(""))
