"""Input files by format: found, limited, checked, and cut into work units."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from pipelines import formats, plan, web
from pipelines.formats.interface import Estimate, Format, Reading, Work
from pipelines.formats.scene_counting import precedence
from pipelines.formats.scene_files import label_name
from pipelines.options import SegmentOptions
from pipelines.plan import InputFile, Unit
from segmodel.contract import Contract
from segmodel.errors import ConfigurationError
from segmodel.windows import Layout


@dataclass(frozen=True)
class Inputs:
    """Input files by format.

    Args:
        files: Files of each format, in order of formats.
        left_aside: Files that no format claims.
        records: Most images to read from a shard, by key, where the run is limited.
        grouped_files: Number of files that are dealt to groups, however the run is limited.
    """

    files: tuple[tuple[Format, tuple[InputFile, ...]], ...]
    left_aside: tuple[InputFile, ...]
    records: tuple[tuple[str, int], ...] = ()
    grouped_files: int = 0

    @property
    def every(self) -> list[InputFile]:
        """All files that will be read."""
        return [file for _, files in self.files for file in files]

    def of_format(self, name: str) -> tuple[InputFile, ...]:
        """Files of one format."""
        return next(files for entry, files in self.files if entry.name == name)


def find_inputs(
    options: SegmentOptions,
    contract: Contract,
    reading: Reading,
    folders: Mapping[str, str] | None = None,
) -> Inputs:
    """List, sort by format and check the input files.

    Raises:
        ConfigurationError: If a pattern matches nothing, or nothing that can be read.
        ContractError: If the model was not made for an input.
    """
    claimed: dict[str, list[InputFile]] = {entry.name: [] for entry in formats.FORMATS}
    left_aside: list[InputFile] = []
    for file in plan.find_inputs(options.inputs, options.output, folders):
        owner = next((e for e in formats.FORMATS if _may_read(e, file) and e.claims(file)), None)
        if owner is None:
            left_aside.append(file)
        else:
            claimed[owner.name].append(owner.identify(file))
    inputs = Inputs(
        tuple((entry, tuple(claimed[entry.name])) for entry in formats.FORMATS),
        tuple(left_aside),
        grouped_files=sum(len(claimed[entry.name]) for entry in formats.FORMATS if entry.grouped),
    )
    if not inputs.every:
        raise ConfigurationError(
            f"--input {' '.join(options.inputs)} matches {len(left_aside)} files, none of a format "
            f"that can be read: {'; '.join(entry.examples for entry in formats.FORMATS)}"
        )
    _check_names(inputs)
    if options.pixel_size is not None:
        contract.check_gsd(options.pixel_size, "--pixel_size")
    if options.limit is not None:
        inputs = _limited(inputs, options.limit, reading)
    for entry, files in inputs.files:
        if files:
            entry.check(files, contract, reading)
    return inputs


def _may_read(entry: Format, file: InputFile) -> bool:
    """Whether a format can reach a file: only GDAL reads from the web."""
    return entry.name == "scene" or not web.is_read_by_gdal(file.uri)


def _check_names(inputs: Inputs) -> None:
    """Refuse files whose label maps would have one name, or that of a folder of label maps.

    Raises:
        ConfigurationError: Names both.
    """
    folders = {folder for file in inputs.every for folder in _folders_above(file.key)}
    grouped = (files for entry, files in inputs.files if entry.grouped)
    for name in (file.key for files in grouped for file in files):
        if f"{name}.png" in folders:
            raise ConfigurationError(
                f"the label map of {name} and those of the folder {name}.png would have the same "
                f"name: rename one of them"
            )
    maps: dict[str, str] = {}
    for file in inputs.of_format("scene"):
        other = maps.setdefault(label_name(file.key), file.key)
        if other != file.key:
            raise ConfigurationError(
                f"the label maps of {other} and {file.key} would have the same name: rename one of "
                f"them"
            )


def _folders_above(name: str) -> Iterator[str]:
    """Folders that a file is in.

    >>> list(_folders_above("in/a/b.png"))
    ['in/a', 'in']
    """
    while name := name.rpartition("/")[0]:
        yield name


def check_scene_options(options: SegmentOptions, contract: Contract, inputs: Inputs) -> None:
    """Refuse options about scenes that would have no effect, or cannot be carried out.

    Raises:
        ConfigurationError: Names the option.
    """
    given = [
        name
        for name in ("bands", "resample_to", "aoi", "zones", "overlap", "check_seams")
        if getattr(options, name)
    ]
    scenes = inputs.of_format("scene")
    if given and not scenes:
        raise ConfigurationError(
            f"--{given[0]} is for scenes, and no --input is a raster with a place on the ground"
        )
    if options.check_seams and contract.fixed_window is not None:
        raise ConfigurationError(
            "--check_seams needs windows that can be moved; this model has a fixed one"
        )
    if options.overlap is not None:
        precedence(scenes, options.overlap)


def _limited(inputs: Inputs, limit: int, reading: Reading) -> Inputs:
    """The first images only: in order of formats, files and records."""
    kept, records, left = [], [], limit
    for entry, files in inputs.files:
        chosen = []
        for file in files:
            if left <= 0:
                break
            count = entry.count(file, left, reading)
            chosen.append(file)
            records.append((file.key, count))
            left -= count
        kept.append((entry, tuple(chosen)))
    return replace(inputs, files=tuple(kept), records=tuple(records))


def units_of(inputs: Inputs, work: Work) -> Iterator[Unit]:
    """Work units of all inputs."""
    records = dict(inputs.records)
    for entry, files in inputs.files:
        if not records:
            yield from entry.units(files, work, None)
            continue
        for count in sorted({records[file.key] for file in files}):
            chosen = [file for file in files if records[file.key] == count]
            yield from entry.units(chosen, work, count)


def estimate(inputs: Inputs, layout: Layout, reading: Reading) -> Estimate:
    """Images, pixels and windows of all inputs."""
    parts = [entry.estimate(files, layout, reading) for entry, files in inputs.files if files]
    return Estimate(
        images=sum(part.images for part in parts),
        pixels=sum(part.pixels for part in parts),
        windows=sum(part.windows for part in parts),
        computed=sum(part.computed for part in parts),
        exact=all(part.exact for part in parts),
    )
