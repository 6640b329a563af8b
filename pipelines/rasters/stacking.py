"""Band files as one raster: a VRT that is written nowhere, on the grid of one of them."""

import hashlib
import os
from collections.abc import Sequence
from xml.sax.saxutils import escape

from rasterio.dtypes import dtype_rev, typename_fwd

from pipelines.inputs.catalogue import Catalogue
from pipelines.inputs.stacks import FINEST, BandFiles, StackRule, bands_of, group_bands
from pipelines.rasters.header import Headers
from pipelines.run.plan import InputFile
from pipelines.storage import locations
from segmodel.errors import ConfigurationError, FailureCode, InputError
from segmodel.escaping import xml_text
from segmodel.rasters.header import Header

Member = tuple[InputFile, Header]


def stacked(
    catalogue: Catalogue, rule: StackRule, wanted: Sequence[str], headers: Headers
) -> tuple[Catalogue, list[InputFile]]:
    """Scenes that are put together from band files.

    Args:
        catalogue: All input files.
        rule: Which of them are the bands of one scene.
        wanted: Names of bands that the model takes.
        headers: Headers of rasters that have been read.

    Returns:
        A catalogue of scenes in place of files, and the files that are in none.

    Raises:
        ConfigurationError: If the rule finds none.
    """
    stacks, others = group_bands(catalogue, rule)
    if not stacks:
        raise ConfigurationError(
            f"--stack: no file of --input matches {rule.settings.pattern}: it is about paths below "
            f"the folder of --input"
        )
    for _ in headers.find_all(file for stack in stacks for file in stack.every):
        pass
    known = frozenset(band for stack in stacks for band in stack.files)
    found = Catalogue()
    for stack in stacks:
        names = bands_of(stack, rule, wanted, known)
        file = _stack_file(stack, rule, names, headers)
        found.add(file.uri, file)
    return found, others


def _stack_file(
    stack: BandFiles, rule: StackRule, names: dict[str, str], headers: Headers
) -> InputFile:
    """A scene of band files as an input file, whose version is that of all of them."""
    members = stack.every
    place = f"{os.path.dirname(members[0].uri)}/{stack.scene}.vrt"
    try:
        chosen = {name: _choose(stack, name, band, headers) for name, band in names.items()}
        content = _vrt(chosen, rule, place)
        members = [file for file, _ in chosen.values()]
    except InputError as error:
        content = locations.no_stack(error.code, error.text)
    states = [(file.name, file.size, file.version) for file in members]
    version = hashlib.sha256(repr((states, content)).encode()).hexdigest()[:16]
    uri = locations.stack_uri(place, content)
    size = sum(file.size for file in members)
    return InputFile(uri, stack.folder, f"{stack.scene}.vrt", size, version)


def _choose(stack: BandFiles, name: str, band: str, headers: Headers) -> Member:
    """The file of a band; the finest where there are several resolutions of it.

    Raises:
        InputError: If there is none, two, or one that cannot be used.
    """
    label = name if name == band else f"{name} ({band})"
    members = [(file, _header_of(file, headers)) for file in stack.files.get(band, [])]
    if not members:
        raise InputError(
            f"band {label} has no file; there are {', '.join(sorted(stack.files))}",
            code=FailureCode.WRONG_BANDS,
        )
    members.sort(key=lambda member: (_pixel_area(member[1]), member[0].name))
    first, *more = members
    if more and _pixel_area(more[0][1]) == _pixel_area(first[1]):
        raise InputError(
            f"band {label} has two files, {first[0].name} and {more[0][0].name}: make the pattern "
            f"of --stack narrower",
            code=FailureCode.WRONG_BANDS,
        )
    return first


def _pixel_area(header: Header) -> float:
    return abs(float(header.grid.transform.determinant))


def _header_of(file: InputFile, headers: Headers) -> Header:
    """The header of a band file.

    Raises:
        InputError: If it cannot be read, or has more than one band.
        TransientError: If it may be read later.
    """
    try:
        header = headers.read(file)
        header.check_complete()
    except InputError as error:
        raise InputError(f"{file.name}: {error.text}", code=error.code) from error
    if len(header.bands) != 1 or header.mask not in ("none", "values"):
        what = "a mask" if len(header.bands) == 1 else f"{len(header.bands)} bands"
        raise InputError(
            f"{file.name} has {what}, and a band file has one band alone: make a VRT of them",
            code=FailureCode.WRONG_BANDS,
        )
    return header


def _vrt(members: dict[str, Member], rule: StackRule, place: str) -> str:
    """The text of a VRT with a band for each member.

    Raises:
        InputError: If members lie on different ground.
    """
    grid_of = rule.settings.grid
    if grid_of == FINEST:
        grid_of = min(members, key=lambda name: _pixel_area(members[name][1]))
    if grid_of not in members:
        raise InputError(f"grid: no band is called {grid_of}", code=FailureCode.WRONG_BANDS)
    grid = members[grid_of][1].grid
    text = f'<VRTDataset rasterXSize="{grid.width}" rasterYSize="{grid.height}">'
    if grid.crs is not None:
        text += f"<SRS>{escape(grid.crs.to_wkt())}</SRS>"
    if not grid.transform.is_identity:
        numbers = ",".join(repr(float(number)) for number in grid.transform.to_gdal())
        text += f"<GeoTransform>{numbers}</GeoTransform>"
    for number, (name, (file, header)) in enumerate(members.items(), 1):
        rectangle = _rectangle(file, header, members[grid_of])
        text += _band_text(number, name, (file, header), rule, place, rectangle)
    return f"{text}</VRTDataset>"


def _rectangle(file: InputFile, header: Header, reference: Member) -> tuple[float, ...]:
    """Where a member lies on the grid of the reference: offsets and sizes in its pixels.

    Raises:
        InputError: If it lies elsewhere by more than half of the larger pixel.
    """
    ours, theirs = reference[1].grid, header.grid
    if ours.crs != theirs.crs:
        raise _other_ground(file, reference, "are in different reference systems")
    onto = ~ours.transform @ theirs.transform
    if max(abs(onto.b * theirs.height), abs(onto.d * theirs.width)) > 0.01:
        raise _other_ground(file, reference, "are turned against each other")
    width, height = onto.a * theirs.width, onto.e * theirs.height
    offsets = (onto.c, onto.f, onto.c + width - ours.width, onto.f + height - ours.height)
    if max(map(abs, offsets)) > 0.5 * max(1.0, abs(onto.a), abs(onto.e)) + 0.01:
        raise _other_ground(file, reference, "do not cover the same ground")
    return tuple(round(number, 6) for number in (onto.c, onto.f, width, height))


def _other_ground(file: InputFile, reference: Member, what: str) -> InputError:
    return InputError(
        f"{file.name} and {reference[0].name} {what}: bring them onto one (gdalwarp)",
        code=FailureCode.DOES_NOT_FIT,
    )


def _band_text(
    number: int,
    name: str,
    member: Member,
    rule: StackRule,
    place: str,
    rectangle: tuple[float, ...],
) -> str:
    file, header = member
    (band,) = header.bands
    nodata = rule.settings.nodata if band.nodata is None else band.nodata
    kind = typename_fwd[dtype_rev[band.dtype]]
    source, is_relative = file.uri, locations.is_remote(file.uri)
    if is_relative:
        source = os.path.relpath(file.uri, os.path.dirname(place))
    x, y, width, height = rectangle
    text = f'<VRTRasterBand dataType="{kind}" band="{number}">'
    text += f"<Description>{xml_text(name)}</Description>"
    text += "" if nodata is None else f"<NoDataValue>{nodata!r}</NoDataValue>"
    text += f"<Offset>{band.offset!r}</Offset><Scale>{band.scale!r}</Scale>"
    text += f'<SimpleSource resampling="{rule.settings.resampling}">'
    text += f'<SourceFilename relativeToVRT="{int(is_relative)}">{escape(source)}</SourceFilename>'
    text += f"<SourceBand>{band.index}</SourceBand>"
    text += f'<SrcRect xOff="0" yOff="0" xSize="{header.grid.width}" ySize="{header.grid.height}"/>'
    text += f'<DstRect xOff="{x!r}" yOff="{y!r}" xSize="{width!r}" ySize="{height!r}"/>'
    return f"{text}</SimpleSource></VRTRasterBand>"
