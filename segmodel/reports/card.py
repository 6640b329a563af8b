"""The model card: what a model is for, made of, worth, and where it fails.

After Mitchell et al., Model Cards for Model Reporting (2019), in short.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from segmodel.errors import ConfigurationError
from segmodel.labels.classes import ClassTable, format_color
from segmodel.reports.charts import read_history, write_curves
from segmodel.reports.kept_images import KeptImage, best_and_worst, read_kept
from segmodel.reports.panels import draw_classes, draw_errors
from segmodel.reports.score_report import decimal, escaped, markdown_table, score_markdown
from segmodel.savedmodel.contract import Contract

# Settings that the other sections of the card show.
ELSEWHERE = ("run", "classes", "data", "model.bands", "model.dtype", "model.name")
WEAK_IOU = 0.5


def write_card(folder: str | Path, contract: Contract) -> None:
    """Write `card.md`, `curves.png` and `pictures/` of a run that is otherwise complete.

    Args:
        folder: Of the run, with `configuration.json`, `history.jsonl`, what `write_scores` writes
            and, for examples, `validation/`.
        contract: Of the model that was exported.

    Raises:
        ConfigurationError: If a file of the run is missing, or matplotlib is.
    """
    folder = Path(folder)
    configuration = read_json(folder / "configuration.json")
    scores = read_json(folder / "scores.json")
    history = read_history(folder / "history.jsonl")
    pictures = folder / "pictures"
    pictures.mkdir(exist_ok=True)
    write_curves(folder / "curves.png", history, contract.classes)
    draw_classes(contract.classes).save(pictures / "classes.png")
    examples = _write_examples(pictures, read_kept(folder / "validation"), contract.classes)
    sections = [
        f"# {escaped(contract.name)}\n\n{_purpose(contract)}",
        f"## Classes\n\n{_classes(contract.classes)}",
        f"## Input and network\n\n{_input(contract)}",
        f"## Training data\n\n{_training_data(contract, configuration, scores)}",
        f"## Scores on validation\n\n{score_markdown(scores)}",
        "Of the pixels of each true class, how many were given which:\n\n"
        "![confusion matrix](confusion.png)",
        f"## Confidence\n\n{_calibration(contract)}",
        f"## Training\n\n![loss and IoU over steps](curves.png)\n\n{_settings(configuration)}",
        *examples,
        f"## Limits\n\n{_limits(contract, configuration, scores)}",
    ]
    (folder / "card.md").write_text("\n\n".join(sections) + "\n", "utf-8")


def read_json(path: Path) -> dict[str, Any]:
    """An object in a file of a run.

    Raises:
        ConfigurationError: If there is none.
    """
    try:
        document = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise ConfigurationError(f"{path}: is not JSON: {error}") from None
    if not isinstance(document, dict):
        raise ConfigurationError(f"{path}: must hold an object, got {type(document).__name__}")
    return document


def flattened(document: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Values by dotted name; lists stay as they are.

    >>> flattened({"training": {"loss": {"dice": 1.0}, "stages": []}, "run": "a"})
    {'training.loss.dice': 1.0, 'training.stages': [], 'run': 'a'}
    """
    values: dict[str, Any] = {}
    for key, value in document.items():
        name = f"{above}{key}"
        values |= flattened(value, f"{name}.") if isinstance(value, Mapping) else {name: value}
    return values


def shown_value(value: Any) -> str:
    """A setting as TOML would have it, near enough.

    >>> shown_value([1, "a"]), shown_value("adamw"), shown_value(True), shown_value([])
    ('[1, "a"]', 'adamw', 'true', '[]')
    """
    return value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)


def _purpose(contract: Contract) -> str:
    kinds = ", ".join(escaped(name) for name in contract.classes.names[:10])
    more = len(contract.classes.names) - 10
    kinds += f" and {more} more" if more > 0 else ""
    return (
        f"Gives every pixel of an image one of {len(contract.classes.names)} classes: {kinds}. "
        f"Made for `beamseg segment` and for "
        f"`segmodel.predictor.Predictor`; the model is in `model/`."
    )


def _classes(classes: ClassTable) -> str:
    rows = [["class", "value in label maps", "color"]]
    rows += [[entry.name, str(entry.id), format_color(entry.color)] for entry in classes.classes]
    table = markdown_table(rows, numbers=False)
    nodata = f"Nodata is {classes.nodata} in {classes.label_dtype} maps."
    return f"![colors of the classes](pictures/classes.png)\n\n{table}\n\n{nodata}"


def _input(contract: Contract) -> str:
    low, high = contract.value_range
    halo, fixed = contract.halo, contract.fixed_window
    equal = "not measured"
    if halo.equal_labels is not None:
        equal = f"{halo.equal_labels:.2%} of labels as without windows of {halo.window_px} pixels"
    rows = [
        ["property", "value"],
        ["bands", ", ".join(contract.bands)],
        ["sample type", contract.dtype],
        ["value range", f"{low:g} to {high:g}"],
        ["nodata is filled with", ", ".join(f"{value:g}" for value in contract.nodata_fill)],
        ["ground sample distance", _range(contract.gsd_range_m)],
        ["architecture", contract.architecture],
        ["weights", "unknown" if contract.parameters is None else f"{contract.parameters:,}"],
        ["stride", f"{contract.stride} pixels"],
        ["receptive field", _pixels(contract.receptive_field, "the whole window")],
        ["halo", f"{halo.pixels} pixels ({equal})"],
        ["fixed window", _pixels(fixed, "none")],
        ["memory on a CPU", _pixels(contract.bytes_per_pixel, "not measured", "bytes a pixel")],
    ]
    return markdown_table(rows, numbers=False)


def _training_data(
    contract: Contract, configuration: Mapping[str, Any], scores: Mapping[str, Any]
) -> str:
    given = dict(contract.training_data)
    rows = [["what", "value"]]
    if about := given.pop("about", ""):
        rows.append(["about", str(about)])
    rows += [[key.replace("_", " "), shown_value(value)] for key, value in given.items()]
    data = configuration.get("data", {})
    for key in ("images", "shards", "validation_images", "validation_shards"):
        if data.get(key):
            rows.append([f"{key.replace('_', ' ')} from", ", ".join(data[key])])
    pixels = sum(scores["pixels"].values())
    rows.append(["validated on", f"{len(scores['images']):,} images, {pixels:,} counted pixels"])
    return markdown_table(rows, numbers=False)


def _calibration(contract: Contract) -> str:
    found = contract.calibration
    if found is None or not found.pixels:
        return "Confidence is the softmax of the network; it was not calibrated."
    if found.temperature == 1:
        return (
            f"No temperature makes confidence better on pixels that it was not fitted on. The "
            f"expected calibration error is {found.error_before:.4f} on {found.pixels:,} "
            f"validation pixels (Guo et al. 2017)."
        )
    return (
        f"Logits are divided by {found.temperature:.3f} before the softmax, fitted on "
        f"{found.pixels:,} validation pixels (Guo et al. 2017). Fitted on one half of them and "
        f"measured on the other, the expected calibration error is {found.error_after:.4f}; it "
        f"was {found.error_before:.4f} before."
    )


def _settings(configuration: Mapping[str, Any]) -> str:
    rows = [["setting", "value"]]
    for name, value in flattened(configuration).items():
        if not any(name == other or name.startswith(f"{other}.") for other in ELSEWHERE):
            rows.append([name, shown_value(value)])
    table = markdown_table(rows, numbers=False)
    return f"<details><summary>All settings</summary>\n\n{table}\n\n</details>"


def _write_examples(folder: Path, images: Sequence[KeptImage], classes: ClassTable) -> list[str]:
    """Panels of the best and the worst images, and the sections that show them."""
    for old in (*folder.glob("best-*.png"), *folder.glob("worst-*.png")):
        old.unlink()
    sections = []
    for kind, some in zip(("best", "worst"), best_and_worst(images), strict=True):
        parts = [f"## The {kind} validation images"] if some else []
        for number, image in enumerate(some, 1):
            caption = f"{image.name}   mean IoU {decimal(image.mean_iou)}"
            pixels, truth, labels = image.image(), image.truth(classes), image.labels(classes)
            name = f"{kind}-{number}.png"
            draw_errors(pixels, truth, labels, classes, caption).save(folder / name)
            text = f"{escaped(image.name)}, mean IoU {decimal(image.mean_iou)}"
            parts.append(f"![{text}](pictures/{name})")
        sections += parts
    return sections


def _limits(contract: Contract, configuration: Mapping[str, Any], scores: Mapping[str, Any]) -> str:
    found = scores["iou"]
    weak = [name for name, value in found.items() if value is not None and value < WEAK_IOU]
    absent = [name for name, count in scores["pixels"].items() if not count]
    lines = [
        "- The scores hold for images like those of validation. For another region, season, "
        "sensor or ground sample distance, label some images and measure again.",
    ]
    if configuration.get("training", {}).get("keep") == "best":
        lines.append(
            "- The weights are those of the best validation, so its scores are a little too good: "
            "images that chose nothing give fairer ones, as `--folds_by group` does."
        )
    if weak:
        listed = ", ".join(f"{escaped(name)} ({found[name]:.2f})" for name in weak)
        lines.append(f"- IoU is below {WEAK_IOU} for {listed}.")
    if absent:
        listed = ", ".join(escaped(name) for name in absent)
        lines.append(f"- Validation has no pixel of {listed}: nothing is known of it.")
    if given := [name for name in absent if found[name] is not None]:
        listed = ", ".join(escaped(name) for name in given)
        lines.append(
            f"- Some pixels were given {listed} all the same, which is an IoU of 0 in the mean: of "
            f"the classes that validation has, it is {decimal(scores['mean_iou_of_truth'])}."
        )
    if contract.fixed_window is None and contract.halo.equal_labels is None:
        lines.append(
            "- The halo is not measured, as validation images are too small to be cut: it is half "
            "the receptive field."
        )
    if contract.gsd_range_m is None:
        lines.append("- No range of ground sample distances was given, so none is refused.")
    if contract.fixed_window is not None:
        lines.append(
            "- The network looks at the whole window, so labels near the edges of windows depend "
            "on where they are cut."
        )
    lines.append(
        "- Images that look like no class here still get one: confidence says how sure the "
        "network is among these classes, not whether one of them is right."
    )
    return "\n".join(lines)


def _range(limits: tuple[float, float] | None) -> str:
    return "any" if limits is None else f"{limits[0]:g} to {limits[1]:g} m a pixel"


def _pixels(value: int | None, otherwise: str, unit: str = "pixels") -> str:
    return otherwise if value is None else f"{value:,} {unit}"
