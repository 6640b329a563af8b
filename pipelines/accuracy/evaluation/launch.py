"""From options to an evaluation that is ready to start: checks, `run.json`, plan."""

from dataclasses import dataclass, replace
from typing import Any

import segmodel
from pipelines.accuracy.evaluation.inputs import (
    Matched,
    finished_maps,
    holds_points,
    is_vector_file,
    match,
    reference_files,
)
from pipelines.accuracy.evaluation.options import EvaluateOptions
from pipelines.accuracy.evaluation.points import POINTS_JSON, ReferencePoints, read_points
from pipelines.accuracy.evaluation.references import classes_of_texts, places_by_name
from pipelines.accuracy.evaluation.work import IMAGE, REFERENCE, EvaluateWork, counts_of_unit
from pipelines.datasets.launch import read_masks
from pipelines.datasets.splits import group_by_rule
from pipelines.formats.work import Work
from pipelines.geodesy.polygons import Polygons
from pipelines.geodesy.vector_files import read_class_polygons, read_zones
from pipelines.results.verify import open_run
from pipelines.run import plan
from pipelines.run.directory import EVALUATION, MARK, SEALED, RunDirectory, check_unchanged
from pipelines.run.plan import SCENE, Prepared, WorkUnit
from pipelines.run.polygons import ZONES, store
from pipelines.storage import filesystem, locations
from pipelines.storage.digests import digest
from segmodel.errors import ConfigurationError
from segmodel.labels.classes import ClassTable, format_color
from segmodel.labels.masks import MaskReader
from segmodel.reports.charts import need_matplotlib

RESULTS_OF_EVALUATION = (
    *("scores.json", "scores.csv", "images.csv", "matrices.parquet"),
    *("confusion.png", "reliability.png"),
)


@dataclass(frozen=True)
class ResolvedEvaluation:
    """An evaluation that can be carried out; nothing is written yet.

    Args:
        options: What the user asked for.
        work: Work that all units share.
        matched: What is compared.
        reference: Polygons or points that are the reference, or None for masks.
        zones: Zones, or None.
        shape: What shapes counts beside the files, as in `run.json`.
    """

    options: EvaluateOptions
    work: EvaluateWork
    matched: Matched
    reference: Polygons | ReferencePoints | None
    zones: Polygons | None
    shape: dict[str, Any]


def check_evaluation(root: str, options: EvaluateOptions) -> ResolvedEvaluation:
    """Check everything that can be checked before anything is written.

    Args:
        root: Run directory of the finished run.
        options: What the user asked for.

    Returns:
        The evaluation, which continues the one that the output folder holds, if any.

    Raises:
        ConfigurationError: If options, run, references or the output folder do not allow it.
    """
    need_matplotlib()
    options = replace(options, output=locations.checked(options.output))
    labelled = open_run(root)
    _check_apart(labelled.run.root, options.output)
    earlier = RunDirectory(options.output, EVALUATION).earlier(options.overwrite)
    classes = labelled.contract.classes
    reference, masks, places = _reference(options, classes)
    zones = None if options.zones is None else read_zones(options.zones, options.zone_field)
    shape = _shape_of(options, labelled, reference, masks, places, zones)
    if earlier is not None and not options.overwrite:
        check_unchanged(earlier, shape, options.output, "shape")
    files = None if reference is not None else reference_files(options.reference)
    matched = match(finished_maps(labelled), files, labelled.run)
    for unit in matched.units:
        # Images of shards have names of their own, which are not known before they are read.
        named = {SCENE: unit.files[:1], IMAGE: unit.files[::2]}.get(unit.format, ())
        for file in named:
            group_by_rule(file.name, options.group_by)
    work = EvaluateWork(
        output=options.output,
        labelled=labelled.run.root,
        options=digest(shape),
        classes=classes,
        masks=masks,
        places=places,
        polygons=reference.digest if isinstance(reference, Polygons) else None,
        points=reference.digest if isinstance(reference, ReferencePoints) else None,
        zones=None if zones is None else zones.digest,
        boundary_px=options.boundary_px,
        confidence=labelled.confidence,
        max_pixels=labelled.reading.max_pixels,
        pixel_size_m=labelled.pixel_size_m,
    )
    return ResolvedEvaluation(options, work, matched, reference, zones, shape)


def _check_apart(run: str, output: str) -> None:
    """Refuse to write results among those of the run."""
    if f"{locations.canonical(output)}/".startswith(f"{locations.canonical(run)}/"):
        raise ConfigurationError(
            f"--output {output} lies in the run {run}, whose files stay as they are: name a folder "
            f"of its own"
        )


def _reference(
    options: EvaluateOptions, classes: ClassTable
) -> tuple[Polygons | ReferencePoints | None, MaskReader | None, tuple[int, ...]]:
    """Polygons, points or the reader of masks, and the place of classes in the class table."""
    what = f"--reference {locations.base_name(options.reference)}"
    if is_vector_file(options.reference):
        for name in ("classes", "mask_encoding"):
            if getattr(options, name) is not None:
                raise ConfigurationError(f"--{name} is for masks, and {what} is a vector file")
        if holds_points(options.reference):
            if options.boundary_px is not None:
                raise ConfigurationError(f"--boundary_px needs boundaries, and {what} has points")
            return read_points(options.reference, options.class_field, classes), None, ()
        polygons = read_class_polygons(options.reference, options.class_field)
        return polygons, None, classes_of_texts(polygons.names, classes, what)
    if options.class_field is not None:
        raise ConfigurationError(f"--class_field is for vector files, and {what} is none")
    masks = read_masks(options.classes, options.mask_encoding)
    if masks is None:
        encoding = options.mask_encoding
        masks = MaskReader.of(classes, encoding) if encoding else MaskReader.of_label_maps(classes)
    return (
        None,
        masks,
        places_by_name(masks.mapping.classes, classes, f"--classes {options.classes}"),
    )


def _shape_of(
    options: EvaluateOptions,
    labelled: Work,
    reference: Polygons | ReferencePoints | None,
    masks: MaskReader | None,
    places: tuple[int, ...],
    zones: Polygons | None,
) -> dict[str, Any]:
    """What shapes counts, beside the files; frozen when an evaluation is begun."""
    shape: dict[str, Any] = {
        "run": labelled.options,
        "reference": "masks" if reference is None else reference.digest,
        "class_places": list(places),
        "boundary_px": options.boundary_px,
        "zones": None if zones is None else zones.digest,
    }
    if masks is not None:
        mapping = masks.mapping
        shape |= {
            "mask_encoding": masks.encoding,
            "ignore_colors": list(mapping.ignore_colors),
            "ignore_ids": list(mapping.ignore_ids),
            "classes": [[c.id, c.name, format_color(c.color)] for c in mapping.classes.classes],
        }
    return shape


def prepare_evaluation(resolved: ResolvedEvaluation) -> Prepared[EvaluateWork]:
    """Write `run.json` and the plan, and make what earlier attempts left agree with it."""
    options, work, matched = resolved.options, resolved.work, resolved.matched
    run = work.run
    if options.overwrite and run.earlier(overwrite=True) is not None:
        run.clear()
    for name in RESULTS_OF_EVALUATION:
        filesystem.remove(run.path(name))
    run.begin()
    document = {
        "shape": resolved.shape,
        "compared": {
            "maps": matched.maps,
            "without_reference": matched.without_reference,
            "unused_references": matched.unused,
        },
        "versions": {"beamseg": segmodel.__version__},
        SEALED: True,
    }
    run.write_run(MARK | {"format": EVALUATION} | document)
    reference = resolved.reference
    store(run, REFERENCE, reference if isinstance(reference, Polygons) else None)
    if isinstance(reference, ReferencePoints):
        run.write(POINTS_JSON, reference.to_bytes())
    else:
        run.remove(POINTS_JSON)
    store(run, ZONES, resolved.zones)
    parts = plan.write_plan(matched.units, run.plan, run.scratch)
    planned = {counts_of_unit(unit.id) for unit in matched.units}
    work.log.reconcile(plan.read_units(run.plan, WorkUnit), options.retry_failures, planned)
    return Prepared(work, tuple(parts), len(matched.units), matched.pixels)
