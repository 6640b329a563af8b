"""Files behind http(s) addresses, one at a time: a web server has no list of its files."""

import hashlib
import urllib.error
import urllib.parse
import urllib.request
from http.client import HTTPException

from pipelines.inputs.listing import FoundFile
from pipelines.storage.locations import WEB_PREFIX
from segmodel.errors import ConfigurationError, TransientError

SECONDS = 60


def find_web(address: str) -> FoundFile:
    """The file behind an address; its version follows from what the server says of it.

    Args:
        address: Address that begins with http:// or https://.

    Returns:
        File with the path that GDAL opens, its name, its size in bytes (0 where the server does not
        say), and a version from size, time of modification and entity tag.

    Raises:
        ConfigurationError: If there is none, or the address holds what may be a secret.
        TransientError: If the server cannot be reached.
    """
    parts = urllib.parse.urlsplit(address)
    name = urllib.parse.unquote(parts.path).rpartition("/")[2]
    plain = f"{parts.scheme}://{parts.hostname}{parts.path}"
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ConfigurationError(
            f"--input {plain}: an address is written to the plan of the run, so it must have "
            f"neither user nor query: give GDAL the credentials (GDAL_HTTP_HEADER_FILE or .netrc)"
        )
    if not name:
        raise ConfigurationError(f"--input {plain}: name a file; a web server lists no folder")
    quoted = urllib.parse.quote(parts.path, safe="/%:~+,;=!$&'()*")
    whole = urllib.parse.urlunsplit(parts._replace(path=quoted))
    request = urllib.request.Request(whole, method="HEAD")
    try:
        with urllib.request.urlopen(request, timeout=SECONDS) as answer:
            headers = answer.headers
    except urllib.error.HTTPError as error:
        if error.code == 429 or error.code >= 500:
            raise TransientError(f"{plain}: the server answers {error.code}: try later") from None
        raise ConfigurationError(
            f"--input {plain}: the server answers {error.code}: check the address"
        ) from None
    except (OSError, HTTPException, ValueError) as error:
        kind = type(getattr(error, "reason", error)).__name__
        raise TransientError(f"{plain} cannot be reached ({kind}): try later") from error
    size = int(headers.get("Content-Length") or 0)
    said = (size, headers.get("Last-Modified"), headers.get("ETag"))
    version = hashlib.sha256(repr(said).encode()).hexdigest()[:16]
    return FoundFile(WEB_PREFIX + whole, name, size, version)
