"""Shards with hostile numbers in their headers, their checksums mended."""

from __future__ import annotations

import random
import struct

from pipelines.formats.tfrecord import masked_crc32c
from tools.fuzzing.headers import EXTREMES, as_bytes, overwritten

BLOCK = 512
# Name, first byte and size of the fields of a header; POSIX.1-1988, ustar.
TAR_FIELDS = {
    "name": (0, 100),
    "mode": (100, 8),
    "uid": (108, 8),
    "size": (124, 12),
    "mtime": (136, 12),
    "type": (156, 1),
    "link": (157, 100),
    "magic": (257, 8),
    "device": (329, 8),
    "prefix": (345, 155),
}
TAR_TYPES = b"01234567LKxgSXDVMN\0\xff"


def frames(content: bytes) -> list[tuple[int, int]]:
    """Offset and length of the payload of each record of an intact shard."""
    found, place = [], 0
    while place < len(content):
        (length,) = struct.unpack_from("<Q", content, place)
        found.append((place + 12, length))
        place += 16 + length
    return found


def tfrecord(content: bytes, chance: random.Random) -> bytes:
    """A length or a byte of an example, with the right checksum."""
    try:
        place, length = chance.choice(frames(content))
    except struct.error as error:
        raise ValueError("no intact shard") from error
    if chance.random() < 0.4:
        number = as_bytes(chance.choice([*EXTREMES, length - 1, length + 1]), 8, "little")
        return overwritten(content, place - 12, number + _checksum(number))
    data = bytearray(content[place : place + length])
    # The keys of an example stand at its ends, the image in the middle.
    near = chance.choice([chance.randrange(length), chance.randrange(min(40, length)), -1])
    data[near] = chance.randrange(256)
    return overwritten(content, place, bytes(data) + _checksum(bytes(data)))


def _checksum(data: bytes) -> bytes:
    return struct.pack("<I", masked_crc32c(data))


def tar_headers(content: bytes) -> list[int]:
    """Offset of each header of an intact archive."""
    found, place = [], 0
    while place + BLOCK <= len(content) and content[place : place + BLOCK].strip(b"\0"):
        found.append(place)
        size = int(content[place + 124 : place + 136].strip(b"\0 ") or b"0", 8)
        place += BLOCK + -(-size // BLOCK) * BLOCK
    return found


def tar(content: bytes, chance: random.Random) -> bytes:
    """A field of a header with the right checksum, or a wrong checksum."""
    place = chance.choice(tar_headers(content))
    block = bytearray(content[place : place + BLOCK])
    name = chance.choice([*TAR_FIELDS, "size", "size", "type", "checksum"])
    if name == "checksum":
        return overwritten(content, place + 148, chance.randbytes(4))
    first, size = TAR_FIELDS[name]
    block[first : first + size] = _tar_value(name, size, chance)
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return overwritten(content, place, bytes(block))


def _tar_value(name: str, size: int, chance: random.Random) -> bytes:
    if name == "type":
        return bytes([chance.choice(TAR_TYPES)])
    if name in ("name", "prefix", "link"):
        names = [b"../../../x.jpg", b"/etc/passwd.png", b"", b"\xff\xfe.png", b"a\n.jpg", b"a" * 99]
        return chance.choice([*names, b"00/png-rgb-8.png"]).ljust(size, b"\0")[:size]
    if name == "magic":
        return chance.choice([bytes(8), b"ustar  \0", chance.randbytes(8)])
    number = chance.choice(EXTREMES)
    octal = b"%o" % (number % 8 ** (size - 1))
    # Base 256, as GNU tar writes what has no room as digits.
    binary = (b"\xff" if number < 0 else b"\x80") + as_bytes(number, size - 1, "big")
    return chance.choice([octal.rjust(size - 1, b"0") + b"\0", binary, b"-" + b"7" * (size - 1)])


def parquet(content: bytes, chance: random.Random) -> bytes:
    """The length of the footer, a byte of it, or a byte at the start of a page."""
    length = int.from_bytes(content[-8:-4], "little")
    if content[-4:] != b"PAR1":
        raise ValueError("no intact file")
    footer = len(content) - 8 - length
    action = chance.choice(["length", "footer", "footer", "footer", "page", "page", "shorter"])
    if action == "length":
        number = chance.choice([*EXTREMES, length - 1, length + 1, len(content)])
        return overwritten(content, len(content) - 8, as_bytes(number, 4, "little"))
    if action == "shorter":
        cut = chance.randrange(length)
        place = footer + chance.randrange(length - cut)
        kept = content[footer:place] + content[place + cut : -8]
        return content[:footer] + kept + as_bytes(len(kept), 4, "little") + b"PAR1"
    place = chance.randrange(footer, len(content) - 8) if action == "footer" else None
    if place is None:
        place = chance.choice([chance.randrange(4, 60), chance.randrange(4, footer)])
    out = bytearray(content)
    for offset in range(chance.choice([1, 1, 2, 5, 9])):
        if place + offset < len(content) - 8:
            out[place + offset] = chance.choice([0xFF, 0x7F, 0x80, 0, chance.randrange(256)])
    return bytes(out)
