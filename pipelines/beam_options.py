"""Generates `beam_options.json`, Beam's own options, so that parsing needs no Beam."""

import argparse
import json
from pathlib import Path


def installed_options() -> dict[str, bool]:
    """Options of the installed Beam: whether each takes a value, by name."""
    from apache_beam.options.pipeline_options import PipelineOptions

    found: dict[str, bool] = {}
    for kind in PipelineOptions.__subclasses__():
        if not kind.__module__.startswith("apache_beam."):
            continue
        parser = argparse.ArgumentParser(add_help=False, conflict_handler="resolve")
        kind._add_argparse_args(parser)  # type: ignore[arg-type]
        for action in parser._actions:
            found |= dict.fromkeys(action.option_strings, action.nargs != 0)
    return dict(sorted(found.items()))


if __name__ == "__main__":
    path = Path(__file__).with_suffix(".json")
    path.write_text(json.dumps(installed_options(), indent=1) + "\n", "utf-8")
