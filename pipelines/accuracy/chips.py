"""Pictures of the ground around the points of a sample, with a cross at the pixel."""

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from PIL import Image, ImageDraw

from pipelines.accuracy.design import SamplePoint
from pipelines.accuracy.map_blocks import by_scene
from pipelines.accuracy.sample_files import CHIPS
from pipelines.formats.work import Work
from pipelines.run.directory import RunDirectory
from pipelines.run.plan import InputFile
from pipelines.scenes.pictures import Picture, pictured_scene
from pipelines.storage.threads import in_order
from segmodel.errors import InputError
from segmodel.tiling.windows import Window

# Side of a chip in pixels of the screen, at least, and colours of what lies beyond the scene and of
# the cross, which is dark beside bright so that it shows on any ground.
SIDE_PX = 512
BEYOND = 228
BRIGHT, DARK = (255, 0, 255), (0, 0, 0)


def write_chips(
    points: Sequence[tuple[SamplePoint, InputFile]], work: Work, folder: RunDirectory, side: int
) -> int:
    """Write a chip for each point; returns the number of points whose scenes are gone.

    Args:
        points: Points, each with its scene.
        work: What all units of the run had in common; reads its scenes.
        folder: Folder of the sample.
        side: Side of what is shown in pixels of the scene; 0 for nothing.

    Raises:
        InputError: If a scene cannot be read any more.
    """
    pictured = [(file, point) for point, file in points if not file.gone]

    def write(group: tuple[InputFile, Sequence[SamplePoint]]) -> None:
        file, near = group
        with _chip_errors(file), pictured_scene(file, work) as picture:
            grid = work.headers.read(file).grid
            for point in near:
                content = _chip(point, picture, Window(0, 0, grid.height, grid.width), side)
                folder.write(f"{CHIPS}/{point.id}.png", content)

    for _ in in_order(write, by_scene(pictured) if side else ()):
        pass
    return len(points) - len(pictured)


@contextmanager
def _chip_errors(file: InputFile) -> Iterator[None]:
    """Say in errors of reading a scene what to do without it."""
    try:
        yield
    except InputError as error:
        raise InputError(
            f"no chip can be made ({error.text}): put the scene back, or leave chips out with "
            f"--chip_px 0",
            code=error.code,
            name=file.key,
        ) from error


def _chip(point: SamplePoint, picture: Picture, scene: Window, side: int) -> bytes:
    """The ground around a point as a PNG."""
    wanted = Window(point.row - side // 2, point.column - side // 2, side, side)
    area = wanted.intersection(scene)
    image, valid = picture(area, (area.height, area.width))
    ground = np.full((side, side, 3), BEYOND, np.uint8)
    ground[area.relative_to(wanted).slices][valid] = image[valid]
    buffer = io.BytesIO()
    # More takes twice the time for a sixth less.
    draw_cross(ground, side // 2).save(buffer, "PNG", compress_level=3)
    return buffer.getvalue()


def draw_cross(picture: np.ndarray, place: int) -> Image.Image:
    """A picture enlarged, with a frame around a pixel and four lines that point at it.

    Args:
        picture: `(side, side, 3)` uint8.
        place: Row and column of the pixel.
    """
    side = len(picture)
    scale = max(1, -(-SIDE_PX // side))
    image = Image.fromarray(picture).resize((side * scale, side * scale), Image.Resampling.NEAREST)
    canvas = ImageDraw.Draw(image)
    first, last = place * scale - 2, (place + 1) * scale + 1
    middle, whole = (first + last) // 2, side * scale
    gap, length = max(6, 2 * scale), whole // 8
    for width, color in ((4, DARK), (2, BRIGHT)):
        canvas.rectangle((first, first, last, last), outline=color, width=width // 2)
        for near, far in ((first - gap, first - gap - length), (last + gap, last + gap + length)):
            canvas.line((near, middle, far, middle), color, width)
            canvas.line((middle, near, middle, far), color, width)
    return image
