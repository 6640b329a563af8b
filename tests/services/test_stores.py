"""Both emulators behave as the real stores where the product relies on it."""

from __future__ import annotations

import http.client
import io
import random
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote, urlsplit

import numpy as np
import pytest

from tests.services.buckets import Bucket

ODD_NAMES = ["a b.txt", "a+b&c=d", "dir/", "x#y?z%41.txt", "ü/ñ.jpg"]
only_google = pytest.mark.parametrize("storage_service", ["gs"], indirect=True)
only_amazon = pytest.mark.parametrize("storage_service", ["s3"], indirect=True)


def create_if_absent(bucket: Bucket, name: str, content: bytes) -> bool:
    """With the official client; False if the store says that the object is there."""
    if bucket.service.kind == "gs":
        from google.api_core.exceptions import PreconditionFailed
        from google.cloud import storage

        blob = storage.Client().bucket(bucket.name).blob(name)
        try:
            blob.upload_from_string(content, if_generation_match=0)
        except PreconditionFailed:
            return False
        return True
    import boto3
    from botocore.exceptions import ClientError

    try:
        boto3.client("s3").put_object(Bucket=bucket.name, Key=name, Body=content, IfNoneMatch="*")
    except ClientError as fault:
        if fault.response["ResponseMetadata"]["HTTPStatusCode"] != 412:
            raise
        return False
    return True


def test_odd_names_and_any_bytes_come_back(bucket):
    random_bytes = random.Random(1).randbytes(70_000) + b"\r\n--\r\n\n"
    for name in ODD_NAMES:
        bucket.put(name, random_bytes)
    assert bucket.names() == ODD_NAMES
    assert [bucket.get(name) for name in ODD_NAMES] == [random_bytes] * len(ODD_NAMES)
    assert bucket.names("a") == ["a b.txt", "a+b&c=d"]


def test_an_empty_object_is_an_object(bucket):
    bucket.put("_SUCCESS", b"")
    assert bucket.names() == ["_SUCCESS"]
    assert bucket.get("_SUCCESS") == b""


def test_what_is_not_there_is_a_key_error(bucket):
    with pytest.raises(KeyError, match="nothing"):
        bucket.get("nothing")


def test_create_if_absent_keeps_the_first(bucket):
    assert create_if_absent(bucket, "commit", b"first")
    assert not create_if_absent(bucket, "commit", b"second")
    assert bucket.get("commit") == b"first"


def test_of_many_creators_at_once_one_wins(bucket):
    contents = [f"creator {number}".encode() for number in range(16)]
    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda content: create_if_absent(bucket, "commit", content), contents))
    assert won.count(True) == 1
    assert bucket.get("commit") == contents[won.index(True)]


def test_rasterio_reads_windows_under_gdals_path(bucket):
    import rasterio
    from rasterio.io import MemoryFile
    from rasterio.transform import from_origin

    pixels = np.random.default_rng(1).integers(0, 256, (3, 1024, 1024), dtype=np.uint8)
    profile = {"width": 1024, "height": 1024, "count": 3, "dtype": "uint8", "crs": "EPSG:3857"}
    with MemoryFile() as memory:
        transform = from_origin(500_000, 100_000, 1, 1)
        with memory.open(
            driver="GTiff",
            tiled=True,
            blockxsize=256,
            blockysize=256,
            transform=transform,
            **profile,
        ) as scene:
            scene.write(pixels)
        bucket.put("scenes/a b.tif", memory.read())
    with rasterio.open(f"{bucket.gdal_path}/scenes/a b.tif") as scene:
        actual = scene.read(window=((600, 700), (900, 1000)))
    np.testing.assert_array_equal(actual, pixels[:, 600:700, 900:1000])


def test_a_client_that_dies_in_its_upload_leaves_nothing(bucket):
    address = urlsplit(bucket.service.url)
    connection = http.client.HTTPConnection(address.netloc, timeout=10)
    if bucket.service.kind == "gs":
        target = f"/upload/storage/v1/b/{bucket.name}/o?uploadType=media&name=half"
        connection.putrequest("POST", target)
    else:
        connection.putrequest("PUT", f"/{bucket.name}/half")
        connection.putheader("Authorization", "AWS4-HMAC-SHA256 Credential=testing/x")
    connection.putheader("Content-Length", "1000000")
    connection.endheaders(b"x" * 500_000)
    connection.close()
    bucket.put("whole", b"x")
    assert bucket.names() == ["whole"]


@only_google
def test_resumable_uploads_keep_the_first_too(bucket):
    from google.api_core.exceptions import PreconditionFailed
    from google.cloud import storage

    content = random.Random(2).randbytes(3 << 20)
    blob = storage.Client().bucket(bucket.name).blob("big ü", chunk_size=1 << 20)
    blob.upload_from_file(io.BytesIO(content), if_generation_match=0)
    assert bucket.get("big ü") == content
    with pytest.raises(PreconditionFailed):
        blob.upload_from_file(io.BytesIO(b"x" * (3 << 20)), if_generation_match=0)
    assert bucket.get("big ü") == content


@only_google
@pytest.mark.parametrize(
    ("asked", "status", "expected"),
    [
        ("bytes=2-4", 206, b"cde"),
        ("bytes=7-", 206, b"hij"),
        ("bytes=-2", 206, b"ij"),
        ("bytes=8-99", 206, b"ij"),
        ("bytes=10-", 416, b""),
    ],
)
def test_ranges_of_google_objects_are_those_of_the_real_store(bucket, asked, status, expected):
    bucket.put("a", b"abcdefghij")
    connection = http.client.HTTPConnection(urlsplit(bucket.service.url).netloc, timeout=10)
    connection.request("GET", f"/{bucket.name}/a", headers={"Range": asked})
    got = connection.getresponse()
    assert (got.status, got.read()) == (status, expected)


@only_google
def test_lists_of_google_objects_come_in_pages(bucket):
    from google.cloud import storage

    for name in ("b/2", "a", "b/1", "c", "é"):
        bucket.put(name, b"x")
    client = storage.Client()
    pages = client.list_blobs(bucket.name, page_size=2).pages
    assert [[blob.name for blob in page] for page in pages] == [["a", "b/1"], ["b/2", "c"], ["é"]]
    listed = client.list_blobs(bucket.name, delimiter="/", start_offset="b")
    assert [blob.name for blob in listed] == ["c", "é"]
    assert listed.prefixes == {"b/"}


@only_amazon
def test_multipart_uploads_of_amazon_keep_the_first_too(bucket):
    import boto3
    from botocore.exceptions import ClientError

    client = boto3.client("s3")
    place = {"Bucket": bucket.name, "Key": "big"}

    def upload(content: bytes) -> None:
        started = {**place, "UploadId": client.create_multipart_upload(**place)["UploadId"]}
        part = client.upload_part(**started, PartNumber=1, Body=content)
        parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
        client.complete_multipart_upload(**started, MultipartUpload=parts, IfNoneMatch="*")

    upload(b"first")
    with pytest.raises(ClientError, match="PreconditionFailed"):
        upload(b"second")
    assert bucket.get("big") == b"first"


@only_amazon
def test_lists_of_amazon_objects_come_in_pages(bucket):
    import boto3

    for name in ("b", "a", "c/ü"):
        bucket.put(name, b"x")
    pages = boto3.client("s3").get_paginator("list_objects_v2")
    pages = pages.paginate(Bucket=bucket.name, PaginationConfig={"PageSize": 2})
    names = [[item["Key"] for item in page["Contents"]] for page in pages]
    assert names == [["a", "b"], ["c/ü"]]


@only_google
def test_a_session_address_leads_back_through_the_proxy(faulty_bucket):
    faulty_bucket.faults.off()
    url = quote(faulty_bucket.name)
    connection = http.client.HTTPConnection(urlsplit(faulty_bucket.faults.url).netloc, timeout=10)
    target = f"/upload/storage/v1/b/{url}/o?uploadType=resumable&name=a"
    connection.request("POST", target, b"{}", {"Content-Type": "application/json"})
    location = connection.getresponse().headers["Location"]
    assert location.startswith(faulty_bucket.faults.url + "/")


def google_call(bucket: Bucket, method: str, target: str, body: bytes = b"", **headers: str):
    """One request to the gateway: status, headers and body."""
    connection = http.client.HTTPConnection(urlsplit(bucket.service.url).netloc, timeout=10)
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, target, body, names)
    got = connection.getresponse()
    return got.status, got.headers, got.read()


@only_google
def test_google_deletes_and_composes_under_conditions(bucket):
    bucket.put("a", b"x")
    place = f"/storage/v1/b/{bucket.name}/o"
    sources = b'{"destination": {}, "sourceObjects": [{"name": "a"}, {"name": "a"}]}'
    compose = f"{place}/two/compose?ifGenerationMatch=0"
    kind = "application/json"
    assert google_call(bucket, "DELETE", f"{place}/a?ifGenerationMatch=5")[0] == 412
    assert google_call(bucket, "POST", compose, sources, Content_Type=kind)[0] == 200
    assert google_call(bucket, "POST", compose, sources, Content_Type=kind)[0] == 412
    assert bucket.get("two") == b"xx"
    assert google_call(bucket, "DELETE", f"{place}/a")[0] == 204
    assert bucket.names() == ["two"]


@only_google
def test_a_finished_upload_can_be_asked_whether_it_is(bucket):
    target = f"/upload/storage/v1/b/{bucket.name}/o?uploadType=resumable&name=a&ifGenerationMatch=0"
    _, headers, _ = google_call(bucket, "POST", target, b"{}", Content_Type="application/json")
    session = headers["Location"].removeprefix(bucket.service.url)
    status, headers, _ = google_call(bucket, "PUT", session, Content_Range="bytes */*")
    assert (status, headers["Range"]) == (308, None)
    sent = google_call(bucket, "PUT", session, b"abc", Content_Range="bytes 0-2/3")
    asked = google_call(bucket, "PUT", session, Content_Range="bytes */3")
    assert (sent[0], asked[0]) == (200, 200)
    assert sent[2] == asked[2]


@only_google
def test_chunked_uploads_above_what_is_held_in_memory_arrive(faulty_bucket):
    assert faulty_bucket.faults is not None
    faulty_bucket.faults.off()
    block = random.Random(3).randbytes(1 << 20)
    connection = http.client.HTTPConnection(urlsplit(faulty_bucket.faults.url).netloc, timeout=30)
    target = f"/upload/storage/v1/b/{faulty_bucket.name}/o?uploadType=media&name=a"
    connection.request("POST", target, iter([block] * 6), encode_chunked=True)
    assert connection.getresponse().status == 200
    assert faulty_bucket.get("a") == block * 6
