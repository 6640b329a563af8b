"""Generates `pipelines/cli/beam_options.json`, so that parsing needs no Beam."""

import argparse
import json
from pathlib import Path

PATH = Path(__file__).parents[1] / "pipelines" / "cli" / "beam_options.json"


def installed_options() -> dict[str, int]:
    """Options of the installed Beam by name: values each takes, -1 for several."""
    # Registers its options when it is imported, which Beam does only where it is named.
    import apache_beam.runners.dask.dask_runner  # noqa: F401
    from apache_beam.options.pipeline_options import PipelineOptions

    found: dict[str, int] = {}
    for kind in PipelineOptions.__subclasses__():
        if not kind.__module__.startswith("apache_beam."):
            continue
        parser = argparse.ArgumentParser(add_help=False, conflict_handler="resolve")
        kind._add_argparse_args(parser)  # type: ignore[arg-type]
        for action in parser._actions:
            values = 1 if action.nargs is None else 0 if action.nargs == 0 else -1
            found |= dict.fromkeys(action.option_strings, values)
    return dict(sorted(found.items()))


if __name__ == "__main__":
    PATH.write_text(json.dumps(installed_options(), indent=1) + "\n", "utf-8")
