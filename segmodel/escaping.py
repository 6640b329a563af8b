"""Names and texts that anybody chose, as tables, XML and lines of a screen take them."""

from __future__ import annotations

import re
from xml.sax.saxutils import escape

# Controls, and marks by which text is read in another direction than it stands.
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
# What XML cannot hold, also not as a reference.
_NO_XML = re.compile(r"[\ud800-\udfff\ufffe\uffff]")
# A user in an address, and what signs one.
_CREDENTIALS = re.compile(
    r"(?i)[a-z][a-z0-9+.-]*://[^/?#\s\"']*@"
    r"|://[^\s]*[?&](?:x-amz-\w+|x-goog-\w+|sig|awsaccesskeyid|signature|\w*token|api_?key)="
)
_USER = re.compile(r"(?i)([a-z][a-z0-9+.-]*://)[^/?#\s\"'<>]*@")
_QUERY = re.compile(r"((?:://|/vsi\w+)[^\s?\"'<>]*)\?[^\s\"'<>]*")
# What programs for tables take for a formula, also behind what makes it none.
_FORMULA = re.compile(r"'*[=+@-]")


def inert(cell: object) -> object:
    """A cell of a table that no program runs: a formula gets an apostrophe before it.

    Numbers stay as they are, and controls are written out.

    >>> inert("=1+1"), inert("-0.5"), inert("'=a"), inert(7)
    ("'=1+1", '-0.5', "''=a", 7)
    """
    if not isinstance(cell, str):
        return cell
    text = _CONTROLS.sub(_written_out, cell)
    if not _FORMULA.match(text):
        return text
    try:
        float(text)
    except ValueError:
        return f"'{text}"
    return text


def xml_characters(text: str) -> str:
    r"""Text with controls and what XML cannot hold written out, for who escapes the rest.

    >>> xml_characters("a<b\x1b")
    'a<b\\x1b'
    """
    return _NO_XML.sub(_written_out, _CONTROLS.sub(_written_out, text))


def xml_text(text: str) -> str:
    r"""Text of an XML element; controls and what XML cannot hold are written out.

    >>> xml_text("a<b\x1b")
    'a&lt;b\\x1b'
    """
    return escape(xml_characters(text))


def xml_path(path: str) -> str:
    r"""A path in an element of a VRT, with controls as GDAL reads them.

    >>> xml_path("a<b\n.tif")
    'a&lt;b&#10;.tif'
    """
    return _CONTROLS.sub(lambda found: f"&#{ord(found[0])};", escape(path))


def on_one_line(text: str) -> str:
    r"""Text with what is not printable written out.

    >>> on_one_line("a\nb")
    'a\\nb'
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def holds_credentials(text: str) -> bool:
    """Whether an address in a text has a user or a signature.

    >>> holds_credentials("https://me:secret@a.org/b.tif"), holds_credentials("https://a.org/b?c=1")
    (True, False)
    """
    return _CREDENTIALS.search(text) is not None


def without_credentials(text: str) -> str:
    """A text whose addresses have no user and no query, as those of libraries may have.

    >>> without_credentials("403 for https://me:secret@a.org/b.tif?sig=5: denied")
    '403 for https://a.org/b.tif denied'
    """
    return _QUERY.sub(r"\1", _USER.sub(r"\1", text))


def _written_out(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode()
