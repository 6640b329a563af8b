"""Google Cloud Storage, by its own client."""

import contextlib
import os
from typing import Any

from pipelines.storage.clients.interface import (
    RequestFailure,
    StoredObject,
    parsing,
    transient_error,
    wrong_answer,
)
from pipelines.storage.locations import bucket_and_name, media_type
from segmodel.errors import ConfigurationError

PAGE = 1000
# An upload above 8 MiB goes in parts of this size, each of which is sent again if it has to.
PART_BYTES = 16 << 20
# What a listing shows of each object.
FIELDS = "items(name,size,generation),nextPageToken"
SECONDS = 60.0
# Each request is made once; see `RetryingStore`.
_ONCE: dict[str, Any] = {"timeout": SECONDS, "retry": None}


class GoogleClient:
    """Objects of Google Cloud Storage; versions are generations.

    Credentials are the application default ones. `STORAGE_EMULATOR_HOST` names an emulator.

    Raises:
        ConfigurationError: If there are no credentials.
    """

    def __init__(self) -> None:
        import google.auth
        from google.api_core import exceptions
        from google.auth.credentials import AnonymousCredentials
        from google.auth.exceptions import DefaultCredentialsError
        from google.cloud import storage  # type: ignore[attr-defined]
        from google.cloud.storage.retry import DEFAULT_RETRY

        # Else the client asks for the bucket, too, after each name that is not there.
        os.environ.setdefault("DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA", "true")
        # Objects need no project; the client does.
        credentials: Any = AnonymousCredentials()
        project: str | None = "emulated"
        try:
            if not os.environ.get("STORAGE_EMULATOR_HOST"):
                credentials, project = google.auth.default(storage.Client.SCOPE)
        except (DefaultCredentialsError, OSError) as error:
            raise ConfigurationError(
                "gs:// locations need credentials, and none were found: run `gcloud auth "
                "application-default login`, or set GOOGLE_APPLICATION_CREDENTIALS"
            ) from error
        self._client = storage.Client(project or "none", credentials)
        self._client._http.hooks["response"].append(_check_answer)
        self._exceptions = exceptions
        self._parts = DEFAULT_RETRY.with_delay(0.5, 16.0, 2.0).with_timeout(SECONDS)

    def page(self, start: str, token: str | None) -> tuple[list[StoredObject], str | None]:
        bucket, prefix = bucket_and_name(start)
        asked = {"page_size": PAGE, "page_token": token, "fields": FIELDS}
        answer = self._client.list_blobs(bucket, prefix=prefix or None, **asked, **_ONCE)
        with parsing(start):
            found = [_stored(f"gs://{bucket}/{blob.name}", blob) for blob in next(answer.pages, ())]
            return found, answer.next_page_token

    def stat(self, uri: str) -> StoredObject | None:
        bucket, name = bucket_and_name(uri)
        with parsing(uri):
            blob = self._client.bucket(bucket).get_blob(name, **_ONCE)
            return None if blob is None else _stored(uri, blob)

    def read(self, uri: str, start: int, length: int | None, version: str | None) -> bytes:
        whole = start == 0 and length is None
        blob = self._blob(uri)
        asked = {
            "start": None if whole else start,
            "end": None if length is None else start + length - 1,
            "if_generation_match": None if version is None else int(version),
        }
        try:
            with parsing(uri):
                # As it is stored, also if it is marked as compressed.
                content = blob.download_as_bytes(
                    raw_download=True, checksum="auto" if whole else None, **asked, **_ONCE
                )
                found = _generation(blob)
        except self._exceptions.RequestRangeNotSatisfiable:
            return b""
        if version not in (None, found):
            raise wrong_answer(uri, f"generation {found} in place of {version}")
        return bytes(content)

    def upload(self, path: str, uri: str) -> None:
        blob = self._blob(uri)
        blob.chunk_size = PART_BYTES
        described = {"content_type": media_type(uri), "checksum": "crc32c"}
        blob.upload_from_filename(path, timeout=SECONDS, retry=self._parts, **described)

    def create(self, uri: str, content: bytes) -> bool:
        described = {"content_type": media_type(uri), "checksum": "crc32c"}
        try:
            self._blob(uri).upload_from_string(content, if_generation_match=0, **described, **_ONCE)
        except self._exceptions.PreconditionFailed:
            return False
        return True

    def remove(self, uri: str) -> None:
        with contextlib.suppress(self._exceptions.NotFound):
            self._blob(uri).delete(**_ONCE)

    def failure(self, error: Exception, uri: str) -> RequestFailure | None:
        import requests
        import urllib3
        from google.auth.exceptions import GoogleAuthError, TransportError
        from google.cloud.storage.exceptions import DataCorruption, InvalidResponse

        if isinstance(error, requests.exceptions.InvalidURL):
            what = "the store has no address"
            return RequestFailure(transient_error(uri, what, "correct STORAGE_EMULATOR_HOST"))
        broken = (requests.RequestException, urllib3.exceptions.HTTPError, ConnectionError)
        if isinstance(error, self._exceptions.RetryError) and isinstance(error.cause, Exception):
            error = error.cause
        status = None
        if isinstance(error, InvalidResponse):
            status = error.response.status_code
        elif isinstance(error, self._exceptions.GoogleAPICallError):
            status = error.code
        if status:
            remedy = "check the role of the account"
            return RequestFailure.answered(uri, int(status), str(int(status)), remedy)
        if isinstance(error, (*broken, TransportError, DataCorruption, TimeoutError)):
            return RequestFailure.unreachable(error, uri)
        if isinstance(error, GoogleAuthError):
            # They may be renewed, and an account's server may answer later: the file is fine.
            what = "the credentials are not accepted, renew them"
            return RequestFailure(transient_error(uri, what), transient=True)
        return None

    def _blob(self, uri: str) -> Any:
        bucket, name = bucket_and_name(uri)
        return self._client.bucket(bucket).blob(name)


def _stored(uri: str, blob: Any) -> StoredObject:
    """An object as the client describes it.

    Raises:
        TypeError: If it lacks size or generation.
        ValueError: If one of them is no number.
    """
    return StoredObject(uri, int(blob.size), _generation(blob))


def _generation(blob: Any) -> str:
    return str(int(blob.generation))


def _check_answer(response: Any, **settings: Any) -> None:
    """Refuse what is no answer of the store about objects; called by the session of the client.

    Raises:
        WrongAnswerError: If it is no JSON, or empty.
    """
    asked = response.request
    if asked.method != "GET" or response.status_code != 200 or "alt=media" in asked.url:
        return
    is_json = response.headers.get("Content-Type", "").startswith("application/json")
    if not is_json or response.headers.get("Content-Length") == "0":
        raise wrong_answer("gs://", "a description of objects is no JSON")
