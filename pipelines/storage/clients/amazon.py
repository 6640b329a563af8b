"""Amazon S3 and stores that speak its protocol, by boto3."""

import errno

from pipelines.storage.clients.interface import Fault, StoredObject
from pipelines.storage.clients.retry import ATTEMPTS, passing, replaced
from pipelines.storage.locations import bucket_and_name, media_type
from segmodel.errors import ConfigurationError

PAGE = 1000
# An upload above this goes in parts of this size, each of which is sent again if it has to.
PART_BYTES = 16 << 20
CONNECTIONS = 32
SECONDS = 60
_PASSING = {408, 429, 500, 502, 503, 504}
_THROTTLED = {"SlowDown", "Throttling", "RequestTimeout", "RequestLimitExceeded", "InternalError"}
_MISSING = {"404", "NoSuchKey", "NoSuchBucket", "NotFound"}
# A store that does not know how to write only if nothing is there.
_UNKNOWN = {"NotImplemented", "501"}


class AmazonClient:
    """Objects of S3; versions are entity tags.

    Credentials, region and endpoint (`AWS_ENDPOINT_URL_S3`) are those that boto3 finds.

    Raises:
        ConfigurationError: If boto3 is not installed.
    """

    def __init__(self) -> None:
        try:
            import boto3
            from boto3.s3.transfer import TransferConfig
            from botocore.config import Config
        except ImportError as error:
            raise ConfigurationError(
                "s3:// locations need a package that is not installed: pip install 'beamseg[aws]'"
            ) from error

        def client(attempts: int):
            retries = {"total_max_attempts": attempts, "mode": "standard"}
            config = Config(
                retries=retries,
                max_pool_connections=CONNECTIONS,
                connect_timeout=SECONDS,
                read_timeout=SECONDS,
            )
            return boto3.session.Session().client("s3", config=config)

        self._client = client(1)
        self._uploading = client(ATTEMPTS)
        self._parts = TransferConfig(
            multipart_threshold=PART_BYTES, multipart_chunksize=PART_BYTES, use_threads=False
        )
        self._creates_conditionally = True

    def page(self, start: str, token: str | None) -> tuple[list[StoredObject], str | None]:
        bucket, prefix = bucket_and_name(start)
        place = {"ContinuationToken": token} if token else {}
        answer = self._client.list_objects_v2(Bucket=bucket, MaxKeys=PAGE, Prefix=prefix, **place)
        found = [
            StoredObject(f"s3://{bucket}/{entry['Key']}", entry["Size"], _tag(entry["ETag"]))
            for entry in answer.get("Contents", ())
        ]
        return found, answer.get("NextContinuationToken")

    def stat(self, uri: str) -> StoredObject | None:
        bucket, name = bucket_and_name(uri)
        if not name:
            return None
        try:
            answer = self._client.head_object(Bucket=bucket, Key=name)
        except self._client.exceptions.ClientError as error:
            if error.response["Error"]["Code"] in _MISSING:
                return None
            raise
        return StoredObject(uri, answer["ContentLength"], _tag(answer["ETag"]))

    def read(self, uri: str, start: int, length: int | None, version: str | None) -> bytes:
        if length == 0:
            return b""
        bucket, name = bucket_and_name(uri)
        asked = {}
        if start or length is not None:
            asked["Range"] = f"bytes={start}-{'' if length is None else start + length - 1}"
        if version is not None:
            asked["IfMatch"] = f'"{version}"'
        try:
            answer = self._client.get_object(Bucket=bucket, Key=name, **asked)
        except self._client.exceptions.ClientError as error:
            if error.response["Error"]["Code"] in ("InvalidRange", "416"):
                return b""
            raise
        return answer["Body"].read()

    def upload(self, path: str, uri: str) -> None:
        bucket, name = bucket_and_name(uri)
        described = {"ContentType": media_type(uri)}
        self._uploading.upload_file(path, bucket, name, ExtraArgs=described, Config=self._parts)

    def create(self, uri: str, content: bytes) -> bool:
        bucket, name = bucket_and_name(uri)
        if not self._creates_conditionally:
            if self.stat(uri) is not None:
                return False
            self._client.put_object(Bucket=bucket, Key=name, Body=content)
            return True
        try:
            self._client.put_object(Bucket=bucket, Key=name, Body=content, IfNoneMatch="*")
        except self._client.exceptions.ClientError as error:
            code = error.response["Error"]["Code"]
            if code in ("PreconditionFailed", "412"):
                return False
            if code not in _UNKNOWN:
                raise
            self._creates_conditionally = False
            return self.create(uri, content)
        return True

    def remove(self, uri: str) -> None:
        bucket, name = bucket_and_name(uri)
        self._client.delete_object(Bucket=bucket, Key=name)

    def fault(self, error: Exception, uri: str) -> Fault | None:
        import urllib3
        from boto3.exceptions import Boto3Error
        from botocore import exceptions

        if isinstance(error, exceptions.ClientError):
            return _answered(error, uri)
        if isinstance(error, exceptions.NoCredentialsError | exceptions.PartialCredentialsError):
            what = (
                "there are no credentials for s3:// (run `aws configure`, or set AWS_ACCESS_KEY_ID "
                "and AWS_SECRET_ACCESS_KEY)"
            )
            # No fault of a file, wherever a worker lacks them.
            return Fault(passing(uri, what))
        broken = (exceptions.HTTPClientError, exceptions.ConnectionError, ConnectionError)
        incomplete = (exceptions.IncompleteReadError, exceptions.ResponseStreamingError)
        transport = (urllib3.exceptions.HTTPError, exceptions.FlexibleChecksumError, TimeoutError)
        if isinstance(error, (*broken, *incomplete, *transport)):
            return Fault(passing(uri, f"the store is out of reach ({type(error).__name__})"), True)
        if isinstance(error, Boto3Error):
            # What the upload of a file wraps.
            cause = error.__cause__ or error.__context__
            return self.fault(cause, uri) if isinstance(cause, Exception) else None
        if isinstance(error, exceptions.BotoCoreError):
            # Its text may name files of this machine.
            what = f"the client of the store fails ({type(error).__name__}): check its settings"
            return Fault(passing(uri, what))
        return None


def _tag(text: str) -> str:
    """An entity tag without its quotes."""
    return text.strip('"')


def _answered(error: Exception, uri: str) -> Fault:
    """What an error that the store answers means."""
    answer = error.response  # type: ignore[attr-defined]
    code = str(answer["Error"].get("Code", ""))
    status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if code in _MISSING:
        return Fault(FileNotFoundError(errno.ENOENT, "no such object or bucket", uri))
    if code in _THROTTLED or status in _PASSING or code == "ConditionalRequestConflict":
        return Fault(passing(uri, f"the store answers {status} {code}"), True)
    if code in ("PreconditionFailed", "412"):
        return Fault(replaced(uri))
    if status in (401, 403):
        what = f"the store refuses access ({status} {code}): check the policy of the account"
        return Fault(PermissionError(errno.EACCES, what, uri))
    return Fault(OSError(errno.EINVAL, f"the store answers {status} {code}", uri))
