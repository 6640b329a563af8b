"""Google Cloud Storage, by its own client."""

import errno
import os

from pipelines.storage.clients.interface import Fault, StoredObject
from pipelines.storage.clients.retry import passing, replaced
from pipelines.storage.locations import bucket_and_name, media_type
from segmodel.errors import ConfigurationError

PAGE = 1000
# An upload above 8 MiB goes in parts of this size, each of which is sent again if it has to.
PART_BYTES = 16 << 20
SECONDS = 60.0
_PASSING = {408, 429, 500, 502, 503, 504}


class GoogleClient:
    """Objects of Google Cloud Storage; versions are generations.

    Credentials are the application default ones. `STORAGE_EMULATOR_HOST` names an emulator.

    Raises:
        ConfigurationError: If the client is not installed, or there are no credentials.
    """

    def __init__(self) -> None:
        try:
            from google.cloud import storage  # type: ignore[attr-defined]
            from google.cloud.storage.retry import DEFAULT_RETRY
        except ImportError as error:
            raise ConfigurationError(
                "gs:// locations need a package that is not installed: pip install 'beamseg[gcp]'"
            ) from error
        import google.auth
        from google.auth.credentials import AnonymousCredentials
        from google.auth.exceptions import DefaultCredentialsError

        emulator = os.environ.get("STORAGE_EMULATOR_HOST")
        try:
            credentials, project = (
                (AnonymousCredentials(), "emulated")
                if emulator
                else google.auth.default(storage.Client.SCOPE)
            )
        except DefaultCredentialsError as error:
            raise ConfigurationError(
                "gs:// locations need credentials, and none were found: run `gcloud auth "
                "application-default login`, or set GOOGLE_APPLICATION_CREDENTIALS"
            ) from error
        # Objects need no project; the client does.
        self._client = storage.Client(project or "none", credentials)
        self._parts = DEFAULT_RETRY.with_delay(0.5, 16.0, 2.0).with_timeout(SECONDS)

    def page(self, start: str, token: str | None) -> tuple[list[StoredObject], str | None]:
        bucket, prefix = bucket_and_name(start)
        answer = self._client.list_blobs(
            bucket,
            prefix=prefix or None,
            page_size=PAGE,
            page_token=token,
            fields="items(name,size,generation),nextPageToken",
            timeout=SECONDS,
            retry=None,
        )
        blobs = next(answer.pages, ())
        found = [
            StoredObject(f"gs://{bucket}/{blob.name}", int(blob.size or 0), str(blob.generation))
            for blob in blobs
        ]
        return found, answer.next_page_token

    def stat(self, uri: str) -> StoredObject | None:
        bucket, name = bucket_and_name(uri)
        if not name:
            return None
        blob = self._client.bucket(bucket).get_blob(name, timeout=SECONDS, retry=None)
        if blob is None:
            return None
        return StoredObject(uri, int(blob.size or 0), str(blob.generation))

    def read(self, uri: str, start: int, length: int | None, version: str | None) -> bytes:
        from google.api_core.exceptions import RequestRangeNotSatisfiable

        if length == 0:
            return b""
        whole = start == 0 and length is None
        try:
            return self._blob(uri).download_as_bytes(
                start=None if whole else start,
                end=None if length is None else start + length - 1,
                if_generation_match=None if version is None else int(version),
                # As it is stored, also if it is marked as compressed.
                raw_download=True,
                checksum="auto" if whole else None,
                timeout=SECONDS,
                retry=None,
            )
        except RequestRangeNotSatisfiable:
            return b""

    def upload(self, path: str, uri: str) -> None:
        blob = self._blob(uri)
        blob.chunk_size = PART_BYTES
        blob.upload_from_filename(
            path,
            content_type=media_type(uri),
            timeout=SECONDS,
            checksum="crc32c",
            retry=self._parts,
        )

    def create(self, uri: str, content: bytes) -> bool:
        from google.api_core.exceptions import PreconditionFailed

        try:
            self._blob(uri).upload_from_string(
                content,
                content_type=media_type(uri),
                if_generation_match=0,
                timeout=SECONDS,
                checksum="crc32c",
                retry=None,
            )
        except PreconditionFailed:
            return False
        return True

    def remove(self, uri: str) -> None:
        from google.api_core.exceptions import NotFound

        try:
            self._blob(uri).delete(timeout=SECONDS, retry=None)
        except NotFound:
            return

    def fault(self, error: Exception, uri: str) -> Fault | None:
        import requests
        import urllib3
        from google.api_core.exceptions import GoogleAPICallError, RetryError
        from google.auth.exceptions import GoogleAuthError, TransportError
        from google.cloud.storage.exceptions import DataCorruption, InvalidResponse

        broken = (requests.RequestException, urllib3.exceptions.HTTPError, ConnectionError)
        if isinstance(error, RetryError) and isinstance(error.cause, Exception):
            error = error.cause
        if isinstance(error, InvalidResponse):
            return _answered(error.response.status_code, uri)
        if isinstance(error, GoogleAPICallError):
            return _answered(int(error.code or 0), uri)
        if isinstance(error, (*broken, TransportError, DataCorruption, TimeoutError)):
            return Fault(passing(uri, f"the store is out of reach ({type(error).__name__})"), True)
        if isinstance(error, GoogleAuthError):
            # They may be renewed, and an account's server may answer later: no fault of a file.
            return Fault(passing(uri, "the credentials are not accepted, renew them"), True)
        return None

    def _blob(self, uri: str):
        bucket, name = bucket_and_name(uri)
        return self._client.bucket(bucket).blob(name)


def _answered(status: int, uri: str) -> Fault | None:
    """What an answer of the store with this HTTP status means."""
    if status == 404:
        return Fault(FileNotFoundError(errno.ENOENT, "no such object or bucket", uri))
    if status in (401, 403):
        return Fault(_refused(uri, f"the store refuses access ({status})"))
    if status == 412:
        return Fault(replaced(uri))
    if status in _PASSING:
        return Fault(passing(uri, f"the store answers {status}"), True)
    return Fault(OSError(errno.EINVAL, f"the store answers {status}", uri)) if status else None


def _refused(uri: str, what: str) -> PermissionError:
    return PermissionError(errno.EACCES, f"{what}: check the role of the account", uri)
