"""CRC-32C by the letter of the standard, to compare with what commit records hold."""

from __future__ import annotations

from functools import cache

_POLYNOMIAL = 0x82F63B78


def checksum_of(*parts: bytes) -> str:
    """Of parts, each behind its length in eight bytes, as 8 hex digits."""
    return f"{crc32c(b''.join(len(part).to_bytes(8, 'little') + part for part in parts)):08x}"


def crc32c(content: bytes) -> int:
    """Byte by byte: RFC 3720, appendix B.4."""
    table, crc = _table(), 0xFFFFFFFF
    for byte in content:
        crc = crc >> 8 ^ table[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


@cache
def _table() -> list[int]:
    found = []
    for crc in range(256):
        for _ in range(8):
            crc = crc >> 1 ^ (_POLYNOMIAL if crc & 1 else 0)
        found.append(crc)
    return found
