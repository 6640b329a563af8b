"""The faulty proxy: each kind of fault does what its name says, by a sequence of its seed."""

from __future__ import annotations

import http.client
from urllib.parse import urlencode, urlsplit

import pytest

from tests.services.buckets import UNCHECKED, Bucket
from tests.services.faults import (
    CUT,
    KINDS,
    LOST,
    PASSED,
    PERMANENT,
    REFUSED,
    SLOW,
    TOO_MANY,
    UNAVAILABLE,
    Plan,
)


def ask(bucket: Bucket, method: str, name: str, content: bytes | None = None) -> tuple[int, bytes]:
    """One request through the proxy, without retries; 0 if the connection broke off."""
    assert bucket.faults is not None
    connection = http.client.HTTPConnection(urlsplit(bucket.faults.url).netloc, timeout=10)
    target = f"/{bucket.name}/{name}"
    if bucket.service.kind == "gs" and method == "PUT":
        query = urlencode({"uploadType": "media", "name": name})
        method, target = "POST", f"/upload/storage/v1/b/{bucket.name}/o?{query}"
    try:
        connection.request(method, target, content, {"Authorization": UNCHECKED})
        got = connection.getresponse()
        return got.status, got.read()
    except http.client.IncompleteRead as broken:
        return 0, broken.partial
    except ConnectionError:
        return 0, b""
    finally:
        connection.close()


def always(bucket: Bucket, kind: str) -> None:
    assert bucket.faults is not None
    bucket.faults.follow(Plan(share=1.0, kinds=(kind,), slow_seconds=0.01))


@pytest.mark.parametrize(
    ("kind", "status", "carried_out"),
    [
        (UNAVAILABLE, 503, False),
        (TOO_MANY, 429, False),
        (REFUSED, 0, False),
        (LOST, 0, True),
        (SLOW, 200, True),
    ],
)
def test_a_write_is_carried_out_or_not_by_kind_of_fault(faulty_bucket, kind, status, carried_out):
    always(faulty_bucket, kind)
    assert ask(faulty_bucket, "PUT", "a", b"x" * 100_000)[0] == status
    assert faulty_bucket.names() == (["a"] if carried_out else [])
    assert faulty_bucket.faults.count(kind) == 1


def test_a_cut_body_ends_in_its_middle(faulty_bucket):
    faulty_bucket.put("a", b"x" * 100_000)
    always(faulty_bucket, CUT)
    assert ask(faulty_bucket, "GET", "a") == (0, b"x" * 50_000)


def test_a_permanent_fault_strikes_its_names_only(faulty_bucket):
    faulty_bucket.put("good", b"x")
    faulty_bucket.put("bad", b"x")
    faulty_bucket.faults.follow(Plan(share=0.0, permanent="/bad$", permanent_status=403))
    assert ask(faulty_bucket, "GET", "good") == (200, b"x")
    assert [ask(faulty_bucket, method, "bad", b"y")[0] for method in ("GET", "PUT")] == [403, 403]
    assert faulty_bucket.faults.count(PERMANENT) == 2
    faulty_bucket.faults.off()
    assert ask(faulty_bucket, "GET", "bad") == (200, b"x")


@pytest.mark.parametrize("storage_service", ["gs"], indirect=True)
def test_a_permanent_fault_finds_names_in_multipart_uploads(faulty_bucket):
    from google.api_core.exceptions import Forbidden
    from google.cloud import storage

    faulty_bucket.faults.follow(Plan(share=0.0, permanent="/bad ü$", permanent_status=403))
    blob = storage.Client().bucket(faulty_bucket.name).blob("bad ü")
    with pytest.raises(Forbidden):
        blob.upload_from_string(b"x", retry=None)
    assert faulty_bucket.names() == []


def test_every_fifth_request_fails_and_the_same_ones_every_time(faulty_bucket):
    faulty_bucket.put("a", b"x" * 1000)
    runs = []
    for seed in (1, 1, 2):
        faulty_bucket.faults.follow(Plan(seed=seed, slow_seconds=0.0))
        runs.append([ask(faulty_bucket, "GET", "a") for _ in range(100)])
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]
    assert faulty_bucket.faults.count(*KINDS, PASSED) == 100
    assert 10 <= faulty_bucket.faults.count(*KINDS) <= 30


def test_official_clients_survive_the_faults_with_their_own_retries(faulty_bucket):
    contents = {f"{number}": bytes([number]) * 1000 for number in range(20)}
    faulty_bucket.faults.follow(Plan(kinds=(UNAVAILABLE, TOO_MANY, REFUSED), slow_seconds=0.0))
    if faulty_bucket.service.kind == "gs":
        from google.cloud import storage
        from google.cloud.storage.retry import DEFAULT_RETRY

        store = storage.Client().bucket(faulty_bucket.name)
        retry = DEFAULT_RETRY.with_delay(initial=0.01, maximum=0.05)
        for name, content in contents.items():
            store.blob(name).upload_from_string(content, retry=retry)
    else:
        import boto3
        from botocore.config import Config

        config = Config(retries={"mode": "standard", "max_attempts": 8})
        client = boto3.client("s3", config=config)
        for name, content in contents.items():
            client.put_object(Bucket=faulty_bucket.name, Key=name, Body=content)
    assert {name: faulty_bucket.get(name) for name in faulty_bucket.names()} == contents
    assert faulty_bucket.faults.count(*KINDS) > 0
