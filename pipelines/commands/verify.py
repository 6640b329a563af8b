"""Check that a run is complete and that all it wrote is as it wrote it.

Reads every file that a commit record names and compares its size and SHA-256, and its rows of areas
with the record; adds up the records and compares areas.csv; checks the seals of run.json, plan,
records and summary.json, and what else the end of a run wrote; and looks for units that are not
finished and for files that no record names. Needs neither the inputs nor the model. Not for a run
that is going on.

Of a pack it checks the shards in the same way, and pack.json. Of layers of the run it checks what
their commit records name.

With --inputs, it also reads the inputs again, and compares them with what the label maps were made
from: encoded images as they are in files and shards, scenes as they are decoded. So it finds an
input that was replaced by another one of the same size and time. A copy that was put back is the
same input, whatever its time. If inputs have relative paths, run it in the folder of `segment`.

`beamseg segment` by itself makes a damaged plan and damaged tables anew, and repeats work units
whose commit records are damaged and whose files are missing or have another size. With
--invalidate, it also repeats those whose files have the right size and other bytes, because the
commit records of such units are removed; together with --inputs, also those whose inputs have
changed.

Examples:
  beamseg verify runs/may                 # after a copy, or before the scratch disk is wiped
  beamseg verify runs/may --inputs        # are the label maps those of these inputs?
  beamseg verify runs/may --invalidate    # something is damaged: repeat its units,
  beamseg segment --input scenes/ --model models/land --output runs/may

exit status:
    0  complete, and all files are as recorded
    2  usage error, or the folder is no run
    4  the run is incomplete, or a file is missing, damaged or unknown; with --inputs, or an input
       is missing, unreadable or another one
"""

import sys
from collections.abc import Sequence

from pipelines.cli.exit_status import ExitStatus
from pipelines.cli.parser import Parser, parse
from segmodel.errors import ConfigurationError, counted
from segmodel.escaping import on_one_line

FINDINGS_SHOWN = 20
_UNITS = ("bytes", "kB", "MB", "GB", "TB", "PB")


def parser() -> Parser:
    """The command's parser."""
    command = Parser(prog="beamseg verify", doc=__doc__)
    command.add_argument("run", metavar="RUN", help="--output of segment or of pack")
    command.add_argument(
        "--invalidate",
        action="store_true",
        help="remove the commit records of units with missing or damaged files, so that the next "
        "segment repeats these units; with --inputs, also of units whose inputs have changed",
    )
    command.add_argument(
        "--inputs",
        action="store_true",
        help="read the inputs again, and compare them with what was labelled",
    )
    return command


def run(arguments: Sequence[str]) -> int:
    """Print what is not as recorded, and a summary; returns the exit status."""
    parsed, _ = parse(parser(), arguments, with_beam=False)

    from pipelines.datasets.verify_pack import is_pack, verify_pack
    from pipelines.layers.verify_layers import verify_layers
    from pipelines.results.verify import verify

    findings = 0

    def print_finding(finding: object) -> None:
        nonlocal findings
        findings += 1
        if findings <= FINDINGS_SHOWN:
            print(on_one_line(str(finding)))

    of_pack, of_layers = is_pack(parsed.run), False
    if not of_pack:
        verdict = verify(parsed.run, print_finding, parsed.invalidate, parsed.inputs)
        layers = verify_layers(parsed.run, print_finding, parsed.invalidate)
        of_layers, verdict = verdict.is_good, verdict + layers
    elif parsed.inputs:
        raise ConfigurationError(
            "--inputs is for runs, as a pack has no checksums of its images: leave it out"
        )
    else:
        verdict = verify_pack(parsed.run, print_finding, parsed.invalidate)
    if findings > FINDINGS_SHOWN:
        print(f"and {findings - FINDINGS_SHOWN} more")
    units, files = counted(verdict.units, "unit"), counted(verdict.files, "file")
    checked = f"{units}, {files}, {amount(verdict.size)}"
    if verdict.without_inputs:
        units = counted(verdict.without_inputs, "unit")
        print(f"{units} without checksums of inputs, or with inputs that are gone: not compared")
    if parsed.inputs:
        checked += f", {counted(verdict.inputs, 'input')}"
    if verdict.is_good:
        print(f"{checked}: all as recorded")
        return ExitStatus.COMPLETE
    print(f"{checked}: {verdict.unfinished} not finished, {verdict.faults} not as recorded")
    command = "beamseg pack" if of_pack else "beamseg segment"
    command = "beamseg layers" if of_layers else command
    print(
        on_one_line(
            f"{parsed.run} is not as recorded: give the same `{command}` again, after "
            f"`beamseg verify --invalidate` if files are damaged"
        ),
        file=sys.stderr,
    )
    return ExitStatus.INCOMPLETE


def amount(size: int) -> str:
    """Bytes for a person.

    >>> amount(999), amount(1234), amount(1_250_000_000)
    ('999 bytes', '1.2 kB', '1.2 GB')
    """
    step = min((len(str(size)) - 1) // 3, len(_UNITS) - 1)
    return counted(size, "byte") if step == 0 else f"{size / 1000**step:.1f} {_UNITS[step]}"
