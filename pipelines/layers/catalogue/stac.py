"""`--stac`: a catalogue of the label maps of a run, an item a scene."""

import hashlib
import json
import posixpath
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, count
from pathlib import PurePosixPath
from typing import Any

from pipelines.formats.work import Work
from pipelines.inputs.find import location_given
from pipelines.layers.catalogue import stac_fields as stac
from pipelines.layers.catalogue.items_table import items_schema, write_items
from pipelines.layers.catalogue.stac_collection import (
    CatalogueExtent,
    catalog_document,
    collection_document,
)
from pipelines.layers.catalogue.stac_items import (
    CatalogueText,
    ItemPlace,
    LabelledScene,
    item_document,
)
from pipelines.layers.catalogue.stac_model import model_document
from pipelines.layers.end import layer_part
from pipelines.layers.maps import LabelMaps, grid_of, map_of
from pipelines.layers.options import LayersOptions
from pipelines.layers.stages import (
    Layer,
    LayerEnd,
    SceneFiles,
    Stage,
    StageResult,
    StageWork,
    layer_failure,
)
from pipelines.rasters.cog import raster_tags
from pipelines.run.areas import Tally
from pipelines.run.commits import Output
from pipelines.run.directory import SAMPLE_DIR, RunDirectory
from pipelines.run.failures import Failure
from pipelines.run.plan import SCENE, WorkUnit, unit_id
from pipelines.run.seals import json_file
from pipelines.scenes.finished import complete_summary
from pipelines.scenes.overlaps import parse_date
from pipelines.storage import filesystem, locations
from pipelines.storage.digests import digest
from pipelines.storage.threads import in_order
from segmodel.errors import InputError, TransientError

ITEMS = "stac/items"
# Of more items a person wants no single list, and no folder.
MAX_TOGETHER = 10_000
# Programs that labelled, by the tag of a label map that has their version.
SOFTWARE = {"beamseg": "BEAMSEG_VERSION", "tensorflow": "BEAMSEG_TENSORFLOW_VERSION"}
_CATALOG = "catalog.json"
_TABLE, _COLLECTION, _MODEL = "stac/items.parquet", "stac/collection.json", "stac/model.json"


@dataclass(frozen=True)
class StacSettings:
    """That a catalogue was asked for; it has no options."""


@dataclass(frozen=True)
class WriteItem:
    """Writes the item of a label map.

    Args:
        text: What all documents of the catalogue say.
        inputs: `--input` of the run.
        has_folders: Whether items lie in folders, by the first digits of their digests.
        others: Files that other layers may have of a scene, by their stages.
    """

    text: CatalogueText
    inputs: tuple[str, ...]
    has_folders: bool
    others: Mapping[str, SceneFiles]

    def __call__(self, unit: WorkUnit, work: StageWork) -> StageResult:
        """Write the item of the label map of a unit."""
        of_layers, failures = self._of_layers(unit, work)
        scene = replace(self._scene(unit, work.labelled), of_layers=of_layers)
        folder = f"items/{scene.id[-16:][:2]}" if self.has_folders else "items"
        up = "../" * (folder.count("/") + 1)
        parent = f"./{_CATALOG}" if self.has_folders else f"{up}collection.json"
        place = ItemPlace(up, f"{up}../../", parent)
        path = f"stac/{folder}/{scene.id}.json"
        written = work.write(path, _content(item_document(scene, self.text, place)))
        return StageResult([written], Tally(images=1), 0, failures)

    def _of_layers(
        self, unit: WorkUnit, work: StageWork
    ) -> tuple[dict[str, Output], list[Failure]]:
        """Files that other layers have of a scene, and why there are none.

        Raises:
            TransientError: If one is not made yet.
        """
        found, outputs, failures = map_of(unit, self.text.classes), dict[str, Output](), []
        for stage, files in _named_stages(work, self.others).items():
            commit = work.stage(stage).log.read(files.unit(found))
            if commit is None:
                raise TransientError(
                    f"{found.key} has no {files.name} yet: run the command again that makes them"
                )
            if commit.tally.failed_images:
                error = InputError(f"it has no {files.name}, which failed")
                failures.append(layer_failure(unit.files[0], error))
            else:
                outputs[files.name] = commit.outputs[0]
        return outputs, failures

    def _scene(self, unit: WorkUnit, labelled: Work) -> LabelledScene:
        file = unit.files[0]
        commit = labelled.log.read_only(unit_id(SCENE, file))
        if commit is None:
            raise TransientError(f"{file.key} has no commit record: run `beamseg segment` again")
        grid, tags, classes = grid_of(file), raster_tags(file.uri), self.text.classes
        pixels = {number: commit.tally.pixels.get(str(number), 0) for number in classes.ids}
        rest = grid.window.pixels - sum(pixels.values())
        source = location_given(file.key, self.inputs)
        return LabelledScene(
            id=unit_id("", file),
            key=file.key,
            grid=grid,
            outputs=commit.outputs,
            pixels=pixels | {classes.nodata: rest},
            software={name: tags[tag] for name, tag in SOFTWARE.items() if tag in tags},
            acquired=parse_date(tags.get("TIFFTAG_DATETIME", "")),
            source=source if locations.scheme_of(source) else None,
        )


def _content(document: dict[str, Any]) -> bytes:
    return json_file(document, is_sealed=False)


def _named_stages(work: StageWork, others: Mapping[str, SceneFiles]) -> dict[str, SceneFiles]:
    """Those stages of other layers that have a file of each scene, in their order."""
    return {stage: files for stage, files in others.items() if stage in work.shapes}


def stac_layer(others: Sequence[Layer]) -> Layer:
    """The layer.

    Args:
        others: Layers that are made before it, whose files it names.
    """
    files = {stage: found for layer in others for stage, found in layer.scene_files.items()}
    names = tuple(layer.name for layer in others)
    stages, finish = partial(_stages, files), partial(_finish, names, files)
    return Layer("stac", _settings, stages, finish, others=tuple(others))


def _settings(options: LayersOptions) -> StacSettings | None:
    return StacSettings() if options.stac else None


def _stages(
    others: Mapping[str, SceneFiles], settings: StacSettings, maps: LabelMaps
) -> list[Stage]:
    document = maps.work.run.read_run() or {}
    inputs = tuple(document.get("options", {}).get("input", ()))
    text = _text(maps.work)
    write = WriteItem(text, inputs, len(maps) > MAX_TOGETHER, others)
    shape = {
        "collection": text.collection,
        "inputs": digest({"input": inputs}),
        "folders": write.has_folders,
    }
    return [Stage("stac/items", shape, lambda: (found.unit("item") for found in maps), write)]


def _text(labelled: Work) -> CatalogueText:
    """What all documents of the catalogue of a run say; no path of this machine."""
    name = stac.slug(locations.base_name(labelled.run.root))
    return CatalogueText(
        collection="-".join(part for part in (name, labelled.options) if part),
        classes=labelled.contract.classes,
        model_name=labelled.contract.name,
        fingerprint=labelled.fingerprint,
    )


def _finish(
    others: Sequence[str], of_scenes: Mapping[str, SceneFiles], work: StageWork
) -> LayerEnd:
    """Write collection, model and table of the items."""
    labelled = work.labelled
    text, extent = _text(labelled), CatalogueExtent()
    folders: dict[str, list[str]] = defaultdict(list)

    def items() -> Iterator[dict[str, Any]]:
        for path, item in _items(work):
            folders[posixpath.dirname(path)].append(item["id"])
            extent.add(item)
            yield _seen_from_table(item, path)

    assets = _assets(work, others)
    of_layers = (files.name for files in _named_stages(work, of_scenes).values())
    schema = items_schema((*labelled.map_folders, "areas", *of_layers), SOFTWARE)
    with work.written(_TABLE) as draft:
        collection = partial(collection_document, text, extent, assets)
        write_items(draft.path, items(), schema, collection)
    _write_catalogs(work, text, {} if ITEMS in folders else folders)
    work.write(_MODEL, _content(model_document(labelled.contract, text.fingerprint)))
    table = Output.of(_TABLE, draft.written)
    mirror = stac.file_asset("./items.parquet", table) | {"roles": ["collection-mirror"]}
    whole = collection_document(text, extent, {"items": mirror} | assets, _item_links(folders))
    about = {"items": sum(map(len, folders.values()))}
    return LayerEnd([work.write(_COLLECTION, _content(whole)), table], about)


def _write_catalogs(
    work: StageWork, text: CatalogueText, folders: Mapping[str, Sequence[str]]
) -> None:
    """Write a catalog for each folder of items, and remove those of folders that have none now."""
    for folder, ids in folders.items():
        name = PurePosixPath(folder).name
        work.write(f"{folder}/{_CATALOG}", _content(catalog_document(name, text, ids)))
    for name in filesystem.names_below(work.path(ITEMS)):
        if name.endswith(f"/{_CATALOG}") and f"{ITEMS}/{posixpath.dirname(name)}" not in folders:
            filesystem.remove_below_root(work.root, f"{ITEMS}/{name}")


def _items(work: StageWork) -> Iterator[tuple[str, dict[str, Any]]]:
    """Paths of all items, and the items; those of label maps that failed are left out."""
    paths = (
        output.path
        for _, commit in work.commits()
        for output in (() if commit is None else commit.outputs)
        if output.path.startswith(f"{ITEMS}/")
    )
    return in_order(lambda path: (path, json.loads(filesystem.read_bytes(work.path(path)))), paths)


def _seen_from_table(item: dict[str, Any], path: str) -> dict[str, Any]:
    """An item whose relative references begin at the table, which lies two folders up or more."""
    folder = posixpath.relpath(posixpath.dirname(path), posixpath.dirname(_TABLE))

    def moved(href: str) -> str:
        if not href.startswith("."):
            return href
        found = posixpath.normpath(posixpath.join(folder, href))
        return found if found.startswith(".") else f"./{found}"

    links = [entry | {"href": moved(entry["href"])} for entry in item["links"]]
    assets = {name: file | {"href": moved(file["href"])} for name, file in item["assets"].items()}
    return item | {"links": links, "assets": assets}


def _item_links(folders: Mapping[str, Sequence[str]]) -> Iterator[dict[str, Any]]:
    """From the collection to its items, or to the catalogs of the folders that they lie in."""
    for folder, ids in sorted(folders.items()):
        if folder != ITEMS:
            name = PurePosixPath(folder).name
            yield stac.link("child", f"./items/{name}/{_CATALOG}", title=name)
        for found in ids if folder == ITEMS else ():
            yield stac.link("item", f"./items/{found}.json", stac.GEOJSON)


def _assets(work: StageWork, others: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Files of all scenes together, by names of letters, digits, hyphens and underscores."""
    of_run = chain(_run_files(work.labelled), _accuracy_files(work))
    located = chain(
        ((output, f"../../{output.path}") for output in of_run),
        ((output, f"../{output.path}") for output in _layer_files(work, others)),
    )
    assets: dict[str, dict[str, Any]] = {}
    for output, place in located:
        name = slug = stac.slug(output.path.removeprefix(f"{SAMPLE_DIR}/"))
        for number in count(2):
            if name not in assets:
                break
            name = f"{slug}-{number}"
        assets[name] = stac.file_asset(stac.relative_href(place), output)
    return assets


def _run_files(labelled: Work) -> Iterator[Output]:
    """Tables and mosaics of the run, with the checksums that its summary has."""
    for name, sha256 in complete_summary(labelled).get("files", {}).items():
        size = filesystem.size_of(labelled.run.path(name))
        if size is not None:
            yield Output(name, size, sha256)


def _accuracy_files(work: StageWork) -> Iterator[Output]:
    """What a sample of this map says of its accuracy, if it lies in the run."""
    folder = work.labelled.run.path(SAMPLE_DIR)
    with suppress(FileNotFoundError, ValueError):
        found = json.loads(filesystem.read_bytes(f"{folder}/accuracy.json"))
        if isinstance(found, dict) and found.get("run_digest") == work.map_digest:
            for name in ("accuracy.csv", "accuracy.json"):
                content = filesystem.read_bytes(f"{folder}/{name}")
                sha256 = hashlib.sha256(content).hexdigest()
                yield Output(f"{SAMPLE_DIR}/{name}", len(content), sha256)


def _layer_files(work: StageWork, others: Sequence[str]) -> Iterator[Output]:
    """Files of other layers of the same map; those of single scenes are named by their items."""
    for layer in others:
        part = layer_part(RunDirectory(work.root), layer)
        if part is not None and part.map == work.map_digest:
            yield from part.outputs
