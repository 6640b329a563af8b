"""Every error that beamseg raises on purpose, the codes of failures, and which errors pass."""

from __future__ import annotations

import errno
from enum import StrEnum
from typing import ClassVar


class FailureCode(StrEnum):
    """What is wrong with an image, mask or shard, as a word that programs group failures by.

    docs/failures.md says of each what it means and what helps; a test holds the two together.
    """

    BAD_GEOREFERENCE = "bad_georeference"
    BROKEN_LINK = "broken_link"
    CANNOT_OPEN = "cannot_open"
    CANNOT_READ = "cannot_read"
    CORRUPT_IMAGE = "corrupt_image"
    CORRUPT_RECORD = "corrupt_record"
    CORRUPT_SHARD = "corrupt_shard"
    DOES_NOT_FIT = "does_not_fit"
    EMPTY_FILE = "empty_file"
    INCOMPLETE = "incomplete"
    MASK_KIND = "mask_kind"
    MASK_SIZE = "mask_size"
    NAME_TOO_LONG = "name_too_long"
    NO_IMAGE = "no_image"
    NOT_AN_IMAGE = "not_an_image"
    NOT_FOUND = "not_found"
    NOT_TRUSTED = "not_trusted"
    NO_PERMISSION = "no_permission"
    NO_RANGES = "no_ranges"
    OTHER = "other"
    OUT_OF_RANGE = "out_of_range"
    SEVERAL_IMAGES = "several_images"
    SUBDATASETS = "subdatasets"
    TOO_LARGE = "too_large"
    TOO_MANY_PIXELS = "too_many_pixels"
    UNKNOWN_CLASS = "unknown_class"
    UNREADABLE = "unreadable"
    UNSUPPORTED = "unsupported"
    WRONG_BANDS = "wrong_bands"
    WRONG_DTYPE = "wrong_dtype"
    WRONG_GSD = "wrong_gsd"


class BeamsegError(Exception):
    """Root of all errors of beamseg; the text says what must hold, what was found, the remedy.

    Args:
        text: What is wrong, without the name of the input.
        code: Kind of the failure, if an image fails with this error; None for that of the class.
        name: Name of the input that is wrong, which `str` gives before the text.

    Attributes:
        default_code: Code of an error that is given none.

    >>> error = InputError("empty file", code=FailureCode.EMPTY_FILE, name="photos/a.jpg")
    >>> str(error), error.text, error.code.value
    ('photos/a.jpg: empty file', 'empty file', 'empty_file')
    """

    default_code: ClassVar[FailureCode] = FailureCode.OTHER

    def __init__(self, text: str = "", *, code: FailureCode | None = None, name: str = "") -> None:
        # Beam makes an error of a worker anew from this alone.
        super().__init__(f"{name}: {text}" if name else text)
        self.text, self.code, self.name = text, code or self.default_code, name


class ConfigurationError(BeamsegError, ValueError):
    """Options or a configuration file that cannot be carried out."""

    default_code = FailureCode.DOES_NOT_FIT


class ContractError(BeamsegError, ValueError):
    """A model contract that is malformed, or an input that does not fit it; names the field."""

    default_code = FailureCode.DOES_NOT_FIT


class InputError(BeamsegError, ValueError):
    """An image, mask or shard that cannot be used; all others are processed."""

    default_code = FailureCode.UNREADABLE


class TrainingError(BeamsegError, RuntimeError):
    """A training run that cannot go on."""


class ExportError(BeamsegError, RuntimeError):
    """A SavedModel that does not do what the network in memory does, or that may not be loaded."""


class GroundError(BeamsegError, ValueError):
    """A raster whose pixels have no ground area."""

    default_code = FailureCode.BAD_GEOREFERENCE


class TransientError(BeamsegError, RuntimeError):
    """A fault of the store, the network or memory that a later attempt may not meet."""


class DiskError(TransientError):
    """A disk of this machine that has no room, is read-only or gone; nothing is wrong with inputs.

    Somebody has to act before another attempt may succeed, so that none is made by itself.
    """


class DamagedError(TransientError):
    """A file of a run that is damaged; a later attempt writes it anew."""


class OutOfMemoryError(TransientError, MemoryError):
    """Memory of the model's device ran out; a smaller batch may fit."""


class CallTimeoutError(TransientError):
    """A call of a model that did not return in time; it may go on, so nothing is tried at once."""


_PERMANENT = (
    FileExistsError,
    FileNotFoundError,
    IsADirectoryError,
    NotADirectoryError,
    PermissionError,
)
_PERMANENT_ERRNO = {errno.ENAMETOOLONG, errno.EILSEQ, errno.ELOOP}
# Of a disk that is written, which does not get better by itself.
_DISK_ERRNO = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}


def is_transient(error: BaseException) -> bool:
    """Whether an error comes from the store, the network or memory, so that a retry may help.

    >>> is_transient(ConnectionResetError()), is_transient(FileNotFoundError(2, "gone"))
    (True, False)
    """
    if isinstance(error, TransientError | MemoryError):
        return True
    if isinstance(error, _PERMANENT):
        return False
    return isinstance(error, OSError) and error.errno not in _PERMANENT_ERRNO


# What helps where a file or folder cannot be used, whatever was to be done with it.
_REMEDIES = {
    errno.ENOENT: "check the path",
    errno.ENOTDIR: "a part of the path is no folder: check it",
    errno.EISDIR: "check the path, a file is needed there",
    errno.EEXIST: "a file is where a folder is needed: name another place, or remove it",
    errno.EACCES: "ask for the right to it, or name another place",
    errno.EPERM: "ask for the right to it, or name another place",
    errno.ELOOP: "links lead in a circle: name another place, or remove them",
    errno.ENAMETOOLONG: "give it a shorter name",
    errno.EMFILE: "raise the limit of open files (ulimit -n), then run the same command again",
    errno.ENFILE: "raise the limit of open files of this machine, then run the same command again",
    errno.ENOMEM: "free memory, then run the same command again",
    errno.EAGAIN: "raise the limit of processes (ulimit -u), then run the same command again",
}


def explained(error: OSError, name: str = "") -> str:
    """What the system says is wrong with a file, and what helps.

    Args:
        error: Error of the system.
        name: The file; empty for the one that the error names.

    >>> explained(NotADirectoryError(20, "Not a directory", "a.txt/b"))
    'a.txt/b: Not a directory: a part of the path is no folder: check it'
    """
    # What a store says has a remedy of its own.
    remedy = None if ": " in (error.strerror or "") else _REMEDIES.get(error.errno or 0)
    parts = (name or error.filename, error.strerror, remedy)
    return ": ".join(str(part) for part in parts if part) if error.strerror else str(error)


def counted(number: int, noun: str) -> str:
    """A number with its noun.

    >>> counted(1, "image"), counted(1200, "unit")
    ('1 image', '1,200 units')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def is_worth_waiting(error: BaseException) -> bool:
    """Whether the same action may succeed a little later, without anybody doing anything.

    >>> is_worth_waiting(TransientError("busy")), is_worth_waiting(DiskError("full"))
    (True, False)
    """
    is_of_disk = isinstance(error, OSError) and error.errno in _DISK_ERRNO
    return is_transient(error) and not is_of_disk and not isinstance(error, DiskError)
