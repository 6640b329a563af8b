"""Preprocessing as a chain of elementwise steps, as a TOML file states it."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from segmodel.errors import ConfigurationError

# One number for all bands, or one for each.
Values = tuple[float, ...]

# Steps without numbers; TOML has them as words.
FUNCTIONS: dict[str, Callable[[tf.Tensor], tf.Tensor]] = {
    "log": tf.math.log,
    "log1p": tf.math.log1p,
    "log2": lambda values: tf.math.log(values) / np.log(2.0),
    "log10": lambda values: tf.math.log(values) / np.log(10.0),
    "exp": tf.math.exp,
    "sqrt": tf.math.sqrt,
    "square": tf.math.square,
    "sigmoid": tf.math.sigmoid,
    "tanh": tf.math.tanh,
    "round": tf.math.round,
}
# Steps with one number, or one for each band; TOML has them as tables of one key.
ARITHMETIC: dict[str, Callable[[tf.Tensor, tf.Tensor], tf.Tensor]] = {
    "scale": lambda values, number: values * number,
    "offset": lambda values, number: values + number,
    "mean": lambda values, number: values - number,
    "std": lambda values, number: values / number,
    "power": tf.math.pow,
}
CLIP = "clip"
# What others call our steps.
_ELSEWHERE = {
    **{"multiply": "scale", "add": "offset", "subtract": "mean", "divide": "std", "ln": "log"},
    **{"logistic": "sigmoid", "clamp": CLIP, "min": CLIP, "max": CLIP, "pow": "power"},
    **{"standard_deviation": "std", "stddev": "std", "normalize": "mean and std"},
}


@dataclass(frozen=True)
class Step:
    """One elementwise step.

    Args:
        name: A key of `FUNCTIONS` or `ARITHMETIC`, or `CLIP`.
        numbers: For each number that the step takes, one value for all bands or one for each.
    """

    name: str
    numbers: tuple[Values, ...] = ()

    def apply(self, values: tf.Tensor) -> tf.Tensor:
        """The step on `(..., bands)` values of a float type."""
        if self.name in FUNCTIONS:
            return FUNCTIONS[self.name](values)
        numbers = [tf.constant(number, values.dtype) for number in self.numbers]
        if self.name == CLIP:
            return tf.minimum(tf.maximum(values, numbers[0]), numbers[1])
        return ARITHMETIC[self.name](values, *numbers)

    def __str__(self) -> str:
        return self.name


def apply_steps(steps: Sequence[Step], values: tf.Tensor) -> tf.Tensor:
    """`(..., bands)` values after all steps, in their order."""
    for step in steps:
        values = step.apply(values)
    return values


def parse_steps(entries: Any) -> tuple[Step, ...]:
    """The steps in a list of words and tables, such as `["log", {mean = 2.0}, {std = [1, 3]}]`.

    Args:
        entries: Parsed TOML, or the steps that were made of it.

    Raises:
        ValueError: If a step is not known, or its numbers cannot be; says which step.

    >>> parse_steps([{"scale": 0.5}, "log", {"clip": [0, [1, 2]]}])[2].numbers
    ((0.0,), (1.0, 2.0))
    """
    if not isinstance(entries, list | tuple):
        raise ValueError(f"must be a list of steps, got {entries!r}")
    return tuple(_parse_step(number, entry) for number, entry in enumerate(entries, 1))


def _parse_step(number: int, entry: Any) -> Step:
    if isinstance(entry, Step):
        return entry
    if isinstance(entry, str):
        if entry in FUNCTIONS:
            return Step(entry)
        raise ValueError(f"step {number}: {_unknown(entry)}")
    if not isinstance(entry, dict) or len(entry) != 1:
        raise ValueError(
            f'step {number} must be a word such as "log", or a table of one key such as '
            f"{{scale = 0.005}}, got {entry!r}"
        )
    ((name, given),) = entry.items()
    if name == CLIP:
        if not isinstance(given, list) or len(given) != 2:
            raise ValueError(
                f"step {number}: clip must be two entries, the least and the greatest value, "
                f"each one number or a list of one for each band, got {given!r}"
            )
        low, high = (_numbers(number, name, one) for one in given)
        if len({1, len(low), len(high)}) <= 2 and np.any(np.greater(low, high)):
            raise ValueError(f"step {number}: clip has a least value above its greatest: {given}")
        return Step(CLIP, (low, high))
    if name in ARITHMETIC:
        return Step(name, (_numbers(number, name, given),))
    raise ValueError(f"step {number}: {_unknown(name)}")


def _unknown(name: str) -> str:
    if name in (*ARITHMETIC, CLIP):
        return f"{name} needs numbers: write {{{name} = ...}}"
    if name in FUNCTIONS:
        return f'{name} takes no number: write "{name}"'
    known = ", ".join((*ARITHMETIC, CLIP, *FUNCTIONS))
    meant = f"did you mean {_ELSEWHERE[name]}?" if name in _ELSEWHERE else f"known: {known}"
    return f"unknown step {name}: {meant}"


def _numbers(step: int, name: str, given: Any) -> Values:
    numbers = given if isinstance(given, list) else [given]
    for number in numbers:
        if not _is_number(number) or (name != CLIP and abs(number) == math.inf):
            raise ValueError(f"step {step}: {name} must be numbers, got {repr(number)[:40]}")
        if name == "std" and number == 0:
            raise ValueError(f"step {step}: std divides by its number, which must not be 0")
    if not numbers:
        raise ValueError(f"step {step}: {name} is an empty list")
    return tuple(map(float, numbers))


def _is_number(value: Any) -> bool:
    """Whether a value of a TOML file is a number that a float can hold."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return value in (math.inf, -math.inf) or abs(value) <= sys.float_info.max


def check_steps(
    steps: Sequence[Step], bands: Sequence[str], values: Sequence[tuple[str, Any]]
) -> None:
    """Refuse steps that do not fit the bands, or that make no numbers of values that will come.

    Args:
        steps: Steps in their order.
        bands: Names of the bands that they are applied to.
        values: What raw values are, for errors, and one for all bands or `(bands,)` of them.

    Raises:
        ConfigurationError: Names the step, the band and the value.
    """
    for place, step in enumerate(steps, 1):
        for numbers in step.numbers:
            if len(numbers) not in (1, len(bands)):
                raise ConfigurationError(
                    f"input.preprocessing step {place}: {step} needs one number, or one for each "
                    f"of {len(bands)} bands, got {len(numbers)}"
                )
    for what, raw in values:
        _check_value(steps, bands, what, np.broadcast_to(np.float32(raw), len(bands)))


def _check_value(steps: Sequence[Step], bands: Sequence[str], what: str, raw: np.ndarray) -> None:
    chain = [tf.constant(raw)]
    for step in steps:
        chain.append(step.apply(chain[-1]))
    wrong = np.flatnonzero(~np.isfinite(chain[-1].numpy()))
    if not wrong.size:
        return
    band = wrong[0]
    place = next(n for n, values in enumerate(chain) if not np.isfinite(values.numpy()[band]))
    raise ConfigurationError(
        f"input.preprocessing step {place}: {steps[place - 1]} gives {chain[place].numpy()[band]} "
        f"for {raw[band]:g}, {what}, in band {bands[band]}: put {{clip = [...]}} before it"
    )
