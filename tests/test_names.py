"""Names are the field's: words that were replaced do not come back, and none has a twin."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCES = sorted(path for top in ("segmodel", "pipelines") for path in (ROOT / top).rglob("*.py"))

# What stood here once, and what a reader who knows rasterio, Beam, Keras or GDAL expects.
REPLACED = {
    "persist": "retry",
    "persistently": "retry",
    "again": "retry",
    "PatientStore": "RetryingStore",
    "raise_unless_lasting": "reraise_transient",
    "may_pass": "transient",
    "within": "relative_to",
    "outside": "to_outer",
    "common": "intersection",
    "cut": "subdivide",
    "own_pixels": "source_pixels",
    "on_own_grid": "on_source_grid",
    "bring": "to_source_grid",
    "leaves": "is_detached",
    "learn": "record_result",
    "ending": "result_json",
    "tell": "log",
    "told": "with_progress",
    "shown": "progress_bar",
    "BOOKS": "METADATA_DIR",
    "books_of": "metadata_directory",
    "is_believed": "is_valid",
    "forget": "invalidate",
    "listed": "stat",
    "deal": "assign_splits",
    "shares_of": "shard_parts",
    "goes_on": "allow_partial",
    "opens_at_once": "open_inline",
    "handed_on": "emitted",
    "Survey": "DatasetStats",
    "joint_contract": "merge_contracts",
    "in_memory": "keras_model",
    "quiet_start": "import_quietly",
    "--forget": "--invalidate",
}
PREFIXES = {"MOST_": "MAX_", "LEAST_": "MIN_", "tell_": "log_ or print_"}
# Old options are accepted for a while, in this one table.
ALIASES = "_RENAMED"
# Each command has the first two, and each program the last.
SHARED = {"parser", "run", "main"}


def names(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Definitions, arguments, fields, constants and options of a module with their lines."""
    aliases = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == ALIASES
        for inner in ast.walk(node.value)
    }
    for node in ast.walk(tree):
        if id(node) in aliases:
            continue
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name, node.lineno
        elif isinstance(node, ast.arg):
            yield node.arg, node.lineno
        elif isinstance(node, ast.AnnAssign | ast.Assign):
            targets = [node.target] if isinstance(node, ast.AnnAssign) else node.targets
            for target in targets:
                if isinstance(target, ast.Name):
                    yield target.id, node.lineno
                elif isinstance(target, ast.Attribute):
                    yield target.attr, node.lineno
        elif isinstance(node, ast.Constant) and re.fullmatch(r"--[a-z_]+", str(node.value)):
            yield node.value, node.lineno


def better(name: str) -> str | None:
    plain = name.lstrip("_")
    for prefix, word in PREFIXES.items():
        if plain.startswith(prefix):
            return word
    return REPLACED.get(name) or REPLACED.get(plain)


def test_no_name_is_one_that_was_replaced():
    wrong = []
    for path in SOURCES:
        found = [(path.stem, 1), *names(ast.parse(path.read_text("utf-8")))]
        wrong += [
            f"{path.relative_to(ROOT)}:{line}: {name}: say {word}"
            for name, line in found
            if (word := better(name)) is not None
        ]
    assert not wrong, "\n".join(wrong)


def test_public_names_are_told_apart():
    places: dict[str, list[str]] = defaultdict(list)
    for path in SOURCES:
        for node in ast.parse(path.read_text("utf-8")).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(str(path.relative_to(ROOT)))
    twins = {name: found for name, found in places.items() if len(found) > 1 and name not in SHARED}
    assert not twins, "\n".join(f"{name}: {', '.join(found)}" for name, found in twins.items())
