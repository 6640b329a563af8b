"""Small images of every kind and mode that is read, each with the labels it must get.

Expected values follow from the samples that were written, by the rules of docs/formats.md; where a
kind loses values (JPEG, WebP), from what Pillow decodes.
"""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from tests import png_maker
from tests.known_images import (
    ORIENTATION,
    Kind,
    Known,
    alpha_of,
    as_decoded,
    by_gdal,
    by_pillow,
    exif_turn,
    known,
    picture,
    sixteen,
)


def _jpeg(mode: str | None = None, **options) -> Kind:
    return lambda seed: as_decoded(".jpg", by_pillow(picture(seed), "JPEG", mode, **options))


def jpeg_turned(seed: int) -> Known:
    """The camera was held sideways."""
    upright = by_pillow(picture(seed), "JPEG", exif=exif_turn(6))
    with Image.open(io.BytesIO(upright)) as image:
        return known(".jpeg", upright, np.rot90(np.asarray(image), -1))


def _png(color: int, depth: int, interlaced: bool = False, values=None) -> Kind:
    """Grey or colour of so many bits, of which 8 count."""

    def build(seed: int) -> Known:
        channels = 1 if color == png_maker.GREY else 3
        high = picture(seed, channels) if values is None else values(seed)
        if depth == 16:
            samples, shown = sixteen(high, seed), high
        else:
            samples = high >> (8 - depth)
            shown = (samples * (255 // ((1 << depth) - 1))).astype(np.uint8)
        return known(".png", png_maker.png_of(samples, color, depth, interlaced), shown)

    return build


def _png_palette(depth: int, interlaced: bool = False, transparent: bool = False) -> Kind:
    def build(seed: int) -> Known:
        random = np.random.default_rng(seed)
        table = random.integers(0, 256, (1 << depth, 3)).astype(np.uint8)
        indices = picture(seed, 1) >> (8 - depth)
        extra = [(b"PLTE", table.tobytes())]
        valid = None
        if transparent:
            # Entries behind the last one of the chunk are opaque.
            alpha = random.choice([0, 1, 255], (1 << depth) - 1).astype(np.uint8)
            extra.append((b"tRNS", alpha.tobytes()))
            valid = np.append(alpha, 255)[indices[..., 0]] > 0
        encoded = png_maker.png_of(indices, png_maker.PALETTE, depth, interlaced, extra)
        return known(".png", encoded, table[indices[..., 0]], valid)

    return build


def _png_alpha(color: int, depth: int, interlaced: bool = False) -> Kind:
    def build(seed: int) -> Known:
        values, alpha = picture(seed, 1 if color == png_maker.GREY_ALPHA else 3), alpha_of(seed)
        samples = np.dstack([values, alpha])
        if depth == 16:
            # Low bytes of zero, so that no alpha is between zero and its high byte.
            samples = samples.astype(np.uint16) << 8
        return known(".png", png_maker.png_of(samples, color, depth, interlaced), values, alpha > 0)

    return build


def _png_key(color: int, depth: int) -> Kind:
    """One value is transparent; it stands in the chunk with 16 bits a sample."""

    def build(seed: int) -> Known:
        channels = 1 if color == png_maker.GREY else 3
        high = picture(seed, channels)
        high[3:6, 4:20] = high[4, 4]
        samples = high.astype(np.uint16) * (257 if depth == 16 else 1)
        extra = [(b"tRNS", samples[4, 4].astype(">u2").tobytes())]
        valid = (high != high[4, 4]).any(axis=-1)
        return known(".png", png_maker.png_of(samples, color, depth, False, extra), high, valid)

    return build


def png_turned(seed: int) -> Known:
    """A PNG with an orientation."""
    values = picture(seed)
    encoded = by_pillow(values, "PNG", exif=exif_turn(8))
    return known(".png", encoded, np.rot90(values, 1))


def _webp(**options) -> Kind:
    return lambda seed: as_decoded(".webp", by_pillow(picture(seed), "WEBP", **options))


def webp_lossless(seed: int) -> Known:
    """Values come back exactly."""
    values = picture(seed)
    return known(".webp", by_pillow(values, "WEBP", lossless=True), values)


def webp_alpha(seed: int) -> Known:
    """Values come back exactly, below transparency, too."""
    values, alpha = picture(seed), alpha_of(seed)
    encoded = by_pillow(np.dstack([values, alpha]), "WEBP", lossless=True, exact=True)
    return known(".webp", encoded, values, alpha > 0)


def webp_turned(seed: int) -> Known:
    """A WebP upside down."""
    values = picture(seed)
    encoded = by_pillow(values, "WEBP", lossless=True, exif=exif_turn(3))
    return known(".webp", encoded, np.rot90(values, 2))


def _tiff(bands: int = 3, suffix: str = ".tif", **options) -> Kind:
    def build(seed: int) -> Known:
        values = picture(seed, bands)
        stored = values[..., 0] if bands == 1 else values
        return known(suffix, by_pillow(stored, "TIFF", **options), values)

    return build


def _tiff_by_gdal(bands: int = 3, wide: bool = False, **profile) -> Kind:
    def build(seed: int) -> Known:
        values = picture(seed, bands)
        stored = sixteen(values, seed) if wide else values
        return known(".tif", by_gdal(np.moveaxis(stored, -1, 0), **profile), values)

    return build


def tiff_pages(seed: int) -> Known:
    """Of several pages the first one counts."""
    values = picture(seed)
    others = [Image.fromarray(picture(seed + number)) for number in (1, 2)]
    encoded = by_pillow(values, "TIFF", save_all=True, append_images=others)
    return known(".tiff", encoded, values)


def tiff_alpha(seed: int) -> Known:
    """Alpha as an extra sample."""
    values, alpha = picture(seed), alpha_of(seed)
    return known(".tif", by_pillow(np.dstack([values, alpha]), "TIFF"), values, alpha > 0)


def tiff_palette(seed: int) -> Known:
    """A table of colours."""
    table = np.random.default_rng(seed).integers(0, 256, (256, 3)).astype(np.uint8)
    indices = picture(seed, 1)[..., 0]
    image = Image.fromarray(indices)
    image.putpalette(table.tobytes())
    buffer = io.BytesIO()
    image.save(buffer, "TIFF")
    return known(".tif", buffer.getvalue(), table[indices])


def tiff_bits(seed: int) -> Known:
    """Black and white."""
    white = picture(seed, 1) > 110
    encoded = by_pillow(white[..., 0], "TIFF", compression="tiff_lzw")
    return known(".tif", encoded, white * np.uint8(255))


def tiff_cmyk(seed: int) -> Known:
    """Four inks, of which each takes light away."""
    inks = np.dstack([picture(seed), picture(seed, 1)[::-1] // 3])
    buffer = io.BytesIO()
    Image.frombytes("CMYK", (inks.shape[1], inks.shape[0]), inks.tobytes()).save(buffer, "TIFF")
    light = 255 - inks[..., 3:].astype(np.int64)
    values = np.clip(light - (inks[..., :3] * light + 127) // 255, 0, 255).astype(np.uint8)
    return known(".tif", buffer.getvalue(), values)


def tiff_turned(seed: int) -> Known:
    """A mirrored scan."""
    values = picture(seed)
    return known(".tif", by_pillow(values, "TIFF", tiffinfo={ORIENTATION: 2}), np.fliplr(values))


PNG_KINDS: dict[str, Kind] = {
    f"png-{name}{'-interlaced' if interlaced else ''}": build
    for interlaced in (False, True)
    for name, build in {
        **{f"grey-{n}": _png(png_maker.GREY, n, interlaced) for n in (1, 2, 4, 8, 16)},
        **{f"rgb-{n}": _png(png_maker.RGB, n, interlaced) for n in (8, 16)},
        **{f"palette-{n}": _png_palette(n, interlaced) for n in (1, 2, 4)},
        "palette-8-transparent": _png_palette(8, interlaced, transparent=True),
        **{f"grey-alpha-{n}": _png_alpha(png_maker.GREY_ALPHA, n, interlaced) for n in (8, 16)},
        **{f"rgba-{n}": _png_alpha(png_maker.RGBA, n, interlaced) for n in (8, 16)},
    }.items()
}
KINDS: dict[str, Kind] = {
    "jpeg": _jpeg(),
    "jpeg-progressive": _jpeg(progressive=True, quality=90),
    "jpeg-full-color": _jpeg(subsampling=0),
    "jpeg-restarts": _jpeg(restart_marker_blocks=2),
    "jpeg-grey": _jpeg("L"),
    "jpeg-grey-progressive": _jpeg("L", progressive=True),
    "jpeg-cmyk": _jpeg("CMYK"),
    "jpeg-turned": jpeg_turned,
    **PNG_KINDS,
    "png-grey-8-key": _png_key(png_maker.GREY, 8),
    "png-grey-16-key": _png_key(png_maker.GREY, 16),
    "png-rgb-8-key": _png_key(png_maker.RGB, 8),
    "png-turned": png_turned,
    "webp": _webp(),
    "webp-low-quality": _webp(quality=5),
    "webp-lossless": webp_lossless,
    "webp-alpha": webp_alpha,
    "webp-turned": webp_turned,
    "tiff": _tiff(),
    "tiff-grey": _tiff(1, ".tiff"),
    "tiff-lzw": _tiff(compression="tiff_lzw"),
    "tiff-deflate": _tiff(compression="tiff_adobe_deflate"),
    "tiff-packbits": _tiff(compression="packbits"),
    "tiff-pages": tiff_pages,
    "tiff-alpha": tiff_alpha,
    "tiff-palette": tiff_palette,
    "tiff-bits": tiff_bits,
    "tiff-cmyk": tiff_cmyk,
    "tiff-turned": tiff_turned,
    "tiff-tiled": _tiff_by_gdal(tiled=True, blockxsize=16, blockysize=16, compress="lzw"),
    "tiff-planes": _tiff_by_gdal(interleave="band", photometric="RGB"),
    "tiff-grey-16": _tiff_by_gdal(1, wide=True),
    "tiff-grey-16-big-endian": _tiff_by_gdal(1, wide=True, endianness="BIG"),
    "tiff-rgb-16": _tiff_by_gdal(wide=True, photometric="RGB"),
    "tiff-grey-16-deflate": _tiff_by_gdal(1, wide=True, compress="deflate"),
    "tiff-zstd": _tiff_by_gdal(photometric="RGB", compress="zstd", predictor=2),
    "tiff-lzma": _tiff(compression="lzma"),
    "tiff-jpeg": lambda seed: as_decoded(
        ".tif", by_pillow(picture(seed), "TIFF", compression="jpeg")
    ),
    "tiff-64-bit-offsets": _tiff_by_gdal(photometric="RGB", bigtiff="YES"),
}
