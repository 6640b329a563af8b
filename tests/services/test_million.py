"""The bucket of a million objects lists as the real stores do."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from tests.services.fixtures import ENVIRONMENTS, need_packages, use_environment
from tests.services.million import etag, name, photo, size


@pytest.fixture(params=["gs", "s3"])
def listed(request, million, monkeypatch):
    """Names, sizes and ETags under a prefix, with the official client of each store."""
    kind = request.param
    need_packages(kind)
    use_environment(ENVIRONMENTS[kind](million.url), monkeypatch)

    def google(prefix: str) -> list[tuple[str, int, str]]:
        from google.cloud import storage

        fields = "items(name,size,etag),nextPageToken"
        blobs = storage.Client().list_blobs("photos", prefix=prefix, fields=fields)
        return [(blob.name, blob.size, blob.etag) for blob in blobs]

    def amazon(prefix: str) -> list[tuple[str, int, str]]:
        import boto3

        pages = boto3.client("s3").get_paginator("list_objects_v2")
        pages = pages.paginate(Bucket="photos", Prefix=prefix)
        items = [item for page in pages for item in page.get("Contents", [])]
        return [(item["Key"], item["Size"], item["ETag"].strip('"')) for item in items]

    return google if kind == "gs" else amazon


def test_objects_under_a_prefix_come_in_pages_of_a_thousand(listed, million):
    million.pages()
    expected = [(name(n), size(n), etag(n)) for n in range(10_000, 20_000)]
    assert listed("photos/001") == expected
    assert million.pages() == 10


def test_the_last_page_is_as_short_as_it_must_be(listed, million):
    million.pages()
    assert [text for text, _, _ in listed("photos/0999/00099999")] == [
        name(n) for n in range(999_990, 1_000_000)
    ]
    assert listed("photos/1000/") == []
    assert million.pages() == 2


def test_amazon_lists_folders_and_starts_after_a_name(million, monkeypatch):
    need_packages("s3")
    import boto3

    use_environment(ENVIRONMENTS["s3"](million.url), monkeypatch)
    client = boto3.client("s3")
    page = client.list_objects_v2(Bucket="p", Prefix="photos/", Delimiter="/", MaxKeys=2)
    assert [folder["Prefix"] for folder in page["CommonPrefixes"]] == [
        "photos/0000/",
        "photos/0001/",
    ]
    page = client.list_objects_v2(
        Bucket="p",
        Prefix="photos/",
        Delimiter="/",
        MaxKeys=1,
        ContinuationToken=page["NextContinuationToken"],
    )
    assert [folder["Prefix"] for folder in page["CommonPrefixes"]] == ["photos/0002/"]
    page = client.list_objects_v2(Bucket="p", StartAfter=name(999_998))
    assert [item["Key"] for item in page["Contents"]] == [name(999_999)]


def test_objects_are_photos_of_the_size_listed(million, monkeypatch):
    need_packages("s3")
    import boto3

    use_environment(ENVIRONMENTS["s3"](million.url), monkeypatch)
    client = boto3.client("s3")
    got = client.get_object(Bucket="p", Key=name(123_456))
    content = got["Body"].read()
    assert (len(content), got["ETag"]) == (size(123_456), f'"{etag(123_456)}"')
    assert Image.open(io.BytesIO(content)).convert("RGB").size == (8, 8)
    assert client.head_object(Bucket="p", Key=name(7))["ContentLength"] == size(7)
    part = client.get_object(Bucket="p", Key=name(7), Range="bytes=-3")
    assert part["Body"].read() == photo(7)[-3:]
    with pytest.raises(client.exceptions.NoSuchKey):
        client.get_object(Bucket="p", Key="photos/0001/000000007.jpg")


def test_google_objects_are_read_through_the_json_api(million, monkeypatch):
    need_packages("gs")
    from google.cloud import storage

    use_environment(ENVIRONMENTS["gs"](million.url), monkeypatch)
    blob = storage.Client().bucket("p").get_blob(name(5))
    assert (blob.size, blob.etag) == (size(5), etag(5))
    assert blob.download_as_bytes() == photo(5)
