"""The scores of a model, and its card: what it is for, made of, worth, and where it fails.

After Mitchell et al., Model Cards for Model Reporting (2019), in short.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from segmodel.escaping import inert
from segmodel.evaluation.evaluate import Evaluation
from segmodel.labels.classes import ClassTable
from segmodel.reports.charts import write_confusion, write_curves
from segmodel.reports.documents import decimal, flattened, read_history, read_json, render
from segmodel.reports.kept_images import KeptImage, best_and_worst, read_kept
from segmodel.reports.panels import draw_classes, draw_errors
from segmodel.savedmodel.contract import Contract

PER_CLASS = {"iou": "IoU", "f1": "F1", "precision": "precision", "recall": "recall"}
OVERALL = {
    "mean_iou": "mean IoU",
    "pixel_accuracy": "pixel accuracy",
    "frequency_weighted_iou": "frequency-weighted IoU",
    "mean_f1": "mean F1",
}
# Settings that other sections of the card show than the table of all settings.
ELSEWHERE = ("run.", "classes.", "data.", "model.bands.", "model.dtype.", "model.name.")


def write_scores(folder: str | Path, evaluation: Evaluation, classes: ClassTable) -> None:
    """Write `scores.json`, `scores.csv` and `confusion.png`.

    Args:
        folder: Folder of the run.
        evaluation: Scores of the validation pairs.
        classes: Class table of the model.

    Raises:
        ConfigurationError: If matplotlib is missing.
    """
    folder, document = Path(folder), score_document(evaluation, classes)
    (folder / "scores.json").write_text(json.dumps(document, indent=1) + "\n", "utf-8")
    columns = ["class", *PER_CLASS, "true_pixels", "pixel_accuracy", "frequency_weighted_iou"]
    with (folder / "scores.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, columns, lineterminator="\n")
        table.writeheader()
        for name, pixels in document["pixels"].items():
            scores = {key: document[key][name] for key in PER_CLASS}
            table.writerow({"class": inert(name), **scores, "true_pixels": pixels})
        overall = {key: document[key] for key in columns[-2:]}
        means = {"iou": document["mean_iou"], "f1": document["mean_f1"]}
        pixels = sum(document["pixels"].values())
        table.writerow({"class": "(all)", **means, "true_pixels": pixels, **overall})
    write_confusion(folder / "confusion.png", evaluation.matrix, classes.names)


def score_document(evaluation: Evaluation, classes: ClassTable) -> dict[str, Any]:
    """Scores of the whole set and of each image, as `scores.json` holds them.

    Args:
        evaluation: Scores of the validation pairs.
        classes: Class table of the model.

    Returns:
        Values that JSON has. What is absent is None. `confusion` has the order of `classes`, and
        its rows are truth.
    """
    return {
        **evaluation.scores.to_json(classes.names),
        "pixels": dict(zip(classes.names, evaluation.matrix.sum(axis=1).tolist(), strict=True)),
        "classes": list(classes.names),
        "confusion": evaluation.matrix.tolist(),
        "images": [
            {
                "name": image.name,
                "mean_iou": image.scores.mean_iou,
                "pixel_accuracy": image.scores.pixel_accuracy,
                "pixels": int(image.pixels.sum()),
            }
            for image in evaluation.per_image
        ],
    }


def write_card(folder: str | Path, contract: Contract) -> None:
    """Write `card.md`, `curves.png` and `pictures/` of a run that is otherwise complete.

    Args:
        folder: Folder of the run, with `configuration.json`, `history.jsonl`, what `write_scores`
            writes and, for examples, `validation/`.
        contract: Contract of the model that was exported.

    Raises:
        ConfigurationError: If a file of the run is missing, or matplotlib is.
    """
    folder = Path(folder)
    configuration = read_json(folder / "configuration.json")
    scores = read_json(folder / "scores.json")
    write_curves(folder / "curves.png", read_history(folder / "history.jsonl"), contract.classes)
    pictures = folder / "pictures"
    pictures.mkdir(exist_ok=True)
    draw_classes(contract.classes).save(pictures / "classes.png")
    values = flattened(configuration)
    settings = {key: values[key] for key in values if not f"{key}.".startswith(ELSEWHERE)}
    text = render(
        "card.md.jinja",
        contract=contract,
        scores=scores,
        overall=OVERALL,
        per_class=PER_CLASS,
        data=configuration.get("data", {}),
        keep=configuration.get("training", {}).get("keep"),
        settings=settings,
        examples=_draw_examples(pictures, read_kept(folder / "validation"), contract.classes),
    )
    (folder / "card.md").write_text(text, "utf-8")


def _draw_examples(
    folder: Path, images: list[KeptImage], classes: ClassTable
) -> dict[str, list[KeptImage]]:
    """Draw panels of the best and the worst images; returns the images by the kind they are."""
    for old in (*folder.glob("best-*.png"), *folder.glob("worst-*.png")):
        old.unlink()
    examples = dict(zip(("best", "worst"), best_and_worst(images), strict=True))
    for kind, some in examples.items():
        for number, image in enumerate(some, 1):
            caption = f"{image.name}   mean IoU {decimal(image.mean_iou)}"
            pixels, truth, labels = image.image(), image.truth(classes), image.labels(classes)
            panel = draw_errors(pixels, truth, labels, classes, caption)
            panel.save(folder / f"{kind}-{number}.png")
    return examples
