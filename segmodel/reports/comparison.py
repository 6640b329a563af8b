"""Training runs side by side: settings, scores, curves, and the images on which they disagree."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from segmodel.errors import ConfigurationError
from segmodel.labels.classes import ClassTable, LabelClass, parse_color
from segmodel.pairs.paired_files import unique_folder_names
from segmodel.reports import documents
from segmodel.reports.card import OVERALL
from segmodel.reports.charts import write_laid_over
from segmodel.reports.kept_images import KeptImage, read_kept
from segmodel.reports.panels import NODATA, UNCOUNTED, draw_panel, legend_of

MAX_PICTURES, CELL_CHARACTERS = 5, 44


@dataclass(frozen=True)
class ComparedRun:
    """A training run as it is on disk.

    Args:
        name: Name that tells the run from the others.
        configuration: Settings by dotted name.
        classes: Class table of its model.
        scores: Scores as in `scores.json`, or None where the run is not finished.
        history: Validations of the run, in order.
        images: What is kept of validation, by name.
    """

    name: str
    configuration: Mapping[str, Any]
    classes: ClassTable
    scores: Mapping[str, Any] | None
    history: Sequence[Mapping[str, Any]]
    images: Mapping[str, KeptImage]


@dataclass(frozen=True)
class Disagreement:
    """An image on which runs disagree.

    Args:
        name: Name of the pair.
        share: Share of its counted pixels, in [0, 1], at which not all runs agree.
    """

    name: str
    share: float


@dataclass(frozen=True)
class Comparison:
    """Differences of runs; the first run is the one that the others are measured by.

    Args:
        runs: At least two runs.
        settings: Values of each run by dotted name, where not all are equal; None where one has
            no such setting.
        notes: What limits the comparison.
        disagreements: Images that all runs kept, the greatest share first.
    """

    runs: tuple[ComparedRun, ...]
    settings: Mapping[str, tuple[Any, ...]]
    notes: tuple[str, ...]
    disagreements: tuple[Disagreement, ...]

    @property
    def class_names(self) -> list[str]:
        """Names of all classes, in the order in which they are met."""
        return list(dict.fromkeys(name for run in self.runs for name in run.classes.names))


def compare_runs(folders: Sequence[str | Path]) -> Comparison:
    """Compare training runs.

    Args:
        folders: Folders of the runs.

    Raises:
        ConfigurationError: If there are fewer than two, one is named twice, or a folder is no run.
    """
    paths = [Path(folder) for folder in folders]
    if len(paths) < 2:
        raise ConfigurationError(f"compare needs two or more runs, got {len(paths)}")
    whole = [str(path.resolve()) for path in paths]
    if len(set(whole)) < len(paths):
        raise ConfigurationError("compare needs different runs: one of them is named twice")
    runs = tuple(map(_read_run, paths, unique_folder_names(whole, min_parts=1)))
    notes = [
        f"{run.name} is not finished: it has no scores.json, so its scores are left out"
        for run in runs
        if run.scores is None
    ]
    notes += [f"{run.name} has no validation yet" for run in runs if not run.history]
    scored = [run.scores["images"] for run in runs if run.scores is not None]
    measured = [{(image["name"], image["pixels"]) for image in images} for images in scored]
    if any(images != measured[0] for images in measured):
        notes.append("the runs were validated on different images or truth: scores do not compare")
    disagreements = _disagreements(runs, notes)
    return Comparison(runs, _different_settings(runs), tuple(notes), disagreements)


def comparison_text(comparison: Comparison) -> str:
    """Format settings, scores, disputed images and notes as lines for a terminal."""
    tables = [_setting_rows(comparison), _score_rows(comparison)]
    if images := comparison.disagreements[:MAX_PICTURES]:
        rows = [[image.name, f"{image.share:.1%}"] for image in images]
        tables.append([["most disputed image", "pixels"], *rows])
    notes = [f"note: {note}" for note in comparison.notes]
    return "\n\n".join([*map(documents.text_table, tables), *notes])


def write_comparison(folder: str | Path, comparison: Comparison) -> None:
    """Write `compare.md`, `compare.json`, `curves.png` and `pictures/`.

    Args:
        folder: Folder to write; it need not exist.
        comparison: What `compare_runs` found.

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
        write_laid_over(folder / "curves.png", histories, comparison.class_names)
    for old in pictures.glob("disagreement-*.png"):
        old.unlink()
    for number, image in enumerate(comparison.disagreements[:MAX_PICTURES], 1):
        _draw(comparison.runs, image).save(pictures / f"disagreement-{number}.png")
    text = documents.render(
        "comparison.md.jinja",
        comparison=comparison,
        settings=_setting_rows(comparison),
        scores=_score_rows(comparison),
        has_curves=bool(histories),
        max_pictures=MAX_PICTURES,
    )
    (folder / "compare.md").write_text(text, "utf-8")
    keys = (*OVERALL, "iou")
    document = {
        "runs": [
            {"name": run.name, "scores": run.scores and {key: run.scores[key] for key in keys}}
            for run in comparison.runs
        ],
        "settings": comparison.settings,
        "disagreements": [asdict(image) for image in comparison.disagreements],
        "notes": comparison.notes,
    }
    text = json.dumps(document, indent=1, ensure_ascii=False)
    (folder / "compare.json").write_text(text + "\n", "utf-8")


def _read_run(path: Path, name: str) -> ComparedRun:
    if not (path / "configuration.json").is_file():
        raise ConfigurationError(
            f"{path} is no training run: it has no configuration.json; give the --output of train"
        )
    configuration = documents.read_json(path / "configuration.json")
    try:
        rows = [(c["id"], c["name"], parse_color(c["color"])) for c in configuration["classes"]]
        classes = ClassTable(tuple(LabelClass(*row) for row in rows))
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigurationError(f"{path / 'configuration.json'}: classes: {error}") from error
    history, scores = path / "history.jsonl", path / "scores.json"
    return ComparedRun(
        name=name,
        configuration=documents.flattened({k: v for k, v in configuration.items() if k != "run"}),
        classes=classes,
        scores=documents.read_json(scores) if scores.exists() else None,
        history=documents.read_history(history) if history.exists() else [],
        images={image.name: image for image in read_kept(path / "validation")},
    )


def _different_settings(runs: Sequence[ComparedRun]) -> dict[str, tuple[Any, ...]]:
    names = {name: None for run in runs for name in run.configuration}
    rows = {name: tuple(run.configuration.get(name) for run in runs) for name in names}
    return {name: row for name, row in rows.items() if any(value != row[0] for value in row)}


def _disagreements(runs: Sequence[ComparedRun], notes: list[str]) -> tuple[Disagreement, ...]:
    """Images that all runs kept, the most disputed first; adds what stands in the way to notes."""
    classes = runs[0].classes
    keys = [[(entry.id, entry.name) for entry in run.classes.classes] for run in runs]
    if any(key != keys[0] for key in keys):
        notes.append("the runs have different classes: pictures are left out")
        return ()
    names = [name for name in runs[0].images if all(name in run.images for run in runs)]
    if not names:
        notes.append("no validation image was kept by all runs: pictures are left out")
    found = []
    for name in names:
        truths = [run.images[name].truth(classes) for run in runs]
        if not all(np.array_equal(truth, truths[0]) for truth in truths):
            notes.append(f"{name}: the runs have different truth for it: left out")
            continue
        counted = truths[0] != classes.nodata
        differ = _differ([run.images[name].labels(classes) for run in runs]) & counted
        found.append(Disagreement(name, int(differ.sum()) / max(1, int(counted.sum()))))
    return tuple(sorted(found, key=lambda image: (-image.share, image.name)))


def _differ(labels: Sequence[np.ndarray]) -> np.ndarray:
    """Where not all label maps of one shape agree: `(height, width)` bool."""
    differ: np.ndarray = np.any([one != labels[0] for one in labels[1:]], axis=0)
    return differ


def _setting_rows(comparison: Comparison) -> list[list[str]]:
    rows = [["setting", *(run.name for run in comparison.runs)]]
    for name, values in comparison.settings.items():
        cells = ["-" if value is None else documents.setting_text(value) for value in values]
        rows.append([name, *map(_shortened, cells)])
    return rows if len(rows) > 1 else [["all settings are equal"]]


def _score_rows(comparison: Comparison) -> list[list[str]]:
    """Scores of each run, and by how much they differ from those of the first."""
    scores = [run.scores or {"iou": {}} for run in comparison.runs]
    table: dict[str, list[Any]]
    table = {label: [of.get(key) for of in scores] for key, label in OVERALL.items()}
    for name in comparison.class_names:
        table[f"IoU {name}"] = [of["iou"].get(name) for of in scores]
    rows = [["score", *(run.name for run in comparison.runs)]]
    for label, (first, *others) in table.items():
        cells = [
            documents.decimal(one) + ("" if None in (first, one) else f" ({one - first:+.3f})")
            for one in others
        ]
        rows.append([label, documents.decimal(first), *cells])
    return rows


def _draw(runs: Sequence[ComparedRun], disagreement: Disagreement) -> Image.Image:
    """Image, truth and the labels of each run."""
    classes, images = runs[0].classes, [run.images[disagreement.name] for run in runs]
    colors = classes.palette(NODATA)
    truth, labels = images[0].truth(classes), [image.labels(classes) for image in images]
    pictures = {"image": images[0].image(), "truth": colors[truth]}
    for run, image, one in zip(runs, images, labels, strict=True):
        pictures[f"{run.name}   {documents.decimal(image.mean_iou)}"] = colors[one]
    differ = np.where(_differ(labels), 40, 235).astype(np.uint8)[..., None].repeat(3, axis=2)
    differ[truth == classes.nodata] = UNCOUNTED
    pictures["where they disagree"] = differ
    legend = [*legend_of(classes, [truth, *labels]), ("not counted", UNCOUNTED)]
    caption = f"{disagreement.name}   {disagreement.share:.1%} of pixels disputed"
    return draw_panel(pictures, legend, caption)


def _shortened(text: str) -> str:
    return text if len(text) <= CELL_CHARACTERS else f"{text[: CELL_CHARACTERS - 3]}..."
