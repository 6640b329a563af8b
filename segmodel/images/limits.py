"""What no encoded image may exceed, whatever its header asks for."""

from __future__ import annotations

from segmodel.errors import FailureCode, InputError

# Pillow's own limit, above which it takes an image for a decompression bomb.
MAX_PIXELS = 178_956_970
# Chunks of a PNG, and strips or tiles of a TIFF; each takes a microsecond or more.
MAX_PARTS = 1 << 20
# Segments of a JPEG, of which cameras write tens.
MAX_SEGMENTS = 1 << 16


def check_pixels(size: tuple[int, int], max_pixels: int) -> None:
    """Refuse more pixels than may be decoded.

    Args:
        size: Width and height.
        max_pixels: Most pixels.

    Raises:
        InputError: Says how to allow them.
    """
    width, height = size
    if width * height > max_pixels:
        raise InputError(
            f"{width}x{height} pixels exceed the limit of {max_pixels}: raise --max_pixels (and "
            f"--memory) if it is no decompression bomb",
            code=FailureCode.TOO_MANY_PIXELS,
        )


def too_many_parts(parts: str, most: int) -> InputError:
    """The error of an image in more parts than any program writes.

    Args:
        parts: Name of the parts with that of the format, such as `PNG has chunks`.
        most: How many there may be.
    """
    return InputError(
        f"the {parts}, and more than {most} of them, as no program writes: write it anew",
        code=FailureCode.UNSUPPORTED,
    )
