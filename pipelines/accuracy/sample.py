"""A stratified random sample of a finished run, and its files."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from functools import lru_cache
from itertools import chain, repeat
from typing import NamedTuple

from pyproj import Transformer
from pyproj.exceptions import ProjError

from pipelines.accuracy.buffers import Buffer, BufferWork, prepare_pass, run_pass
from pipelines.accuracy.chips import write_chips
from pipelines.accuracy.design import (
    DESIGN_JSON,
    SampleDesign,
    SamplePoint,
    Stratum,
    read_design,
)
from pipelines.accuracy.draw import DrawnPixel, draw, random_of
from pipelines.accuracy.map_blocks import by_scene
from pipelines.accuracy.sample_files import check_folder, complete_tables
from pipelines.accuracy.sample_options import CLASS_BY_ZONE, SampleOptions
from pipelines.accuracy.sizes import added_sizes, sizes_of
from pipelines.accuracy.strata import (
    ANY,
    Population,
    StratumKey,
    check_zones,
    names_of_classes,
)
from pipelines.formats.work import Work
from pipelines.rasters.cog import read_pixels
from pipelines.results.verify import open_run
from pipelines.run.directory import SAMPLE_DIR, RunDirectory
from pipelines.run.plan import InputFile
from pipelines.scenes.files import scene_paths
from pipelines.scenes.finished import complete_summary, label_ground, label_uri, run_digest_of
from pipelines.scenes.results import repeated_ground
from pipelines.storage import filesystem
from pipelines.storage.threads import in_order
from segmodel.errors import ConfigurationError

WGS84 = "EPSG:4326"
# Decimals of degrees: a tenth of a millimetre.
DECIMALS = 9


@dataclass(frozen=True)
class SampleResult:
    """What `sample` did.

    Args:
        folder: Folder of the sample.
        design: The design.
        without_chips: Points of which no chip can be made, as their scenes are gone from the run.
        unplaced: Images of the run that have no place on the ground.
        repeated: What is to be known of ground that scenes share, unless it counts once.
    """

    folder: str
    design: SampleDesign
    without_chips: int
    unplaced: int
    repeated: tuple[str, ...]


def sample_run(root: str, options: SampleOptions, beam_words: Sequence[str] = ()) -> SampleResult:
    """Draw a sample from a finished run, or enlarge one; an earlier sample keeps what it has.

    Args:
        root: Run directory; only read, but for the folder of the sample.
        options: What the user asked for.
        beam_words: Options of Beam for the pass that counts a buffer.

    Raises:
        ConfigurationError: If the run is not complete, the options do not fit it, or the folder
            holds another sample.
    """
    work = open_run(root)
    summary = complete_summary(work)
    folder = RunDirectory(options.output or work.run.path(SAMPLE_DIR))
    check_folder(folder)
    run_digest = run_digest_of(work.run.read_run() or {}, work.log)
    earlier = None
    if filesystem.exists(folder.path(DESIGN_JSON)):
        earlier = read_design(folder.path(DESIGN_JSON))
    if options.add is None:
        buffer = _buffer(options, names_of_classes(work))
        known = None if earlier is None else (earlier.run_digest, earlier.buffer)
        if known not in (None, (run_digest, buffer and astuple(buffer))):
            raise _another_sample(folder)
        near = _counted_near(work, folder, buffer, run_digest, options.strata, beam_words)
        drawn = _first_sample(work, options, run_digest, near)
        if earlier not in (None, drawn.design):
            raise _another_sample(folder)
    elif earlier is None:
        raise ConfigurationError(f"--add: {folder.root} holds no {DESIGN_JSON} to enlarge")
    elif earlier.run_digest != run_digest:
        raise ConfigurationError(
            f"--add: {folder.root} is the sample of another map than {work.run.root} has now: "
            f"draw a new one into another --output"
        )
    else:
        buffer = None if earlier.buffer is None else Buffer(*earlier.buffer)
        near = _counted_near(work, folder, buffer, run_digest, earlier.strata_by, beam_words)
        drawn = _enlarged_sample(work, earlier, options.add, near)
    folder.make()
    without_chips = write_chips(drawn.new_points, work, folder, options.chip_px)
    if earlier is None:
        # It says whose tables they are.
        folder.write(DESIGN_JSON, drawn.design.to_bytes())
    complete_tables(folder, drawn.design)
    # Points are added once, however often the command is interrupted.
    folder.write(DESIGN_JSON, drawn.design.to_bytes())
    folder.clear_scratch()
    repeated = tuple(repeated_ground(summary))
    return SampleResult(folder.root, drawn.design, without_chips, drawn.unplaced, repeated)


@dataclass(frozen=True)
class _DrawnSample:
    """A design, and its new points with their scenes."""

    design: SampleDesign
    new_points: list[tuple[SamplePoint, InputFile]]
    unplaced: int


def _another_sample(folder: RunDirectory) -> ConfigurationError:
    return ConfigurationError(
        f"{folder.root} holds another sample: enlarge it with --add, or name another --output"
    )


def _counted_near(
    work: Work,
    folder: RunDirectory,
    buffer: Buffer | None,
    run_digest: str,
    strata_by: str,
    beam_words: Sequence[str],
) -> BufferWork | None:
    """The buffer, counted by this pass or an earlier one; None if there is none.

    Raises:
        ConfigurationError: If Beam's options have nothing to do.
    """
    if buffer is None:
        if beam_words:
            raise ConfigurationError(
                f"{beam_words[0]} is for the pass over label maps that --buffer_px needs: leave "
                f"options of Beam out"
            )
        return None
    by_zone = strata_by == CLASS_BY_ZONE
    if by_zone:
        check_zones(work, strata_by)
    prepared = prepare_pass(work, folder.root, buffer, run_digest, by_zone=by_zone)
    if prepared.pixels:
        run_pass(prepared, beam_words)
    prepared.work.run.clear_scratch()
    return prepared.work


def _first_sample(
    work: Work, options: SampleOptions, run_digest: str, near: BufferWork | None
) -> _DrawnSample:
    names = names_of_classes(work)
    population = Population.of(work, options.strata, near)
    sizes = sizes_of(options, population.areas_m2, names)
    new = _points_of(draw(population, sizes, options.seed, {}), options.seed, 0, work)
    strata = tuple(
        _stratum(key, area, sizes[key], names) for key, area in population.areas_m2.items()
    )
    points = tuple(point for point, _ in new)
    classes = tuple(names.items())
    design = SampleDesign(
        run_digest=run_digest,
        seed=options.seed,
        strata_by=options.strata,
        classes=classes,
        strata=strata,
        points=points,
        buffer=None if near is None else (near.buffer.class_id, near.buffer.distance_px),
    )
    return _DrawnSample(design, new, population.unplaced)


def _enlarged_sample(
    work: Work, earlier: SampleDesign, add: int, near: BufferWork | None
) -> _DrawnSample:
    """A sample with more points behind those that it has.

    Raises:
        ConfigurationError: If zones are not those of the sample any more.
    """
    names = names_of_classes(work)
    population = Population.of(work, earlier.strata_by, near)
    keys = {key: key.name(names) for key in population.areas_m2}
    if {keys[k]: area for k, area in population.areas_m2.items()} != {
        stratum.name: stratum.area_m2 for stratum in earlier.strata
    }:
        raise ConfigurationError(
            "--add: the zones of the run are not those that the sample was drawn by: give "
            "`beamseg segment` the former --zones, or draw a new sample into another --output"
        )
    points = {stratum.name: stratum.points for stratum in earlier.strata}
    before = {key: points[name] for key, name in keys.items()}
    sizes = added_sizes(add, before)
    drawn = draw(population, sizes, earlier.seed, before)
    new = _points_of(drawn, earlier.seed, len(earlier.points), work)
    strata = tuple(
        _stratum(key, area, before[key] + sizes.get(key, 0), names)
        for key, area in population.areas_m2.items()
    )
    points_now = (*earlier.points, *(point for point, _ in new))
    design = replace(earlier, strata=strata, points=points_now)
    return _DrawnSample(design, new, population.unplaced)


def _buffer(options: SampleOptions, names: Mapping[int, str]) -> Buffer | None:
    """The buffer that options ask for.

    Raises:
        ConfigurationError: If there is no such class.
    """
    if options.buffer_px is None:
        return None
    for class_id, name in names.items():
        if name == options.buffer_class:
            return Buffer(class_id, options.buffer_px)
    raise ConfigurationError(
        f"--buffer_class names {options.buffer_class!r}, which is no class of the map: "
        f"{', '.join(names.values())}"
    )


def _stratum(key: StratumKey, area_m2: float, points: int, names: Mapping[int, str]) -> Stratum:
    class_id = None if key.class_id == ANY else key.class_id
    is_buffer = key.around != ANY
    return Stratum(key.name(names), class_id, key.zone or None, is_buffer, area_m2, points)


def _points_of(
    drawn: Mapping[StratumKey, Sequence[DrawnPixel]],
    seed: int,
    first: int,
    work: Work,
) -> list[tuple[SamplePoint, InputFile]]:
    """Points of drawn pixels in shuffled order, each with its scene.

    Args:
        drawn: Pixels by stratum.
        seed: Seed of the sample.
        first: Number of points that the sample has already.
        work: What all units of the run had in common.
    """
    names = names_of_classes(work)
    pixels = [(key.name(names), pixel) for key, found in drawn.items() for pixel in found]
    order = random_of(seed, "order", str(first)).permutation(len(pixels)).tolist()
    numbered = [_Numbered(n, *pixels[place]) for n, place in enumerate(order, first + 1)]
    groups = by_scene((entry.pixel.file, entry) for entry in numbered)
    located = in_order(lambda group: _located(*group, work), groups)
    return sorted(chain.from_iterable(located), key=lambda pair: int(pair[0].id[1:]))


class _Numbered(NamedTuple):
    """A drawn pixel with the number of its point, and the name of its stratum."""

    number: int
    stratum: str
    pixel: DrawnPixel

    @property
    def row(self) -> int:
        """Row in the scene."""
        return self.pixel.row

    @property
    def column(self) -> int:
        """Column in the scene."""
        return self.pixel.column


def _located(
    file: InputFile, entries: Sequence[_Numbered], work: Work
) -> list[tuple[SamplePoint, InputFile]]:
    """Points of a scene."""
    levels: Iterable[tuple[int, ...] | None] = repeat(None)
    if work.probabilities:
        path = work.run.path(scene_paths(file).probabilities)
        found = read_pixels(path, [(entry.row, entry.column) for entry in entries])
        levels = map(tuple, found.tolist())
    return [
        (
            SamplePoint(
                f"p{entry.number:05d}",
                *_lon_lat(entry.pixel, work),
                stratum=entry.stratum,
                map_class=entry.pixel.class_id,
                scene=file.key,
                row=entry.row,
                column=entry.column,
                probabilities=probabilities,
            ),
            file,
        )
        for entry, probabilities in zip(entries, levels, strict=False)
    ]


def _lon_lat(pixel: DrawnPixel, work: Work) -> tuple[float, float]:
    """Longitude and latitude of the centre of a pixel on WGS 84, in degrees.

    Raises:
        ConfigurationError: If the scene is not on the Earth.
    """
    ground = label_ground(label_uri(pixel.file, work))
    x, y = ground.coordinates(pixel.column + 0.5, pixel.row + 0.5)
    try:
        lon, lat = _to_wgs84(ground.crs_wkt).transform(x, y, errcheck=True)
    except ProjError as error:
        raise ConfigurationError(
            f"{pixel.file.key} has no longitude and latitude on the Earth: sample a run of other "
            f"scenes"
        ) from error
    return round(lon, DECIMALS), round(lat, DECIMALS)


@lru_cache(64)
def _to_wgs84(crs_wkt: str) -> Transformer:
    return Transformer.from_crs(crs_wkt, WGS84, always_xy=True)
