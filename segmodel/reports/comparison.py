"""Training runs side by side: settings, scores, curves, and the images on which they disagree."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from segmodel.errors import ConfigurationError
from segmodel.labels.classes import ClassTable, LabelClass, parse_color
from segmodel.reports.card import flattened, read_json, shown_value
from segmodel.reports.charts import read_history, write_laid_over
from segmodel.reports.kept_images import KeptImage, read_kept
from segmodel.reports.panels import UNCOUNTED, color_table, draw_panel, legend_of
from segmodel.reports.score_report import OVERALL, decimal, escaped, markdown_table, text_table

MAX_PICTURES, CELL_CHARACTERS = 5, 44


@dataclass(frozen=True)
class Run:
    """A training run as it is on disk.

    Args:
        name: By which it is told from the others.
        path: Its folder.
        configuration: Settings by dotted name.
        classes: Of its model.
        scores: As in `scores.json`, or None where it is not finished.
        history: Its validations.
        images: What is kept of validation, by name.
    """

    name: str
    path: Path
    configuration: Mapping[str, Any]
    classes: ClassTable
    scores: Mapping[str, Any] | None
    history: Sequence[Mapping[str, Any]]
    images: Mapping[str, KeptImage]


@dataclass(frozen=True)
class Disagreement:
    """An image, and the share of its counted pixels at which not all runs agree."""

    name: str
    share: float


@dataclass(frozen=True)
class Comparison:
    """What sets runs apart; the first is the one that the others are measured by.

    Args:
        runs: At least two.
        settings: Values of each run by dotted name, where not all are equal; None where one has
            no such setting.
        notes: What limits the comparison.
        disagreements: Images that all runs kept, the greatest share first.
    """

    runs: tuple[Run, ...]
    settings: Mapping[str, tuple[Any, ...]]
    notes: tuple[str, ...] = ()
    disagreements: tuple[Disagreement, ...] = field(default=())


def compare_runs(folders: Sequence[str | Path]) -> Comparison:
    """Compare training runs.

    Raises:
        ConfigurationError: If there are fewer than two, one is named twice, or a folder is no run.
    """
    paths = [Path(folder) for folder in folders]
    if len(paths) < 2:
        raise ConfigurationError(f"compare needs two or more runs, got {len(paths)}")
    if len({path.resolve() for path in paths}) < len(paths):
        raise ConfigurationError("compare needs different runs: one of them is named twice")
    runs = [_read_run(path, name) for path, name in zip(paths, short_names(paths), strict=True)]
    notes = [
        f"{run.name} is not finished: it has no scores.json, so its scores are left out"
        for run in runs
        if run.scores is None
    ]
    notes += [f"{run.name} has no validation yet" for run in runs if not run.history]
    disagreements, more = _disagreements(runs)
    notes += _different_validation(runs) + more
    return Comparison(tuple(runs), _different_settings(runs), tuple(notes), disagreements)


def short_names(paths: Sequence[Path]) -> list[str]:
    """The last parts of paths, as many as tell them apart.

    >>> short_names([Path("may/a"), Path("may/b")]), short_names([Path("x/a"), Path("y/a")])
    (['a', 'b'], ['x/a', 'y/a'])
    """
    whole = [path.resolve().parts for path in paths]
    for count in range(1, max(map(len, whole)) + 1):
        names = ["/".join(parts[-count:]) for parts in whole]
        if len(set(names)) == len(names):
            return names
    return [str(path) for path in paths]


def comparison_text(comparison: Comparison) -> str:
    """For a terminal."""
    parts = [text_table(_setting_rows(comparison)), text_table(_score_rows(comparison))]
    if comparison.disagreements:
        parts.append(text_table(_disagreement_rows(comparison)))
    return "\n\n".join([*parts, *(f"note: {note}" for note in comparison.notes)])


def write_comparison(folder: str | Path, comparison: Comparison) -> None:
    """Write `compare.md`, `compare.json`, `curves.png` and `pictures/`.

    Raises:
        ConfigurationError: If the folder is a training run, or matplotlib is missing.
    """
    folder = Path(folder)
    if (folder / "configuration.json").exists():
        raise ConfigurationError(f"{folder} is a training run: --output needs a folder of its own")
    pictures = folder / "pictures"
    pictures.mkdir(parents=True, exist_ok=True)
    histories = {run.name: run.history for run in comparison.runs if run.history}
    if histories:
        write_laid_over(folder / "curves.png", histories, _class_names(comparison.runs))
    for old in pictures.glob("disagreement-*.png"):
        old.unlink()
    shown = comparison.disagreements[:MAX_PICTURES]
    for number, found in enumerate(shown, 1):
        _draw(comparison.runs, found).save(pictures / f"disagreement-{number}.png")
    (folder / "compare.md").write_text(_markdown(comparison, bool(histories), shown), "utf-8")
    document = json.dumps(_document(comparison), indent=1, ensure_ascii=False)
    (folder / "compare.json").write_text(document + "\n", "utf-8")


def _read_run(path: Path, name: str) -> Run:
    if not (path / "configuration.json").is_file():
        raise ConfigurationError(
            f"{path} is no training run: it has no configuration.json; give the --output of train"
        )
    configuration = read_json(path / "configuration.json")
    try:
        classes = ClassTable(
            tuple(
                LabelClass(entry["id"], entry["name"], parse_color(entry["color"]))
                for entry in configuration["classes"]
            )
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigurationError(f"{path / 'configuration.json'}: classes: {error}") from error
    history = path / "history.jsonl"
    return Run(
        name=name,
        path=path,
        configuration=flattened({k: v for k, v in configuration.items() if k != "run"}),
        classes=classes,
        scores=read_json(path / "scores.json") if (path / "scores.json").exists() else None,
        history=read_history(history) if history.exists() else [],
        images={image.name: image for image in read_kept(path / "validation")},
    )


def _different_settings(runs: Sequence[Run]) -> dict[str, tuple[Any, ...]]:
    names = {name: None for run in runs for name in run.configuration}
    rows = {name: tuple(run.configuration.get(name) for run in runs) for name in names}
    return {name: row for name, row in rows.items() if any(value != row[0] for value in row)}


def _different_validation(runs: Sequence[Run]) -> list[str]:
    """A warning where scores are of different images."""
    measured = [
        {(image["name"], image["pixels"]) for image in run.scores["images"]}
        for run in runs
        if run.scores is not None
    ]
    if all(images == measured[0] for images in measured):
        return []
    return ["the runs were validated on different images or truth: scores do not compare"]


def _disagreements(runs: Sequence[Run]) -> tuple[tuple[Disagreement, ...], list[str]]:
    """Images that all runs kept, the most disputed first, and what stands in the way."""
    keys = [[(entry.id, entry.name) for entry in run.classes.classes] for run in runs]
    if any(key != keys[0] for key in keys):
        return (), ["the runs have different classes: pictures are left out"]
    names = [name for name in runs[0].images if all(name in run.images for run in runs)]
    if not names:
        return (), ["no validation image was kept by all runs: pictures are left out"]
    found, left_out = [], []
    for name in names:
        truths = [run.images[name].truth(runs[0].classes) for run in runs]
        if any(not np.array_equal(truth, truths[0]) for truth in truths):
            left_out.append(name)
            continue
        labels = [run.images[name].labels(runs[0].classes) for run in runs]
        counted = truths[0] != runs[0].classes.nodata
        differ = np.any([one != labels[0] for one in labels[1:]], axis=0) & counted
        found.append(Disagreement(name, int(differ.sum()) / max(1, int(counted.sum()))))
    notes = [f"{name}: the runs have different truth for it: left out" for name in left_out]
    return tuple(sorted(found, key=lambda one: (-one.share, one.name))), notes


def _class_names(runs: Sequence[Run]) -> list[str]:
    """Names of all classes, in the order in which they are met."""
    return list(dict.fromkeys(name for run in runs for name in run.classes.names))


def _setting_rows(comparison: Comparison) -> list[list[str]]:
    rows = [["setting", *(run.name for run in comparison.runs)]]
    for name, values in comparison.settings.items():
        cells = ["-" if value is None else shown_value(value) for value in values]
        rows.append([name, *(_cut(cell) for cell in cells)])
    return rows if len(rows) > 1 else [["all settings are equal"]]


def _score_rows(comparison: Comparison) -> list[list[str]]:
    """Scores of each run, and by how much they differ from those of the first."""
    rows = [["score", *(run.name for run in comparison.runs)]]
    wanted: list[tuple[str, str, str | None]]
    wanted = [(label, key, None) for key, label in OVERALL.items()]
    wanted += [(f"IoU {name}", "iou", name) for name in _class_names(comparison.runs)]
    for label, key, name in wanted:
        values = [_score(run, key, name) for run in comparison.runs]
        cells = [decimal(values[0])]
        for value in values[1:]:
            both = value is not None and values[0] is not None
            more = f" ({value - values[0]:+.3f})" if both else ""  # type: ignore[operator]
            cells.append(decimal(value) + more)
        rows.append([label, *cells])
    return rows


def _score(run: Run, key: str, name: str | None) -> float | None:
    found = (run.scores or {}).get(key)
    return found if name is None else (found or {}).get(name)


def _disagreement_rows(comparison: Comparison) -> list[list[str]]:
    rows = [["most disputed image", "pixels"]]
    rows += [[d.name, f"{d.share:.1%}"] for d in comparison.disagreements[:MAX_PICTURES]]
    return rows


def _draw(runs: Sequence[Run], found: Disagreement):
    """Image, truth and the labels of each run."""
    classes, images = runs[0].classes, [run.images[found.name] for run in runs]
    colors = color_table(classes)
    truth, labels = images[0].truth(classes), [image.labels(classes) for image in images]
    columns = [("image", images[0].image()), ("truth", colors[truth])]
    for run, image, one in zip(runs, images, labels, strict=True):
        columns.append((f"{run.name}   {decimal(image.mean_iou)}", colors[one]))
    agree = np.where(np.any([one != labels[0] for one in labels[1:]], axis=0), 40, 235)
    picture = agree.astype(np.uint8)[..., None].repeat(3, axis=2)
    picture[truth == classes.nodata] = UNCOUNTED
    columns.append(("where they disagree", picture))
    legend = [*legend_of(classes, [truth, *labels]), ("not counted", UNCOUNTED)]
    return draw_panel(columns, legend, f"{found.name}   {found.share:.1%} of pixels disputed")


def _markdown(comparison: Comparison, curves: bool, shown: Sequence[Disagreement]) -> str:
    names = ", ".join(escaped(run.name) for run in comparison.runs)
    settings = _setting_rows(comparison)
    parts = [
        f"# Runs {names}",
        *(f"> {escaped(note)}" for note in comparison.notes),
        "## Settings that differ",
        markdown_table(settings) if len(settings) > 1 else "None.",
        f"## Scores\n\nIn brackets the difference to {escaped(comparison.runs[0].name)}.",
        markdown_table(_score_rows(comparison)),
        *(["## Curves", "![curves of all runs](curves.png)"] if curves else []),
        *(["## Where they disagree most"] if shown else []),
    ]
    for number, found in enumerate(shown, 1):
        text = f"{escaped(found.name)}: {found.share:.1%} of pixels"
        parts.append(f"![{text}](pictures/disagreement-{number}.png)")
    return "\n\n".join(parts) + "\n"


def _document(comparison: Comparison) -> dict[str, Any]:
    keys = (*OVERALL, "iou")
    return {
        "runs": [
            {"name": run.name, "scores": run.scores and {key: run.scores[key] for key in keys}}
            for run in comparison.runs
        ],
        "settings": {name: list(values) for name, values in comparison.settings.items()},
        "disagreements": [{"name": d.name, "share": d.share} for d in comparison.disagreements],
        "notes": list(comparison.notes),
    }


def _cut(text: str) -> str:
    return text if len(text) <= CELL_CHARACTERS else f"{text[: CELL_CHARACTERS - 3]}..."
