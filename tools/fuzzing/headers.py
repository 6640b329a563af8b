"""Headers of images with hostile numbers in them, their checksums mended."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator

from tests import png_maker

EXTREMES = (
    *(0, 1, 2, 3, 7, 8, 9, 15, 16, 17, 64, 127, 128, 255, 256, 4096, 65_535, 65_536, 100_000),
    *(-1, -2, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1, 30_000, 60_000, 1 << 24),
)


def as_bytes(number: int, size: int, order: str) -> bytes:
    """The low bytes of a number.

    >>> as_bytes(-1, 2, "big"), as_bytes(2**31, 4, "little")
    (b'\\xff\\xff', b'\\x00\\x00\\x00\\x80')
    """
    return (number % (1 << (8 * size))).to_bytes(size, "big" if order == "big" else "little")


def overwritten(content: bytes, place: int, written: bytes) -> bytes:
    """Bytes in place of others."""
    return content[:place] + written + content[place + len(written) :]


def png(content: bytes, chance: random.Random) -> bytes:
    """One chunk changed, doubled, removed or moved; all checksums are right."""
    parts = list(png_maker.chunks(content))
    number = chance.randrange(len(parts))
    kind, body = parts[number]
    action = chance.choice(["header", "header", "body", "size", "twice", "gone", "moved", "kind"])
    if action == "header":
        fields = list(struct.unpack(">IIBBBBB", parts[0][1]))
        field = chance.randrange(7)
        fields[field] = chance.choice(EXTREMES) % (1 << (32 if field < 2 else 8))
        parts[0] = (b"IHDR", struct.pack(">IIBBBBB", *fields))
    elif action == "body" and body:
        place = chance.randrange(len(body))
        parts[number] = (kind, overwritten(body, place, chance.randbytes(1)))
    elif action == "size":
        size = chance.choice([0, 1, len(body) // 2, len(body) + 1, len(body) + 4000])
        parts[number] = (kind, body[:size].ljust(size, b"\x5a"))
    elif action == "twice":
        parts.insert(number, (kind, body))
    elif action == "gone":
        del parts[number]
    elif action == "moved":
        parts.insert(chance.randrange(len(parts)), parts.pop(number))
    elif action == "kind":
        kinds = [b"tRNS", b"PLTE", b"IDAT", b"IEND", b"eXIf", b"iCCP", b"zTXt", b"acTL", b"fdAT"]
        parts[number] = (chance.choice(kinds), body)
    return png_maker.join(parts)


def _segments(content: bytes) -> Iterator[tuple[int, int]]:
    """Marker and offset of its length, of each segment of a JPEG."""
    place = 2
    while place + 4 <= len(content):
        if content[place] != 0xFF:
            place += 1
            continue
        marker = content[place + 1]
        if marker in (0x00, 0xFF, 0x01) or 0xD0 <= marker <= 0xD9:
            place += 1
            continue
        yield marker, place + 2
        place += 2 + int.from_bytes(content[place + 2 : place + 4], "big")


def jpeg(content: bytes, chance: random.Random) -> bytes:
    """A segment with other numbers, twice or not at all, or an end mark before the end."""
    segments = list(_segments(content))
    _marker, place = chance.choice(segments)
    length = int.from_bytes(content[place : place + 2], "big")
    action = chance.choice(["frame", "frame", "body", "length", "twice", "gone", "end", "marker"])
    if action == "frame":
        frame = next(p for m, p in segments if m in (0xC0, 0xC1, 0xC2))
        offset, size = chance.choice([(2, 1), (3, 2), (5, 2), (7, 1), (8, 1), (9, 1), (10, 1)])
        number = as_bytes(chance.choice(EXTREMES), size, "big")
        return overwritten(content, frame + offset, number)
    if action == "length":
        return overwritten(content, place, as_bytes(chance.choice(EXTREMES), 2, "big"))
    if action == "twice":
        return content[: place - 2] + content[place - 2 : place + length] + content[place - 2 :]
    if action == "gone":
        return content[: place - 2] + content[place + length :]
    if action == "end":
        return content[: chance.randrange(place, len(content))] + b"\xff\xd9"
    if action == "marker":
        return overwritten(content, place - 1, chance.randbytes(1))
    inside = place + 2 + chance.randrange(max(1, length - 2))
    return overwritten(content, inside, chance.randbytes(1))


def tiff(content: bytes, chance: random.Random) -> bytes:
    """A tag with another type, count or value, or an offset to the next directory."""
    order = "little" if content[:2] == b"II" else "big"
    large = int.from_bytes(content[2:4], order) == 43
    width, count_size, entry = (8, 8, 20) if large else (4, 2, 12)
    place = 8 if large else 4
    first = int.from_bytes(content[place : place + width], order)
    count = int.from_bytes(content[first : first + count_size], order)
    tag = first + count_size + entry * chance.randrange(count)
    action = chance.choice(["id", "type", "count", "value", "value", "next", "first", "number"])
    number = chance.choice([*EXTREMES, first, len(content), len(content) - 1])
    target, size = {
        "id": (tag, 2),
        "type": (tag + 2, 2),
        "count": (tag + 4, width),
        "value": (tag + 4 + width, width),
        "next": (first + count_size + entry * count, width),
        "first": (place, width),
        "number": (first, count_size),
    }[action]
    if action in ("id", "type"):
        number = chance.choice([*range(20), 256, 257, 258, 262, 273, 277, 278, 279, 317, 320, 338])
    return overwritten(content, target, as_bytes(number, size, order))


def webp(content: bytes, chance: random.Random) -> bytes:
    """Sizes of the whole, of a chunk or of the canvas, or the kind of a chunk."""
    places, place = [4], 12
    while place + 8 <= len(content):
        places.append(place + 4)
        size = int.from_bytes(content[place + 4 : place + 8], "little")
        place += 8 + size + size % 2
    chosen = chance.choice(places)
    if chance.random() < 0.4:
        return overwritten(content, chosen, as_bytes(chance.choice(EXTREMES), 4, "little"))
    if chance.random() < 0.3:
        kinds = [b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ANIM", b"ANMF", b"EXIF", b"ICCP"]
        return overwritten(content, chosen - 4, chance.choice(kinds))
    return overwritten(content, chosen + 4 + chance.randrange(12), chance.randbytes(2))
