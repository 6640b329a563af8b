"""Values of settings within their limits."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from segmodel.errors import ConfigurationError


def one_of(name: str, value: str, known: Iterable[str]) -> None:
    """Refuse a word that is not known.

    Raises:
        ConfigurationError: Names the setting and what is known.
    """
    if value not in known:
        raise ConfigurationError(f"{name} must be one of {', '.join(known)}, got {value!r}")


def at_least(section: str, least: float, values: Mapping[str, float]) -> None:
    """Refuse numbers that are less than a limit, infinite or NaN.

    Raises:
        ConfigurationError: Names the setting.
    """
    for name, value in values.items():
        if not least <= value < math.inf:
            raise ConfigurationError(f"{section}.{name} must be at least {least}, got {value}")
