"""Requests to a store are made again while that may help, and no longer."""

from __future__ import annotations

import pytest

from pipelines.inputs.listing import find_files
from pipelines.storage import clients, filesystem
from pipelines.storage.clients.interface import RequestFailure, StoredObject, transient_error
from pipelines.storage.clients.retry import ATTEMPTS, FIRST_SECONDS, RetryingStore
from pipelines.storage.copies import local_folder
from segmodel.errors import ConfigurationError, InputError, TransientError


class BusyError(Exception):
    """The server asks to come back."""


class LostError(Exception):
    """The request was carried out, but its answer was lost."""


class FlakyClient:
    """Objects in memory; requests fail as a script says: an exception for each, or None."""

    def __init__(self, *script: Exception | None) -> None:
        self.objects: dict[str, bytes] = {}
        self.script = list(script)
        self.asked: list[str] = []

    def _next(self, request: str) -> Exception | None:
        self.asked.append(request)
        fault = self.script.pop(0) if self.script else None
        if fault is not None and not isinstance(fault, LostError):
            raise fault
        return fault

    def page(self, start, token):
        self._next(f"page {token}")
        names = [name for name in sorted(self.objects) if name.startswith(start)]
        first = int(token or 0)
        found = [StoredObject(name, len(self.objects[name]), "1") for name in names]
        more = str(first + 2) if len(found) > first + 2 else None
        return found[first : first + 2], more

    def stat(self, uri):
        self._next("stat")
        content = self.objects.get(uri)
        return None if content is None else StoredObject(uri, len(content), "1")

    def read(self, uri, start, length, version):
        self._next("read")
        if uri not in self.objects:
            raise FileNotFoundError(uri)
        return self.objects[uri][start:][:length]

    def upload(self, path, uri):
        self._next("upload")

    def create(self, uri, content):
        fault = self._next("create")
        if uri in self.objects:
            return False
        self.objects[uri] = content
        if fault is not None:
            raise fault
        return True

    def remove(self, uri):
        self._next("remove")
        self.objects.pop(uri, None)

    def failure(self, error, uri):
        if isinstance(error, BusyError | LostError):
            return RequestFailure(transient_error(uri, "busy"), transient=True)
        return RequestFailure(error) if isinstance(error, FileNotFoundError) else None


@pytest.fixture
def waits() -> list[float]:
    return []


def patient(client: FlakyClient, waits: list[float]) -> RetryingStore:
    return RetryingStore(client, waits.append)


def test_a_request_that_may_succeed_later_is_made_again(waits):
    client = FlakyClient(BusyError(), BusyError())
    client.objects["gs://b/a"] = b"abc"
    assert patient(client, waits).read("gs://b/a", 0, None, None) == b"abc"
    assert client.asked == ["read"] * 3


def test_waits_double_and_end(waits, monkeypatch):
    monkeypatch.setattr("pipelines.storage.clients.retry.random.uniform", lambda low, high: high)
    client = FlakyClient(*[BusyError()] * ATTEMPTS)
    with pytest.raises(TransientError, match=r"^gs://b/a: busy: run the same command again"):
        patient(client, waits).stat("gs://b/a")
    assert waits == [FIRST_SECONDS * 2**number for number in range(ATTEMPTS - 1)]
    assert client.asked == ["stat"] * ATTEMPTS


def test_what_will_not_pass_is_raised_at_once(waits):
    client = FlakyClient()
    with pytest.raises(FileNotFoundError) as raised:
        patient(client, waits).read("gs://b/missing", 0, None, None)
    assert (client.asked, waits) == (["read"], [])
    assert raised.value.__cause__ is None


def test_a_fault_of_ours_is_raised_as_it_is(waits):
    client = FlakyClient(ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        patient(client, waits).stat("gs://b/a")
    assert waits == []


def test_a_record_whose_answer_was_lost_is_ours(waits):
    client = FlakyClient(LostError())
    assert patient(client, waits).create("gs://b/a", b"mine", "unused")
    assert client.objects == {"gs://b/a": b"mine"}


def test_a_record_of_somebody_else_stays_theirs(waits):
    client = FlakyClient()
    client.objects["gs://b/a"] = b"theirs"
    assert not patient(client, waits).create("gs://b/a", b"mine", "unused")
    client.script = [BusyError()]
    assert not patient(client, waits).create("gs://b/a", b"mine", "unused")
    assert client.objects == {"gs://b/a": b"theirs"}


def test_pages_are_asked_for_one_by_one_as_they_are_used(waits):
    client = FlakyClient(None, BusyError())
    client.objects |= dict.fromkeys((f"gs://b/x/{number}" for number in range(5)), b"")
    client.objects["gs://b/xy"] = b""
    listing = patient(client, waits).below("gs://b/x")
    assert next(listing).uri == "gs://b/x/0"
    assert client.asked == ["page None"]
    assert [found.uri for found in listing] == [f"gs://b/x/{number}" for number in range(1, 5)]
    assert client.asked == ["page None", "page 2", "page 2", "page 4"]


def test_a_prefix_bounds_a_listing(waits):
    client = FlakyClient()
    client.objects |= dict.fromkeys(("gs://b/x/part-1", "gs://b/x/scenes-1"), b"")
    found = patient(client, waits).below("gs://b/x", "part-")
    assert [entry.uri for entry in found] == ["gs://b/x/part-1"]


def test_all_below_a_folder_is_removed_and_nothing_else(waits):
    client = FlakyClient(None, BusyError())
    client.objects |= dict.fromkeys(("gs://b/x/1", "gs://b/x/y/2", "gs://b/xy"), b"")
    patient(client, waits).remove_below("gs://b/x")
    assert client.objects == {"gs://b/xy": b""}


def test_uploads_have_the_patience_of_their_client(waits):
    client = FlakyClient(BusyError())
    with pytest.raises(TransientError):
        patient(client, waits).publish("path", "gs://b/a")
    assert (client.asked, waits) == (["upload"], [])


@pytest.fixture
def hostile(waits, monkeypatch) -> FlakyClient:
    """A store whose objects have names that would be other folders if they were paths."""
    client = FlakyClient()
    client.objects |= dict.fromkeys(("gs://b/x/a//b.jpg", "gs://b/x/../../c.jpg"), b"1")
    store = patient(client, waits)
    monkeypatch.setattr(clients, "_store", lambda scheme: store)
    return client


def test_hostile_names_of_objects_stay_below_their_folder(hostile):
    found = {file.name: file.uri for file in find_files("gs://b/x")}
    assert found == {
        "%2E%2E/%2E%2E/c.jpg": "gs://b/x/../../c.jpg",
        "a/%/b.jpg": "gs://b/x/a//b.jpg",
    }


def test_a_hostile_name_in_a_folder_is_not_copied(hostile, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "deep" / "er"))
    (tmp_path / "deep" / "er").mkdir(parents=True)
    with pytest.raises(ConfigurationError, match="leads out of its folder"):
        local_folder("gs://b/x")
    assert list(tmp_path.rglob("c.jpg")) == []


class Listed(FlakyClient):
    """A store whose listing has these pages."""

    def __init__(self, *pages: list[str]) -> None:
        super().__init__()
        self.pages = pages

    def page(self, start, token):
        number = int(token or 0)
        found = [StoredObject(name, 1, "1") for name in self.pages[number]]
        return found, str(number + 1) if number + 1 < len(self.pages) else None


@pytest.mark.parametrize(
    "pages", [(["gs://b/a", "gs://b/a"],), (["gs://b/a", "gs://b/c"], ["gs://b/c", "gs://b/d"])]
)
def test_a_listing_that_names_an_object_twice_is_an_error(waits, pages):
    with pytest.raises(TransientError, match=r"gs://b: the answer is not .* the same name twice"):
        list(patient(Listed(*pages), waits).below("gs://b"))


@pytest.mark.parametrize("answer", [b"", b"12", b"12345"])
def test_an_answer_of_another_length_than_listed_is_asked_for_again(waits, answer):
    client = FlakyClient()
    store = patient(client, waits)
    client.objects["gs://b/a"] = b"1234"
    assert store.read("gs://b/a", 0, None, (4, "1")) == b"1234"
    assert store.read("gs://b/a", 2, 9, (4, "1")) == b"34"
    client.objects["gs://b/a"] = answer
    with pytest.raises(TransientError, match=f"{len(answer)} bytes in place of 4: run the same"):
        store.read("gs://b/a", 0, None, (4, "1"))
    assert len(waits) == ATTEMPTS - 1


def test_an_object_whose_name_leads_elsewhere_is_a_failure_of_its_own(hostile):
    with pytest.raises(InputError, match=r"part of its name in the store is \. or \.\."):
        filesystem.read_bytes("gs://b/x/../../c.jpg")


@pytest.mark.parametrize(
    ("name", "value"),
    [("AWS_PROFILE", "nobody"), ("AWS_CONFIG_FILE", "bad.ini"), ("AWS_ENDPOINT_URL_S3", "nowhere")],
)
def test_settings_of_amazon_that_make_no_client_are_named(name, value, tmp_path, monkeypatch):
    pytest.importorskip("boto3")
    from pipelines.storage.clients.amazon import AmazonClient

    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.ini").write_text("[default\nx")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError, match=f"check AWS_PROFILE, .*{name}|check {name}"):
        AmazonClient()


def test_a_key_of_google_that_is_a_folder_is_none(tmp_path, monkeypatch):
    pytest.importorskip("google.cloud.storage")
    from pipelines.storage.clients.google import GoogleClient

    monkeypatch.delenv("STORAGE_EMULATOR_HOST", raising=False)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path))
    with pytest.raises(ConfigurationError, match="or set GOOGLE_APPLICATION_CREDENTIALS"):
        GoogleClient()
