"""Names that are one name on a disk: of case and of Unicode, file systems do not tell all apart."""

import os
import unicodedata
from collections.abc import Callable
from uuid import uuid4

Fold = Callable[[str], str]


def _upper(name: str) -> str:
    """Letter by letter, as exFAT and NTFS have it: a sharp s has no capital of one letter.

    >>> _upper("straße.jpg")
    'STRAßE.JPG'
    """
    return "".join(big if len(big := letter.upper()) == 1 else letter for letter in name)


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


# What names are told apart by, and how to write both alike; of the first two at most one applies.
_FOLDS: tuple[tuple[str, str, Fold], ...] = (
    ("ß", "ss", str.casefold),
    ("a", "A", _upper),
    ("\u00e9", "e\u0301", _composed),
)


def fold_of(folder: str) -> Fold | None:
    """How names are written alike that are one name in a folder on this machine.

    Tried out with files that are removed at once.

    Args:
        folder: Folder that is there and may be written.

    Returns:
        A function of names, or None where all names are told apart.
    """
    folds = [fold for one, other, fold in _FOLDS if _is_one(folder, one, other)]
    if not folds:
        return None

    def folded(name: str) -> str:
        # Twice: what is composed may have a capital, and capitals may be composed.
        for fold in (*folds, *folds):
            name = fold(name)
        return name

    return folded


def _is_one(folder: str, name: str, other: str) -> bool:
    start = os.path.join(folder, uuid4().hex)
    try:
        with open(f"{start}{name}", "xb"):
            return os.path.exists(f"{start}{other}")
    except (OSError, UnicodeEncodeError):
        # The disk, or the language of the process, has no such names.
        return False
    finally:
        if os.path.exists(f"{start}{name}"):
            os.unlink(f"{start}{name}")
