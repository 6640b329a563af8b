"""Generates `containers/metadata.json`: the options of `segment` as parameters of a Flex Template.

The fields are those of `ParameterMetadata` in Dataflow's API, version v1b3. Dataflow checks
patterns before it starts a launcher, so that a mistake is reported at once and not after minutes.
"""

import json
from pathlib import Path
from typing import Any

from pipelines.cli.options import Option, options_of
from pipelines.commands import segment
from pipelines.segment.options import SegmentOptions

PATH = Path(__file__).parents[1] / "containers" / "metadata.json"
_NUMBERS = {int: "[1-9][0-9]*", float: "[0-9]+([.][0-9]+)?"}


def metadata() -> dict[str, Any]:
    """The whole document."""
    return {
        "name": "beamseg segment",
        "description": segment.__doc__.split("\n\n")[0],
        "parameters": [parameter(option) for option in options_of(SegmentOptions).values()],
    }


def parameter(option: Option) -> dict[str, Any]:
    """One option, as `ParameterMetadata` in JSON."""
    text = option.help_text.removesuffix(" (required)")
    found: dict[str, Any] = {
        "name": option.name,
        "label": option.name.replace("_", " ").capitalize(),
        "helpText": text[0].upper() + text[1:] + ".",
        "isOptional": option.example is None,
        # Numbers and choices are texts, because a form fills in a first value for other types.
        "paramType": "BOOLEAN" if option.is_flag else option.place,
    }
    pattern = _pattern_of(option)
    if pattern is not None:
        found["regexes"] = [f"^{pattern}$"]
    if option.is_flag:
        found["defaultValue"] = "false"
    elif option.default is not None:
        found["defaultValue"] = option.default
    return found


def _pattern_of(option: Option) -> str | None:
    if option.is_flag:
        return "(true|false)"
    if option.choices:
        return f"({'|'.join(option.choices)})"
    return option.pattern or next(
        (pattern for kind, pattern in _NUMBERS.items() if option.type is kind), None
    )


if __name__ == "__main__":
    PATH.write_text(json.dumps(metadata(), indent=2, ensure_ascii=False) + "\n", "utf-8")
