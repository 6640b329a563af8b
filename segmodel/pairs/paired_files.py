"""Image files and their masks: found in folders, paired by path, named and grouped."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from segmodel.errors import ConfigurationError, InputError
from segmodel.images.encoded import IMAGE_SUFFIXES

_MAX_NAMED = 10


@dataclass(frozen=True)
class FilePair:
    """An image file and its mask.

    Args:
        folder: Number of the folder that the image was found in.
        image: Path of the image.
        mask: Path of the mask.
        name: Name that no other image of all folders has.
        group: Group, such as a region, that is split as a whole; see `DataConfig.group`.
    """

    folder: int
    image: str
    mask: str
    name: str
    group: str


def pair_files(images: Sequence[str], masks: Sequence[str], group: str = "") -> list[FilePair]:
    """Images in folders and below, each with its mask, in order of folders and names.

    Args:
        images: Folders of images.
        masks: For each of them the folder of masks, which have the same path but for the suffix.
        group: Regular expression for groups, as in `DataConfig.group`; if empty, the images of a
            folder are a group.

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
    names = unique_names([(images[number], path) for number, path, _ in found])
    regions = unique_folder_names(images)
    return [
        FilePair(number, path, mask, name, match_group(path, group) if group else regions[number])
        for (number, path, mask), name in zip(found, names, strict=True)
    ]


def unique_names(files: Sequence[tuple[str, str]]) -> list[str]:
    """Names of files below folders, with as many last parts of the folders as tell files apart.

    Args:
        files: Folder and path of each file.

    >>> unique_names([("data/a", "data/a/x/1.jpg"), ("data/b", "data/b/1.jpg")])
    ['x/1.jpg', '1.jpg']
    >>> unique_names([("data/a", "data/a/1.jpg"), ("data/b", "data/b/1.jpg")])
    ['a/1.jpg', 'b/1.jpg']
    >>> unique_names([("/disk/a/images", "/disk/a/images/1.jpg"), ("/b", "/b/1.jpg")])
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


def unique_folder_names(folders: Sequence[str], min_parts: int = 2) -> list[str]:
    """The last parts of the paths of folders, as many as tell them apart.

    Args:
        folders: Paths of folders.
        min_parts: Parts of a path that a name has at least, where the path has them.

    >>> unique_folder_names(["/data/tile1/images", "/data/tile2/images/"])
    ['tile1/images', 'tile2/images']
    >>> unique_folder_names(["/data/a/train/images", "/data/b/train/images"])
    ['a/train/images', 'b/train/images']
    """
    parts = [_parts(folder) for folder in folders]
    count = min_parts
    while len({found[-count:] for found in parts}) < len(set(parts)):
        count += 1
    return [PurePosixPath(*found[-count:]).as_posix() for found in parts]


def match_group(path: str, group: str) -> str:
    r"""The part of a path that the only group of a regular expression matches.

    Args:
        path: Path of the image.
        group: Regular expression with one group.

    >>> match_group("data/tile1/images/7.jpg", r"(tile\d)")
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


def match_masks(
    images: Sequence[tuple[str, str]], masks: Sequence[tuple[str, str]], remedy: str
) -> list[int | None]:
    """Find the mask of each image: the one with the same path but for the suffix.

    Args:
        images: For each image, its path below the folder of images, and its name in messages.
        masks: The same for each mask.
        remedy: What to do if an image has several masks, for the message.

    Returns:
        The number of the mask of each image, or None where it has none.

    Raises:
        ConfigurationError: If two images differ by their suffix alone, or an image has two masks.

    >>> match_masks([("a/1.jpg", ""), ("2.jpg", "")], [("1.png", ""), ("a/1.png", "")], "")
    [1, None]
    """
    by_stem: dict[str, list[int]] = {}
    for number, (path, _) in enumerate(masks):
        by_stem.setdefault(without_suffix(path), []).append(number)
    matched: list[int | None] = []
    seen: dict[str, str] = {}
    for path, name in images:
        stem = without_suffix(path)
        if stem in seen:
            raise ConfigurationError(
                f"{seen[stem]} and {name} would have the same mask: rename one"
            )
        seen[stem] = name
        found = by_stem.get(stem, [])
        if len(found) > 1:
            names = " and ".join(masks[number][1] for number in found)
            raise ConfigurationError(f"{name} needs one mask, found {names}: {remedy}")
        matched.append(found[0] if found else None)
    return matched


def without_suffix(path: str) -> str:
    """A path without the suffix of the file.

    >>> without_suffix("a/1.old.jpg")
    'a/1.old'
    """
    return str(PurePosixPath(path).with_suffix(""))


def _paired(images: str, masks: str) -> Iterator[tuple[str, str]]:
    """Images of a folder in order of name, each with its mask."""
    of_masks, of_images = _find_images(masks, images), _find_images(images, masks)
    matched = match_masks(
        [(_below(images, path), path) for path in of_images],
        [(_below(masks, path), path) for path in of_masks],
        "remove all but one",
    )
    missing = [path for path, mask in zip(of_images, matched, strict=True) if mask is None]
    if missing:
        named = ", ".join(missing[:_MAX_NAMED])
        more = f" and {len(missing) - _MAX_NAMED} more" if len(missing) > _MAX_NAMED else ""
        raise InputError(
            f"no mask with the same path but for its suffix is in {masks} for {named}{more}: add "
            f"masks, or remove the images"
        )
    for path, mask in zip(of_images, matched, strict=True):
        if mask is not None:
            yield path, of_masks[mask]


def _find_images(folder: str, other: str) -> list[str]:
    """Image files of a folder and of what is below it, but for hidden ones.

    Where the other folder lies in this one, what is in it is of the other kind.

    Raises:
        ConfigurationError: If there is none.
        OSError: If a folder cannot be read.
    """
    if not os.path.isdir(folder):
        raise ConfigurationError(f"{folder} is not a folder that can be read")

    def fail(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError | NotADirectoryError):
            raise error

    left_out = os.path.realpath(other)
    if left_out == os.path.realpath(folder):
        left_out = ""
    found = []
    for path, folders, files in os.walk(folder, onerror=fail, followlinks=True):
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
