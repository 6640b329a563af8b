"""Rules of architecture: what imports what, and how large a room may be."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted([*(ROOT / "segmodel").rglob("*.py"), *(ROOT / "pipelines").rglob("*.py")])
MAX_LINES, MAX_FUNCTION_LINES = 300, 50

# Modules that may import these when they are imported themselves.
TENSORFLOW = {
    f"segmodel.{name}"
    for name in (
        *("augment", "backbones", "batches", "checkpoints", "ensemble", "event_log", "export"),
        *("folds", "in_memory", "layers", "losses", "network", "optimization", "pretrained"),
        *("release", "run_folder", "run_plan", "safety", "trainer", "training_loop", "views"),
        "widths",
    )
}
BEAM = {
    *("pipelines.runners.dataflow", "pipelines.runners.execute", "pipelines.segment.graph"),
    *("pipelines.datasets.graph", "pipelines.runners.worker"),
}

# What a command line needs before it knows that it is right.
LIGHT = {
    "pipelines.commands.main",
    "pipelines.cli.parser",
    "pipelines.storage.locations",
    "pipelines.segment.options",
    "pipelines.cli.process",
    "pipelines.pack",
    "pipelines.segment.scene_options",
    "pipelines.datasets.options",
    "pipelines.segment",
    *(f"pipelines.commands.{name}" for name in ("compare", "demo", "ensemble", "plan")),
    *(f"pipelines.commands.{name}" for name in ("train", "verify")),
}
LIGHT_IMPORTS = {"pipelines", "segmodel", *LIGHT, "segmodel.errors"}


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path) for path in SOURCES}


def imports_of(tree: ast.AST, everywhere: bool) -> Iterator[tuple[str, int]]:
    """Imported modules with their lines; at the top of the file only, or everywhere."""
    nodes = ast.walk(tree) if everywhere else iter(tree.body)  # type: ignore[attr-defined]
    for node in nodes:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            modules = [name for name in inner if name in MODULES]
            yield from ((name, node.lineno) for name in modules or [node.module])


def parsed() -> Iterator[tuple[Path, str, ast.Module]]:
    for path in SOURCES:
        yield path, module_name(path), ast.parse(path.read_text("utf-8"))


def test_segmodel_never_imports_pipelines_or_beam():
    wrong = [
        f"{path}:{line}: segmodel must not import {name}; move what needs it to pipelines"
        for path, module, tree in parsed()
        if module.split(".")[0] == "segmodel"
        for name, line in imports_of(tree, everywhere=True)
        if name.split(".")[0] in ("pipelines", "apache_beam")
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("package", "allowed"),
    [("tensorflow", TENSORFLOW), ("keras", TENSORFLOW), ("apache_beam", BEAM)],
)
def test_heavy_packages_are_imported_only_where_they_belong(package, allowed):
    wrong = [
        f"{path}:{line}: {module} must not import {package}; import it in a function, late"
        for path, module, tree in parsed()
        for name, line in imports_of(tree, everywhere=False)
        if name.split(".")[0] == package and module not in allowed
    ]
    assert not wrong, "\n".join(wrong)


def test_a_command_line_is_parsed_with_light_modules_only():
    wrong = [
        f"{path}:{line}: {module} must not import {name} at its top; import it in run()"
        for path, module, tree in parsed()
        if module in LIGHT
        for name, line in imports_of(tree, everywhere=False)
        if name.split(".")[0] not in sys.stdlib_module_names and name not in LIGHT_IMPORTS
    ]
    assert not wrong, "\n".join(wrong)


def test_no_module_imports_itself_through_others():
    graph = {
        module: {name for name, _ in imports_of(tree, everywhere=False) if name in MODULES}
        for _, module, tree in parsed()
    }
    done: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, f"cycle: {' -> '.join([*trail, module])}"
        if module not in done:
            for name in graph[module]:
                visit(name, (*trail, module))
            done.add(module)

    for module in graph:
        visit(module, ())


def test_files_and_functions_stay_small():
    wrong = []
    for path, _, tree in parsed():
        lines = len(path.read_text("utf-8").splitlines())
        if lines > MAX_LINES:
            wrong.append(f"{path}:1: {lines} lines; at most {MAX_LINES}: a room is missing")
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                documentation = ast.get_docstring(node)
                length -= len(documentation.splitlines()) + 1 if documentation else 0
                if length > MAX_FUNCTION_LINES:
                    wrong.append(f"{path}:{node.lineno}: {node.name} has {length} lines")
    assert not wrong, "\n".join(wrong)


def test_no_module_is_called_utils():
    assert not [path for path in SOURCES if path.stem in ("utils", "helpers", "misc", "common")]


def test_beam_sees_real_annotations():
    wrong = [
        path
        for path in (ROOT / "pipelines").rglob("*.py")
        if "import annotations" in path.read_text()
    ]
    assert not wrong, f"Beam's type checks need real annotations: {wrong}"


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--help"],
        ["segment", "--help"],
        ["segment", "--tile_sise", "3"],
        ["train"],
        ["verify", "--help"],
        ["pack", "--help"],
        ["pack", "--images", "photos", "--output", "shards", "--split", "train=0.5"],
    ],
)
def test_help_and_usage_errors_import_neither_beam_nor_tensorflow(words):
    program = (
        "import sys; from pipelines import cli; status = cli.guarded(cli.dispatch, sys.argv[1:]); "
        "heavy = {'apache_beam', 'tensorflow', 'keras', 'numpy', 'rasterio', 'pyarrow'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *words],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    assert done.stdout.splitlines()[-1] == "[]", done.stdout


def test_modules_import_only_what_stands_above_them_in_the_architecture_page():
    page = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    order: list[str] = []
    for package in ("segmodel", "pipelines"):
        section = page.split(f"### {package}\n")[1].split("\n##")[0]
        for row in section.splitlines():
            if row.startswith("| `"):
                names = re.findall(r"`(\w+)/?`", row.split("|")[1])
                order += [f"{package}.{name}" for name in names]

    def room(module: str) -> str:
        return ".".join(module.split(".")[:2])

    wrong = [
        f"{path}:{line}: {room(module)} must not import {room(name)}, which stands below it"
        for path, module, tree in parsed()
        for name, line in imports_of(tree, everywhere=False)
        if room(module) in order and room(name) in order
        if order.index(room(name)) > order.index(room(module))
    ]
    assert not wrong, "\n".join(wrong)


def test_every_module_is_described_in_the_architecture_page():
    page = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    missing = [
        module
        for module in MODULES
        if module.count(".") == 1
        and f"`{module.split('.')[1]}`" not in page
        and f"`{module.split('.')[1]}/`" not in page
    ]
    # Generators of data files, run by hand.
    assert set(missing) <= {"pipelines.beam_options", "pipelines.commands.flex_template"}
