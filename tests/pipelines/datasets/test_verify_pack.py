"""A pack is as its records say, or what is not is found, with what to do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipelines.commands.main import dispatch
from pipelines.datasets.options import PackOptions
from pipelines.datasets.verify_pack import verify_pack
from pipelines.run.seals import unsealed
from segmodel.errors import ConfigurationError
from tests.pipelines.corpus import flipped, tree, without_seals
from tests.pipelines.pack_corpus import COUNT, pack, result, write_pairs

AGAIN = "run the same `beamseg pack` again"


@pytest.fixture
def options(tmp_path: Path) -> PackOptions:
    """A finished pack."""
    options = write_pairs(tmp_path)
    assert pack(options)[0] == 0
    return options


def findings_of(options: PackOptions, invalidate: bool = False) -> list[str]:
    found: list[str] = []
    verdict = verify_pack(options.output, lambda finding: found.append(str(finding)), invalidate)
    assert verdict.is_good == (not found)
    return found


def change(options: PackOptions, name: str, place: int = -9) -> None:
    path = Path(options.output) / name
    content = path.read_bytes()
    path.write_bytes(flipped(content, place % len(content)))


def test_a_pack_and_its_summary_are_sealed(options):
    for name in ("pack.json", ".beamseg/summary.json", ".beamseg/run.json"):
        assert unsealed((Path(options.output) / name).read_bytes())[1]
    assert sum(split["images"] for split in result(options)["splits"].values()) == COUNT


def test_a_pack_as_it_was_written_is_good(options):
    before = tree(options.output)
    verdict = verify_pack(options.output, pytest.fail)
    splits = result(options)["splits"].values()
    assert verdict.units == verdict.files == sum(split["shards"] for split in splits)
    assert verdict.is_good
    assert tree(options.output) == before


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("pack.json", "is not what the commit records add up to"),
        (".beamseg/summary.json", "is not what the end of a pack writes"),
        (".beamseg/plan/run.json", "is not there, or damaged"),
    ],
)
def test_a_bit_of_what_begins_or_ends_a_pack_is_found(name, wrong, options):
    change(options, name)
    assert findings_of(options) == [f"{name} {wrong}: {AGAIN}"]
    assert pack(options) == (0, [])
    assert findings_of(options) == []


def test_a_damaged_shard_is_written_again_once_its_record_is_removed(options):
    before = tree(options.output)
    shard = next(name for name in before if name.startswith("train/"))
    change(options, shard)
    (found,) = findings_of(options)
    assert found.startswith(f"{shard} has the recorded size, but not the recorded SHA-256: run")
    assert found.endswith("with --invalidate, then the same `beamseg pack` again")
    assert findings_of(options, invalidate=True) == [
        f"{shard} has the recorded size, but not the recorded SHA-256: its commit record was "
        f"removed: {AGAIN}"
    ]
    assert pack(options) == (0, [Path(shard).name.partition(".")[0]])
    assert (Path(options.output) / shard).read_bytes() == before[shard]
    assert findings_of(options) == []


def test_unknown_and_missing_files_are_found(options):
    (Path(options.output) / "test" / "notes.txt").write_text("mine")
    assert findings_of(options) == [
        "test/notes.txt is an unknown file: no record names it: remove it"
    ]
    (Path(options.output) / "pack.json").unlink()
    assert findings_of(options)[0] == f"pack.json is not there although all shards are: {AGAIN}"


def test_a_pack_without_seals_is_compared_with_its_records_and_gets_none(options):
    root = Path(options.output)
    document = json.loads((root / "pack.json").read_bytes())
    del document["seal"]
    (root / "pack.json").write_text(json.dumps(document, indent=2) + "\n")
    without_seals(root / ".beamseg")
    before = tree(root)
    assert findings_of(options) == []
    assert pack(options) == (0, [])
    assert {n: c for n, c in tree(root).items() if "summary" not in n} == {
        n: c for n, c in before.items() if "summary" not in n
    }
    document["splits"]["train"]["images"] += 1
    (root / "pack.json").write_text(json.dumps(document, indent=2) + "\n")
    assert findings_of(options) == [f"pack.json is not what the commit records add up to: {AGAIN}"]


def test_the_command_verifies_a_pack(options, capsys):
    assert dispatch(["verify", options.output]) == 0
    assert capsys.readouterr().out.endswith(": all as recorded\n")
    with pytest.raises(ConfigurationError, match="--inputs is for runs"):
        dispatch(["verify", options.output, "--inputs"])
    change(options, "pack.json")
    assert dispatch(["verify", options.output]) == 4
    told = "is not as recorded: give the same `beamseg pack` again, after `beamseg verify"
    assert told in capsys.readouterr().err
