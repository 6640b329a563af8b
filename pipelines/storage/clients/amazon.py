"""Amazon S3 and stores that speak its protocol, by boto3."""

from typing import Any

from pipelines.storage.clients.interface import (
    RequestFailure,
    StoredObject,
    parsing,
    transient_error,
    wrong_answer,
)
from pipelines.storage.clients.retry import ATTEMPTS
from pipelines.storage.locations import bucket_and_name, media_type
from segmodel.errors import ConfigurationError

PAGE = 1000
# An upload above this goes in parts of this size, each of which is sent again if it has to.
PART_BYTES = 16 << 20
CONNECTIONS = 32
SECONDS = 60
# What every answer of a store to an operation has; a page of a proxy has none of it.
_MARKS = {
    "ListObjectsV2": "IsTruncated",
    "CompleteMultipartUpload": "ETag",
    "GetObject": "ETag",
    "HeadObject": "ETag",
    "PutObject": "ETag",
    "UploadPart": "ETag",
}
# Codes of transient failures with HTTP statuses that say nothing of it.
_TRANSIENT_CODES = {"ConditionalRequestConflict", "RequestTimeout", "Throttling"}


class AmazonClient:
    """Objects of S3; versions are entity tags.

    Credentials, region and endpoint (`AWS_ENDPOINT_URL_S3`) are those that boto3 finds.

    Raises:
        ConfigurationError: If boto3 cannot use what it finds.
    """

    def __init__(self) -> None:
        import boto3
        from boto3.s3.transfer import TransferConfig
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError

        def client(session: Any, attempts: int) -> Any:
            config = Config(
                retries={"total_max_attempts": attempts, "mode": "standard"},
                max_pool_connections=CONNECTIONS,
                connect_timeout=SECONDS,
                read_timeout=SECONDS,
            )
            made = session.client("s3", config=config)
            made.meta.events.register("after-call.s3", _check_answer)
            return made

        try:
            session = boto3.session.Session()
            self._client, self._uploading = client(session, 1), client(session, ATTEMPTS)
        except (BotoCoreError, ValueError) as error:
            # Its text may name files of this machine.
            raise ConfigurationError(
                f"s3:// locations need a client, which cannot be made of the settings "
                f"({type(error).__name__}): check AWS_PROFILE, AWS_CONFIG_FILE and "
                f"AWS_ENDPOINT_URL_S3"
            ) from error
        self._parts = TransferConfig(
            multipart_threshold=PART_BYTES, multipart_chunksize=PART_BYTES, use_threads=False
        )
        self._unless_there = {"IfNoneMatch": "*"}

    def page(self, start: str, token: str | None) -> tuple[list[StoredObject], str | None]:
        bucket, prefix = bucket_and_name(start)
        place = {"ContinuationToken": token} if token else {}
        with parsing(start):
            answer = self._client.list_objects_v2(
                Bucket=bucket, MaxKeys=PAGE, Prefix=prefix, **place
            )
            found = [
                StoredObject(f"s3://{bucket}/{entry['Key']}", entry["Size"], _tag(entry["ETag"]))
                for entry in answer.get("Contents", ())
            ]
            return found, answer["NextContinuationToken"] if answer["IsTruncated"] else None

    def stat(self, uri: str) -> StoredObject | None:
        bucket, name = bucket_and_name(uri)
        try:
            with parsing(uri):
                answer = self._client.head_object(Bucket=bucket, Key=name)
                return StoredObject(uri, answer["ContentLength"], _tag(answer["ETag"]))
        except self._client.exceptions.ClientError as error:
            if _status(error) == 404:
                return None
            raise

    def read(self, uri: str, start: int, length: int | None, version: str | None) -> bytes:
        bucket, name = bucket_and_name(uri)
        asked = {}
        if start or length is not None:
            asked["Range"] = f"bytes={start}-{'' if length is None else start + length - 1}"
        if version is not None:
            asked["IfMatch"] = f'"{version}"'
        try:
            with parsing(uri):
                answer = self._client.get_object(Bucket=bucket, Key=name, **asked)
        except self._client.exceptions.ClientError as error:
            if _status(error) == 416:
                return b""
            raise
        content = bytes(answer["Body"].read())
        if version not in (None, _tag(answer["ETag"])):
            raise wrong_answer(uri, f"version {_tag(answer['ETag'])} in place of {version}")
        return content

    def upload(self, path: str, uri: str) -> None:
        bucket, name = bucket_and_name(uri)
        described = {"ContentType": media_type(uri)}
        self._uploading.upload_file(path, bucket, name, ExtraArgs=described, Config=self._parts)

    def create(self, uri: str, content: bytes) -> bool:
        bucket, name = bucket_and_name(uri)
        if not self._unless_there and self.stat(uri) is not None:
            return False
        try:
            self._client.put_object(Bucket=bucket, Key=name, Body=content, **self._unless_there)
        except self._client.exceptions.ClientError as error:
            if _status(error) == 412:
                return False
            if _status(error) != 501 or not self._unless_there:
                raise
            # The store does not know how to write only if nothing is there.
            self._unless_there = {}
            return self.create(uri, content)
        return True

    def remove(self, uri: str) -> None:
        bucket, name = bucket_and_name(uri)
        self._client.delete_object(Bucket=bucket, Key=name)

    def failure(self, error: Exception, uri: str) -> RequestFailure | None:
        import urllib3
        from boto3.exceptions import Boto3Error
        from botocore import exceptions
        from botocore.parsers import ResponseParserError

        if isinstance(error, exceptions.ClientError):
            code = error.response["Error"].get("Code", "")
            status = 503 if code in _TRANSIENT_CODES else _status(error)
            remedy = "check the policy of the account"
            return RequestFailure.answered(uri, status, f"{_status(error)} {code}", remedy)
        if isinstance(error, exceptions.NoCredentialsError | exceptions.PartialCredentialsError):
            what = "there are no credentials for s3://"
            remedy = (
                "run `aws configure`, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, then run "
                "the same command again"
            )
            # A worker lacks them: nothing is wrong with the file.
            return RequestFailure(transient_error(uri, what, remedy))
        broken = (exceptions.HTTPClientError, exceptions.ConnectionError, ConnectionError)
        unread = exceptions.ResponseStreamingError, ResponseParserError
        incomplete = (exceptions.IncompleteReadError, *unread)
        transport = (urllib3.exceptions.HTTPError, exceptions.FlexibleChecksumError, TimeoutError)
        if isinstance(error, (*broken, *incomplete, *transport)):
            return RequestFailure.unreachable(error, uri)
        if isinstance(error, Boto3Error):
            # What the upload of a file wraps.
            cause = error.__cause__ or error.__context__
            return self.failure(cause, uri) if isinstance(cause, Exception) else None
        if isinstance(error, exceptions.BotoCoreError):
            # Its text may name files of this machine.
            what = f"the client of the store fails ({type(error).__name__})"
            remedy = "check the address and the settings of the client"
            return RequestFailure(transient_error(uri, what, remedy))
        return None


def _status(error: Any) -> int:
    """HTTP status of an error that the store answers; 0 if it has none."""
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _tag(text: str) -> str:
    """An entity tag without its quotes, also where what compresses answers has marked it as weak.

    >>> _tag('"5d41-2"'), _tag('W/"5d41-2"')
    ('5d41-2', '5d41-2')
    """
    return text.removeprefix("W/").strip('"')


def _check_answer(parsed: Any, model: Any, context: Any, **others: Any) -> None:
    """Refuse what is no answer of a store; called by the client after each request.

    Raises:
        WrongAnswerError: If it lacks what the store tells.
    """
    mark = _MARKS.get(model.name)
    if mark is not None and "Error" not in parsed and mark not in parsed:
        raise wrong_answer(f"s3 {model.name}", f"it has no {mark}")
