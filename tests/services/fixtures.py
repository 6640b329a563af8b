"""The services as fixtures. One test body runs on both kinds through `bucket`."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.services.buckets import Bucket, Service
from tests.services.faults import Faults, Plan, faulty_server
from tests.services.gcs import gcs_environment, gcs_server
from tests.services.million import Million, million_server
from tests.services.s3 import s3_environment, s3_server
from tests.services.tokens import token_server, write_service_account

ENVIRONMENTS = {"gs": gcs_environment, "s3": s3_environment}
PACKAGES = {
    "gs": {"gcp_storage_emulator": "gcp-storage-emulator", "google.cloud.storage": None},
    "s3": {"moto": "moto[s3,server]", "boto3": None},
}
# What leads clients elsewhere than to the service of the test.
FOREIGN = [
    *("GOOGLE_APPLICATION_CREDENTIALS", "AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL"),
    *("STORAGE_EMULATOR_HOST", "CPL_GS_ENDPOINT", "AWS_S3_ENDPOINT", "AWS_ENDPOINT_URL_S3"),
]


def need_packages(kind: str) -> None:
    """Skip, with the reason, where a package that this kind of store needs is missing."""
    for module, package in PACKAGES[kind].items():
        try:
            found = importlib.util.find_spec(module) is not None
        except ModuleNotFoundError:
            found = False
        if not found:
            pytest.skip(f"{kind}:// is not tested: {package or module} is not installed")


@pytest.fixture(scope="session")
def gcs_service() -> Iterator[Service]:
    need_packages("gs")
    with gcs_server() as url:
        yield Service("gs", url)


@pytest.fixture(scope="session")
def s3_service() -> Iterator[Service]:
    need_packages("s3")
    with s3_server() as url:
        yield Service("s3", url)


@pytest.fixture(params=["gs", "s3"])
def storage_service(request: pytest.FixtureRequest) -> Iterator[Service]:
    """Either service, wiped after each test; `parametrize(..., indirect=True)` picks one."""
    service = request.getfixturevalue({"gs": "gcs_service", "s3": "s3_service"}[request.param])
    yield service
    service.wipe()


@pytest.fixture
def bucket(storage_service: Service, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """An empty bucket, with the environment set so that clients reach it."""
    environment = ENVIRONMENTS[storage_service.kind](storage_service.url)
    use_environment(environment, monkeypatch)
    return Bucket(storage_service, storage_service.create_bucket(), environment)


@pytest.fixture(scope="session")
def gcs_faults(gcs_service: Service) -> Iterator[Faults]:
    with faulty_server(gcs_service.url) as faults:
        yield faults


@pytest.fixture(scope="session")
def s3_faults(s3_service: Service) -> Iterator[Faults]:
    with faulty_server(s3_service.url) as faults:
        yield faults


@pytest.fixture
def faulty_bucket(
    storage_service: Service, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Bucket:
    """An empty bucket whose clients see every fifth request fail, by a fixed seed.

    Tests change that by `bucket.faults.follow(Plan(...))` and look at `bucket.faults.counts`.
    """
    kind = storage_service.kind
    faults = request.getfixturevalue({"gs": "gcs_faults", "s3": "s3_faults"}[kind])
    faults.follow(Plan())
    environment = ENVIRONMENTS[kind](faults.url)
    use_environment(environment, monkeypatch)
    return Bucket(storage_service, storage_service.create_bucket(), environment, faults)


@pytest.fixture(scope="session")
def million() -> Iterator[Million]:
    """A bucket of a million objects, only to be listed and read."""
    with million_server() as server:
        yield server


@pytest.fixture(scope="session")
def service_account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Key file of a throw-away account, for `GOOGLE_APPLICATION_CREDENTIALS`."""
    if importlib.util.find_spec("cryptography") is None:
        pytest.skip("no service account is tested: cryptography is not installed")
    path = tmp_path_factory.mktemp("account") / "key.json"
    with token_server() as token_uri:
        write_service_account(path, token_uri)
        yield path


def use_environment(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in FOREIGN:
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
