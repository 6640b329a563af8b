"""Generates `containers/metadata.json`: the options of `segment` as parameters of a Flex Template.

The fields are those of `ParameterMetadata` in Dataflow's API, version v1b3. Dataflow checks
patterns before it starts a launcher, so that a slip is told at once and not after minutes.
"""

import argparse
import json
import sys
from typing import Any

from pipelines.commands.segment import HELP, parser

REQUIRED = ("input", "model", "output")

# What pickers of files and folders offer, where a user fills in a form.
_PLACES = {
    "model": "GCS_READ_FOLDER",
    "output": "GCS_WRITE_FOLDER",
    "aoi": "GCS_READ_FILE",
    "zones": "GCS_READ_FILE",
}
_PLACE = "[a-z0-9]+://.+"
# What values look like where a type does not say it. Neither side looks around: RE2 cannot.
_PATTERNS = {
    "input": rf"({_PLACE}|\s*\[.+\]\s*)",
    "accelerator": "type:.+",
    "batch": "(auto|[1-9][0-9]*)",
    "halo": "[0-9]+",
    "memory": "[0-9]+([.][0-9]+)? ?[KMGTkmgt]?([Ii]?[Bb])?",
    "max_failures": "[0-9]+([.][0-9]+)?%?",
    "resize": "[1-9][0-9]*([xX][1-9][0-9]*)?",
    **dict.fromkeys(_PLACES, _PLACE),
}
# What is of no use where nobody waits for the command.
OF_PROCESS = ("help", "json", "stop_with_parent")
_NUMBERS = {int: "[1-9][0-9]*", float: "[0-9]+([.][0-9]+)?"}


def metadata() -> dict[str, Any]:
    """The whole document."""
    return {
        "name": "beamseg segment",
        "description": " ".join(HELP.split("\n\n")[0].split()),
        "parameters": [
            parameter(action) for action in parser()._actions if action.dest not in OF_PROCESS
        ],
    }


def parameter(action: argparse.Action) -> dict[str, Any]:
    """One option, as `ParameterMetadata` in JSON."""
    name = action.dest
    text = (action.help or "").replace("%%", "%")
    found: dict[str, Any] = {
        "name": name,
        "label": name.replace("_", " ").capitalize(),
        "helpText": text[0].upper() + text[1:] + ".",
        "isOptional": name not in REQUIRED,
        "paramType": _type_of(action),
    }
    pattern = _pattern_of(action)
    if pattern is not None:
        found["regexes"] = [f"^{pattern}$"]
    if action.default is not None:
        found["defaultValue"] = str(action.default).lower() if action.nargs == 0 else action.default
    return found


def _type_of(action: argparse.Action) -> str:
    """What a form offers; texts for numbers and choices, since forms fill in a first value else."""
    return "BOOLEAN" if action.nargs == 0 else _PLACES.get(action.dest, "TEXT")


def _pattern_of(action: argparse.Action) -> str | None:
    if action.nargs == 0:
        return "(true|false)"
    if action.choices is not None:
        return f"({'|'.join(action.choices)})"
    return _PATTERNS.get(action.dest) or next(
        (pattern for kind, pattern in _NUMBERS.items() if action.type is kind), None
    )


if __name__ == "__main__":
    sys.stdout.write(json.dumps(metadata(), indent=2, ensure_ascii=False) + "\n")
