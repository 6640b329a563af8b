"""Command lines: ours strict, Beam's passed on, and nothing heavy imported to say no."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.cli.parser import each_value, parse
from pipelines.commands import main
from pipelines.commands.segment import parser
from segmodel.errors import ConfigurationError, ContractError, GroundError, TransientError
from tests import forked

ROOT = Path(__file__).parents[3]
NEEDED = ["--input", "a", "--model", "m", "--output", "o"]
HEAVY = ("apache_beam", "tensorflow", "rasterio", "numpy", "pyproj", "pyarrow", "PIL")


def parsed(*words: str):
    return parse(parser(), [*NEEDED, *words], with_beam=True)


@pytest.mark.parametrize("name", ["max_failures", "pixel_size", "limit"])
@pytest.mark.parametrize("joined", [True, False])
def test_options_are_known_with_underscores_and_with_hyphens(name, joined):
    for spelling in (name, name.replace("_", "-")):
        words = [f"--{spelling}=2"] if joined else [f"--{spelling}", "2"]
        namespace, spelled = parsed(*words)
        assert str(getattr(namespace, name)).rstrip(".0") == "2"
        assert spelled[len(NEEDED)].partition("=")[0] == f"--{name}"


def test_flags_are_known_with_underscores_and_with_hyphens():
    for spelling in ("--retry_failures", "--retry-failures"):
        namespace, spelled = parsed(spelling)
        assert namespace.retry_failures is True
        assert spelled[-1] == "--retry_failures"


def test_values_are_not_respelled():
    namespace, spelled = parsed("--output=my-run--now", "--input", "a-b/c-d.jpg")
    assert namespace.output == "my-run--now"
    assert namespace.input == ["a", "a-b/c-d.jpg"]
    assert spelled[-3:] == ["--output=my-run--now", "--input", "a-b/c-d.jpg"]


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("--tile_sise", "--window"),
        ("--tile-size", "--window"),
        ("--max_failure", "--max_failures"),
        ("--max-failure", "--max_failures"),
        ("--overlaps", "--overlap"),
        ("--padding", "--halo"),
        ("--batch_size", "--batch"),
        ("--inputs", "--input"),
        ("--out", "--output"),
        ("--runer", "--runner"),
        ("--direct-num-workers", "--direct_num_workers"),
        ("-model", "--model"),
        ("--Window", "--window"),
    ],
)
def test_an_unknown_option_suggests_the_one_that_was_meant(word, meant):
    with pytest.raises(ConfigurationError, match=f"unknown option {word}: did you mean {meant}\\?"):
        parsed(f"{word}=3")


def test_an_unknown_option_like_no_other_points_to_the_help():
    with pytest.raises(ConfigurationError, match="unknown option --zzzzqqq: see --help"):
        parsed("--zzzzqqq", "3")


@pytest.mark.parametrize("word", ["--inp", "--mod", "--max_f", "--wind", "--retry", "--conf"])
def test_abbreviations_are_refused(word):
    with pytest.raises(ConfigurationError, match=f"unknown option {word}"):
        parsed(word, "x")


FLAGS = [action.option_strings[0] for action in parser()._actions if action.nargs == 0][1:]


def test_segment_has_flags():
    assert {"--check_seams", "--confidence", "--overwrite", "--retry_failures"} <= set(FLAGS)


@pytest.mark.parametrize("flag", FLAGS)
@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], False),
        ([""], True),
        (["=true"], True),
        (["=True"], True),
        (["=false"], False),
        (["=False"], False),
        (["=true", "=false"], False),
        (["", "=false"], False),
        (["=false", ""], True),
        (["=false", "=true"], True),
    ],
)
def test_a_flag_may_say_true_or_false_and_the_last_one_wins(flag, values, expected):
    namespace, spelled = parsed(*(flag + value for value in values))
    assert getattr(namespace, flag[2:]) is expected
    assert set(spelled[len(NEEDED) :]) == ({flag} if expected else set())


def test_a_flag_with_hyphens_may_say_true_too():
    namespace, spelled = parsed("--retry-failures=true")
    assert namespace.retry_failures is True
    assert spelled[-1] == "--retry_failures"


@pytest.mark.parametrize("flag", [*FLAGS, "--no_wait_until_finish"])
@pytest.mark.parametrize("value", ["", "yes", "1", "truely"])
def test_a_flag_has_no_other_value(flag, value):
    with pytest.raises(
        ConfigurationError,
        match=f"^{flag} is a flag: write {flag}, {flag}=true or {flag}=false, got '{value}'$",
    ):
        parsed(f"{flag}={value}")


def test_flags_of_beam_may_say_true_or_false_too():
    assert parsed("--no_wait_until_finish=true", "--streaming=false")[1] == [
        *NEEDED,
        "--no_wait_until_finish",
    ]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["a, b.jpg", "c"], ("a, b.jpg", "c")),
        (['["a, b.jpg","c"]', "d"], ("a, b.jpg", "c", "d")),
        (['\n[ "gs://maps/ä.tif" ]\n'], ("gs://maps/ä.tif",)),
        (["[ab]*.jpg", "[1]", 'a["]b'], ("[ab]*.jpg", "[1]", 'a["]b')),
    ],
)
def test_several_values_may_come_as_one_json_list(values, expected):
    assert each_value("--input", values) == expected


@pytest.mark.parametrize("value", ["[]", '["a", b]', '["a", 1]', '["a", ""]', '["a"', '["a"]*.jpg'])
def test_what_begins_as_a_json_list_has_to_be_one_of_texts(value):
    with pytest.raises(ConfigurationError, match=r"^--input begins as a JSON list, ") as no:
        each_value("--input", ["fine.jpg", value])
    assert repr(value) in str(no.value)


@pytest.mark.parametrize(
    "words",
    [
        ["--runner=PrismRunner"],
        ["--runner", "PrismRunner"],
        ["--streaming"],
        ["--save_main_session", "--region", "europe-west1"],
        ["--labels=team=maps", "--labels", "env=test"],
        ["--parallelism=-1"],
        ["--parallelism", "-1"],
    ],
)
def test_options_of_beam_pass_with_their_values(words):
    namespace, spelled = parsed(*words)
    assert namespace.output == "o"
    assert spelled == [*NEEDED, *words]


def test_options_of_beam_are_refused_where_no_pipeline_runs():
    with pytest.raises(ConfigurationError, match="unknown option --runner"):
        parse(parser(), ["--runner", "PrismRunner"], with_beam=False)


@pytest.mark.parametrize(
    "words",
    [
        ["b.jpg"],
        ["--streaming", "b.jpg"],
        ["--runner=PrismRunner", "b.jpg"],
        ["--input", "a.jpg", "b.jpg", "--runner", "PrismRunner"],
    ],
)
def test_a_stray_word_is_refused_with_the_reason(words):
    with pytest.raises(ConfigurationError, match=r"unexpected word 'b.jpg'.*need quotes"):
        parsed(*words)


@pytest.mark.parametrize(
    "words",
    [
        ["--runner", "PrismRunner", "--input", "a.jpg", "b.jpg"],
        ["--runner", "PrismRunner", "b.jpg"],
    ],
)
def test_images_of_an_unquoted_pattern_are_not_taken_for_values_of_beam(words):
    with pytest.raises(ConfigurationError, match=r"b.jpg|expected|value"):
        parsed(*words)


def test_an_option_without_its_value_is_named():
    with pytest.raises(ConfigurationError, match="--window: expected one argument"):
        parsed("--window")


def test_unknown_commands_suggest_the_nearest():
    with pytest.raises(ConfigurationError, match="unknown command 'segmnt': did you mean segment"):
        main.dispatch(["segmnt"])
    with pytest.raises(ConfigurationError, match="unknown command 'qqq': commands: segment, pack"):
        main.dispatch(["qqq"])


@pytest.mark.parametrize("words", [["--help"], ["--version"]])
def test_help_and_version_end_well(words, capsys):
    assert main.dispatch(words) == 0
    assert "beamseg" in capsys.readouterr().out


def test_without_a_command_all_are_named():
    with pytest.raises(ConfigurationError, match=r"name a command: segment, pack, .*--help"):
        main.dispatch([])


@pytest.fixture
def _no_signals(monkeypatch):
    monkeypatch.setattr("pipelines.cli.process.end_at_signals", lambda: None)


@pytest.mark.usefixtures("_no_signals")
@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ConfigurationError("--window is odd"), 2),
        (ContractError("bands: 3"), 2),
        (GroundError("a plain local system"), 2),
        (TransientError("out of memory"), 4),
        (SystemExit(0), 0),
        (SystemExit(None), 0),
        (SystemExit(2), 2),
    ],
)
def test_errors_become_exit_statuses(error, status, capsys):
    def command(arguments):
        raise error

    assert main.guarded(command, []) == status
    expected = "" if isinstance(error, SystemExit) else f"beamseg: {error}\n"
    assert capsys.readouterr().err == expected


@pytest.mark.usefixtures("_no_signals")
@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (
            MemoryError(),
            4,
            "out of memory: free some, or lower --memory, then run the same command again",
        ),
        (
            RuntimeError("can't start new thread"),
            4,
            "no thread can be started: raise the limit of processes (ulimit -u), then run the same "
            "command again",
        ),
        (
            NotADirectoryError(20, "Not a directory", "a.txt/run"),
            2,
            "a.txt/run: Not a directory: a part of the path is no folder: check it",
        ),
        (
            PermissionError(13, "the store refuses access (403): check the role", "gs://a"),
            2,
            "gs://a: the store refuses access (403): check the role",
        ),
        (ConfigurationError("a\nb \x1b[31m is a file"), 2, r"a\nb \x1b[31m is a file"),
    ],
)
def test_an_error_of_the_system_is_one_line_with_its_remedy(error, status, said, capsys):
    def command(arguments):
        raise error

    assert main.guarded(command, []) == status
    assert capsys.readouterr().err == f"beamseg: {said}\n"


@pytest.mark.usefixtures("_no_signals")
def test_of_what_is_logged_only_our_own_messages_are_printed():
    program = (
        "import logging, pipelines.commands.main as main\n"
        "def command(arguments):\n"
        "    for name in ('rasterio._env', None, 'apache_beam.io', 'beamseg'):\n"
        "        logging.getLogger(name).warning('of %s', name)\n"
        "    return 0\n"
        "main.guarded(command, [])"
    )
    done = forked.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == "WARNING beamseg: of beamseg\n"


def test_names_write_no_lines_of_their_own_and_no_controls():
    script = """
import logging, sys
from pipelines.commands.main import guarded
from segmodel.errors import InputError
name = "a\\nbeamseg: complete\\x1b[2J\\u202e\\udce9.tif"
def command(arguments):
    logging.getLogger("beamseg").warning("%s: cut", name)
    print(name)
    sys.stderr.write("\\r 5%")
    raise InputError(f"{name}: cut")
guarded(command, [])
"""
    run = forked.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT)

    shown = r"a\nbeamseg: complete\x1b[2J\u202e\udce9.tif"
    assert run.stdout == shown.replace(r"\n", "\n") + "\n"
    assert run.stderr == (f"WARNING beamseg: {shown}: cut\n\n 5%beamseg: {shown}: cut\n")


def test_what_libraries_say_of_addresses_is_printed_without_credentials():
    script = """
from pipelines.commands.main import guarded
def command(arguments):
    print("403 for https://me:hidden@a.org/b.tif?sig=hidden")
    raise KeyError("/vsicurl/http://me:hidden@a.org/b.tif")
guarded(command, [])
"""
    run = forked.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT)

    assert run.stdout == "403 for https://a.org/b.tif\n"
    assert "KeyError: '/vsicurl/http://a.org/b.tif'" in run.stderr
    assert "hidden" not in run.stdout + run.stderr.replace('me:hidden@a.org/b.tif?sig=hidden")', "")


def test_an_error_that_nobody_foresaw_keeps_its_traceback():
    def command(arguments):
        raise KeyError("surprise")

    with pytest.raises(KeyError, match="surprise"):
        main.guarded(command, [])


STREAMS = """
import os, sys
from pipelines.commands import main
def command(words):
    # What is opened now must not get the number of a standard stream.
    print(os.open(os.devnull, os.O_RDONLY) > 2)
    print("a warning", file=sys.stderr)
    return 0
sys.exit(main.guarded(command, []))
"""
UNWRITTEN = "beamseg: standard output cannot be written ({}): run the same command again\n"


@pytest.mark.parametrize(
    ("streams", "status", "out", "err"),
    [
        ("", 0, "True\n", "a warning\n"),
        (">&-", 0, "", "a warning\n"),
        ("2>&-", 0, "True\n", ""),
        ("<&- 2>&-", 0, "True\n", ""),
        ("2>/dev/full", 0, "True\n", ""),
        (">/dev/full", 4, "", "a warning\n" + UNWRITTEN.format("No space left on device")),
        ("| true", 0, "", "a warning\n"),
    ],
)
def test_streams_that_are_full_or_closed_cost_no_output_and_no_traceback(streams, status, out, err):
    shell = f'set -o pipefail; "$0" -c "$1" {streams}'
    if streams.startswith("|"):
        # The reader is gone before anything is printed.
        shell = 'set -o pipefail; { sleep 0.3; "$0" -c "$1"; } | true'
    done = subprocess.run(
        ["bash", "-c", shell, sys.executable, STREAMS],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (status, out, err)


PROGRAM = """
import sys
from pipelines.commands import main
try:
    main.dispatch(sys.argv[2:])
except BaseException as end:
    print(type(end).__name__)
print([name for name in sys.argv[1].split(",") if name in sys.modules])
"""


@pytest.mark.parametrize(
    ("words", "end"),
    [
        (["segment", "--help"], "SystemExit"),
        (["plan", "--help"], "SystemExit"),
        (["segment", *NEEDED, "--tile_sise", "3"], "ConfigurationError"),
        (["segment", "--runner", "PrismRunner"], "ConfigurationError"),
        (["plan", "--input", "a", "--window", "0"], "ConfigurationError"),
    ],
)
def test_parsing_imports_nothing_heavy(words, end):
    command = [sys.executable, "-c", PROGRAM, ",".join(HEAVY), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-2:] == [end, "[]"]


def test_the_help_is_a_story_with_examples_and_exit_statuses(capsys):
    with pytest.raises(SystemExit):
        main.dispatch(["segment", "--help"])
    text = capsys.readouterr().out
    for part in (
        "Examples:",
        "beamseg segment --input",
        "exit status:\n    0  complete\n    1  internal error (please report it)",
        "--max_failures",
    ):
        assert part in text


@pytest.mark.parametrize(
    "words",
    [
        ["--input", "https://me:hidden@example.org/a.tif"],
        ["--input=s3://key:hidden@bucket/a"],
        ["--input", '["https://example.org/a.tif?X-Amz-Signature=hidden"]'],
        ["--inptu", "gs://a/b?sig=hidden"],
    ],
)
def test_addresses_with_credentials_are_refused_and_not_printed(words, capsys):
    status = main.guarded(main.dispatch, ["segment", *words, "--model", "m", "--output", "r"])

    errors = capsys.readouterr().err
    assert status == 2
    assert errors.startswith(f"beamseg: {words[0].partition('=')[0]}: an address holds credentials")
    assert "hidden" not in errors
