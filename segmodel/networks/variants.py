"""Variants of fully convolutional networks, and the precisions they compute in."""

from __future__ import annotations

from collections.abc import Iterable

from segmodel.errors import ConfigurationError

# The stride of the finest features that are scored.
VARIANTS = {"fcn-32s": 32, "fcn-16s": 16, "fcn-8s": 8, "fcn-4s": 4}

PRECISIONS = ("float32", "mixed_float16", "mixed_bfloat16")


def check_word(setting: str, word: str, known: Iterable[str]) -> None:
    """Refuse a word that a setting does not know.

    Args:
        setting: Name of the setting.
        word: Its value.
        known: Words that it takes.

    Raises:
        ConfigurationError: Names the setting and the words that it takes.
    """
    if word not in known:
        raise ConfigurationError(f"{setting} must be one of {', '.join(known)}, got {word!r}")
