"""Hook of mkdocs: pages that are generated from the code, and links that fit the site.

Home, contributing and changelog are the files at the root of the repository. Commands and settings
follow from the parsers and the declarations of settings, so that they cannot be out of date.
"""

from __future__ import annotations

import argparse
import posixpath
import re
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
# Page of the site by file of the repository, where docs/NAME is not simply NAME.
COPIES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "examples/airflow/README.md": "examples/airflow.md",
    "examples/dagster/README.md": "examples/dagster.md",
    "examples/argo/README.md": "examples/argo.md",
    "docs/decisions": "decisions/index.md",
}
_LINK = re.compile(r"(?<!!)\[((?:[^\[\]]|\[[^\]]*\])+)\]\(([^)\s]+)\)")
_IMAGE = re.compile(r"(!\[[^\]]*\])\(([^)\s]+)\)")


def on_config(config: Any) -> Any:
    """Import the packages of this repository, not installed ones; list decisions under theirs."""
    sys.path.insert(0, str(ROOT))
    pages = [f"decisions/{path.name}" for path in _decisions()]
    for section in config["nav"]:
        for entry in section.get("Explanation", ()):
            if "Decisions" in entry:
                entry["Decisions"] = ["decisions/index.md", *pages]
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add the generated pages to those of docs/."""
    from mkdocs.structure.files import File

    for page, content in generated_pages().items():
        files.append(File.generated(config, page, content=content))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Turn links between files of the repository into links between pages of the site."""
    known = {file.src_uri for file in files}
    return relink(markdown, page.file.src_uri, known)


def generated_pages() -> dict[str, str]:
    """Text of each generated page by its place in the site."""
    pages: dict[str, Callable[[], str]] = {
        "reference/commands.md": commands_page,
        "reference/settings.md": settings_page,
        "decisions/index.md": decisions_page,
    }
    made = {page: make() for page, make in pages.items()}
    for source, page in COPIES.items():
        if page not in made:
            made[page] = (ROOT / source).read_text("utf-8")
    return made


def relink(markdown: str, page: str, known: set[str]) -> str:
    """The text of a page with links that fit the site; a link that leads out of it becomes text.

    Args:
        markdown: Text with links relative to the file in the repository.
        page: Place of the page in the site.
        known: Places of all files of the site.
    """
    source = next((file for file, copy in COPIES.items() if copy == page), f"docs/{page}")
    base = source if source == "docs/decisions" else posixpath.dirname(source)

    def target(link: str) -> str | None:
        path, hash_, anchor = link.partition("#")
        if not path or "://" in path:
            return link
        file = posixpath.normpath(posixpath.join(base, path))
        place = COPIES.get(file, file.removeprefix("docs/"))
        if place not in known:
            return None
        return posixpath.relpath(place, posixpath.dirname(page) or ".") + hash_ + anchor

    def link(found: re.Match[str]) -> str:
        place = target(found[2])
        return f"[{found[1]}]({place})" if place is not None else found[1]

    def image(found: re.Match[str]) -> str:
        return f"{found[1]}({target(found[2]) or found[2]})"

    return _LINK.sub(link, _IMAGE.sub(image, markdown))


def commands_page() -> str:
    """Help of every command: text, options and examples, from the parsers."""
    from pipelines.commands.main import COMMANDS

    lines = [
        "# Commands and options",
        "",
        "This page is generated from the parsers of the commands: it says what `--help` prints.",
        "",
        "| command | what |",
        "| --- | --- |",
        *(f"| [`beamseg {name}`](#{name}) | {what} |" for name, (_, what) in COMMANDS.items()),
        "",
    ]
    for name, (module, _) in COMMANDS.items():
        lines += _command(name, import_module(module).parser())
    return "\n".join(lines)


def _command(name: str, parser: argparse.ArgumentParser) -> Iterator[str]:
    yield from (f"## {name}", "", (parser.description or "").strip(), "")
    yield from ("| option | meaning |", "| --- | --- |")
    for action in parser._actions:
        if not isinstance(action, argparse._HelpAction) and action.help != argparse.SUPPRESS:
            yield f"| {_spelled(action)} | {_cell(_meaning(parser, action))} |"
    if parser.epilog:
        yield from ("", "```text", parser.epilog.strip(), "```")
    yield ""


def _spelled(action: argparse.Action) -> str:
    words = ", ".join(action.option_strings)
    value = action.metavar or (
        "{" + ",".join(map(str, action.choices)) + "}" if action.choices else ""
    )
    if action.nargs == 0:
        value = ""
    elif not value and not action.option_strings:
        value = action.dest.upper()
    return "`" + " ".join(part for part in (words, str(value)) if part).replace("|", "\\|") + "`"


def _meaning(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    text = parser._get_formatter()._expand_help(action) if action.help else ""
    return text[:1].upper() + text[1:]


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("**", "\\*\\*").replace("<", "&lt;")


def settings_page() -> str:
    """The table of all settings of training, from their declaration."""
    from segmodel.training.configuration import settings_table

    return "\n".join(
        [
            "# Settings of training",
            "",
            "This page is generated from the declarations in `segmodel.training.configuration`.",
            "[Training](../training.md) explains them. Settings without a default must be given.",
            "",
            settings_table(),
            "",
        ]
    )


def decisions_page() -> str:
    """List of the decisions by the titles of their files."""
    lines = ["# Decisions", "", "Questions that were decided, each with what the answer costs.", ""]
    for path in _decisions():
        title = path.read_text("utf-8").partition("\n")[0].removeprefix("# ")
        number, _, text = title.partition(". ")
        lines.append(f"{number}. [{text}]({path.name})")
    return "\n".join([*lines, ""])


def _decisions() -> list[Path]:
    return sorted((ROOT / "docs" / "decisions").glob("[0-9]*.md"))
