"""Images and masks to pack: listed, and matched by path."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePath, PurePosixPath

from pipelines.formats.shards import printable_name
from pipelines.inputs.exclusion import Exclusion
from pipelines.inputs.left_aside import LeftAside
from pipelines.inputs.listing import FoundFile, input_files, root_of
from pipelines.inputs.sidecars import Sidecars
from pipelines.rasters.header import with_others
from pipelines.run.plan import InputFile
from pipelines.storage import locations
from segmodel.errors import ConfigurationError
from segmodel.images.encoded import IMAGE_SUFFIXES
from segmodel.pairs.paired_files import match_masks, without_suffix


@dataclass(frozen=True)
class PackInput:
    """An image, and its mask if masks are packed."""

    image: InputFile
    mask: InputFile | None

    @property
    def name(self) -> str:
        """Path of the image below the folder that all images have in common.

        >>> PackInput(InputFile("/data/photos/a/1.jpg", "photos", "a/1.jpg", 9, "0"), None).name
        'a/1.jpg'
        """
        return self.image.key.partition("/")[2]


@dataclass(frozen=True)
class PackInputs:
    """Images and masks that were found.

    Args:
        items: Images with their masks, in order of patterns and names.
        left_aside: Files that are no images.
        unused_masks: Number of masks without an image.
    """

    items: tuple[PackInput, ...]
    left_aside: LeftAside
    unused_masks: int


def find_pack_inputs(
    images: Sequence[str], masks: Sequence[str], output: str, exclude: Sequence[str] = ()
) -> PackInputs:
    """Images of all patterns, each once, with their masks.

    Args:
        images: Files, folders or glob patterns of images.
        masks: Files, folders or glob patterns of masks, one for each entry of `images`; or none.
        output: Folder of the shards; what is in it is no input.
        exclude: Patterns of files that are left out, see `Exclusion`.

    Raises:
        ConfigurationError: If a pattern matches no image, an image has no mask or several, or two
            images cannot be told apart; names the files.
    """
    items: list[PackInput] = []
    seen: set[str] = set()
    exclusion, left, unused_masks = Exclusion(exclude), LeftAside(), 0
    sidecars = Sidecars()

    def files_in(pattern: str, folder: str, option: str) -> list[InputFile]:
        below = input_files(
            pattern, output, on_object=sidecars.note, leaves_out=exclusion.leaves_out
        )
        files = (f for f in below if not exclusion.leaves_out(f))
        found = _image_files(files, folder, left, f"{option} {pattern}")
        sidecars.note_beside(locations.checked(pattern))
        return [with_others(file, sidecars.masks_of(file)) for file in found]

    mask_folders = folders_of_roots(masks)
    for number, (pattern, folder) in enumerate(zip(images, folders_of_roots(images), strict=True)):
        found = files_in(pattern, folder, "--images")
        fresh = []
        for file in found:
            place = locations.canonical(file.uri)
            if place not in seen:
                fresh.append(file)
            seen.add(place)
        if not masks:
            items += [PackInput(file, None) for file in fresh]
            continue
        given = files_in(masks[number], mask_folders[number], "--masks")
        items += _with_masks(fresh, given, masks[number])
        stems = {without_suffix(file.name) for file in found}
        unused_masks += sum(without_suffix(file.name) not in stems for file in given)
    return PackInputs(tuple(items), left, unused_masks)


def folders_of_roots(patterns: Sequence[str]) -> list[str]:
    """A folder for the root of each pattern: its path from the one that all have in common.

    >>> folders_of_roots(["data/tile1/images/*.jpg", "data/tile2/images/*.jpg"])
    ['data/tile1/images', 'data/tile2/images']
    >>> folders_of_roots(["data/photos/*.jpg"])
    ['photos']
    """
    roots = [_absolute(root_of(locations.checked(pattern))) for pattern in patterns]
    parent = os.path.commonpath(roots) if roots else ""
    top = printable_name(os.path.basename(parent)) or "root"
    folders = [PurePath(top, os.path.relpath(root, parent)).as_posix() for root in roots]
    return [printable_name(folder) for folder in folders]


def _image_files(
    found: Iterable[FoundFile], folder: str, left: LeftAside, what: str
) -> list[InputFile]:
    """Image files among those that a pattern found; the others are added to what is left aside."""
    files = []
    for file in found:
        name = printable_name(file.name)
        if PurePosixPath(file.name).suffix.lower() in IMAGE_SUFFIXES:
            files.append(InputFile(file.uri, folder, name, file.size, file.version))
        else:
            left.add(f"{folder}/{name}")
    if not files:
        suffixes = ", ".join(sorted(IMAGE_SUFFIXES))
        raise ConfigurationError(
            f"{what} matches no image ({suffixes}): check the path, and quote patterns with *"
        )
    return files


def _absolute(root: str) -> str:
    """A root as a path in which places of stores and of this machine have nothing in common."""
    return f"/{root}" if locations.is_remote(root) else os.path.abspath(root)


def _with_masks(images: list[InputFile], masks: list[InputFile], pattern: str) -> list[PackInput]:
    matched = match_masks(
        [(image.name, image.key) for image in images],
        [(mask.name, mask.key) for mask in masks],
        "remove all but one, or name --masks by a pattern such as '*.png'",
    )
    missing = [image for image, mask in zip(images, matched, strict=True) if mask is None]
    if missing:
        more = f", and {len(missing) - 1} more have none" if len(missing) > 1 else ""
        raise ConfigurationError(
            f"{missing[0].key} has no mask {without_suffix(missing[0].name)}.* in {pattern}{more}: "
            f"add what is missing, or name fewer images"
        )
    numbers = (number for number in matched if number is not None)
    return [PackInput(image, masks[n]) for image, n in zip(images, numbers, strict=True)]
