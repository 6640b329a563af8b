"""Rules of architecture: what imports what, and how large a room may be."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted([*(ROOT / "segmodel").rglob("*.py"), *(ROOT / "pipelines").rglob("*.py")])
MAX_FUNCTION_LINES = 50
MAX_ROOMS, MAX_MODULES = 38, 15

# Rooms from the ground floor up: each imports from those before it only.
FLOORS = (
    "segmodel.errors",
    "segmodel.escaping",
    "segmodel.settings",
    "segmodel.devices",
    "segmodel.tiling",
    "segmodel.rasters",
    "segmodel.images",
    "segmodel.labels",
    "segmodel.engine",
    "segmodel.networks",
    "segmodel.safety",
    "segmodel.savedmodel",
    "segmodel.pairs",
    "segmodel.evaluation",
    "segmodel.reports",
    "segmodel.training",
    "pipelines.cli",
    "pipelines.storage",
    "pipelines.geodesy",
    "pipelines.run",
    "pipelines.inputs",
    "pipelines.rasters",
    "pipelines.formats",
    "pipelines.scenes",
    "pipelines.worker",
    "pipelines.results",
    "pipelines.runners",
    "pipelines.segment",
    "pipelines.datasets",
    "pipelines.layers",
    "pipelines.accuracy",
    "pipelines.earth",
    "pipelines.commands",
)
# What starts a command as `python -m` does stands outside the house.
DOORS = ("pipelines.pack", "pipelines.segment.__main__")

# Rooms whose modules may import these at their top; elsewhere only functions do, when they run.
TENSORFLOW = {"segmodel.networks", "segmodel.safety", "segmodel.savedmodel", "segmodel.training"}
BEAM = {"pipelines.runners", "pipelines.segment.graph", "pipelines.datasets.graph"}
BEAM |= {"pipelines.accuracy.evaluation.graph", "pipelines.layers.graph"}

# What a command line needs before it knows that it is right.
LIGHT = {"pipelines.cli", "pipelines.commands", "pipelines.segment.options"}
LIGHT |= {"pipelines.datasets.options", "pipelines.layers.options"}
LIGHT |= {"pipelines.accuracy.evaluation.options", "pipelines.accuracy.sample_options"}
LIGHT_IMPORTS = {
    *LIGHT,
    "pipelines.storage.locations",
    "segmodel",
    "segmodel.devices.compute",
    "segmodel.errors",
    "segmodel.escaping",
}


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


def is_within(module: str, rooms: Iterable[str]) -> bool:
    return any(module == room or module.startswith(f"{room}.") for room in rooms)


@pytest.mark.parametrize(
    ("package", "allowed"),
    [("tensorflow", TENSORFLOW), ("keras", TENSORFLOW), ("apache_beam", BEAM)],
)
def test_heavy_packages_are_imported_only_where_they_belong(package, allowed):
    wrong = [
        f"{path}:{line}: {module} must not import {package}; import it in a function, late"
        for path, module, tree in parsed()
        for name, line in imports_of(tree, everywhere=False)
        if name.split(".")[0] == package and not is_within(module, allowed)
    ]
    assert not wrong, "\n".join(wrong)


def test_a_command_line_is_parsed_with_light_modules_only():
    wrong = [
        f"{path}:{line}: {module} must not import {name} at its top; import it in run()"
        for path, module, tree in parsed()
        if is_within(module, LIGHT)
        for name, line in imports_of(tree, everywhere=False)
        if name.split(".")[0] not in sys.stdlib_module_names
        and not is_within(name, LIGHT_IMPORTS - {"segmodel"})
        and name != "segmodel"
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


def test_functions_stay_small():
    wrong = []
    for path, _, tree in parsed():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                documentation = ast.get_docstring(node)
                length -= len(documentation.splitlines()) + 1 if documentation else 0
                if length > MAX_FUNCTION_LINES:
                    wrong.append(f"{path}:{node.lineno}: {node.name} has {length} lines")
    assert not wrong, "\n".join(wrong)


def test_rooms_are_few_and_none_is_crowded():
    rooms = Counter(path.parent for path in SOURCES if path.name != "__init__.py")
    inner = {folder: modules for folder, modules in rooms.items() if folder.parent != ROOT}
    assert len(inner) <= MAX_ROOMS
    crowded = {
        str(folder): modules
        for folder, modules in inner.items()
        if modules > MAX_MODULES and folder.name != "commands"
    }
    assert not crowded, f"at most {MAX_MODULES} modules: a room is missing in {crowded}"


def test_every_room_says_in_one_line_what_it_is_for():
    silent = [
        str(path)
        for path in SOURCES
        if path.name == "__init__.py" and not ast.get_docstring(ast.parse(path.read_text("utf-8")))
    ]
    assert not silent, f"a docstring is missing: {silent}"


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
        "import sys; from pipelines.commands.main import dispatch, guarded; "
        "status = guarded(dispatch, sys.argv[1:]); "
        "heavy = {'apache_beam', 'tensorflow', 'keras', 'numpy', 'rasterio', 'pyarrow'}; "
        "heavy |= {'pydantic'}; print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *words],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    assert done.stdout.splitlines()[-1] == "[]", done.stdout


def test_rooms_import_only_from_floors_below_them():
    def floor(module: str) -> int | None:
        if module in ("segmodel", "pipelines") or module in DOORS:
            return None
        return FLOORS.index(".".join(module.split(".")[:2]))

    wrong = [
        f"{path}:{line}: {module} must not import {name}, which stands above it"
        for path, module, tree in parsed()
        for name, line in imports_of(tree, everywhere=True)
        if name in MODULES
        if (own := floor(module)) is not None and (other := floor(name)) is not None
        if other > own
    ]
    assert not wrong, "\n".join(wrong)


def test_the_architecture_page_describes_every_room():
    page = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    missing = [room for room in FLOORS if f"`{room.split('.')[1]}`" not in page]
    assert not missing
