"""Addresses in stores are told from paths, and brought into one form."""

from __future__ import annotations

import glob
import os

import pytest

from pipelines.storage import locations
from segmodel.errors import ConfigurationError


@pytest.mark.parametrize("uri", ["data/a", "/data/a", "a:b", "C:/x", "runs/x/"])
def test_paths_are_passed_through(uri):
    assert locations.checked(uri) == uri
    assert not locations.is_remote(uri)


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("gs://bucket/a/b", "gs://bucket/a/b"),
        ("S3://bucket//a/./b/", "s3://bucket/a/b"),
        ("hdfs://host/a", "hdfs://host/a"),
        ("gs://bucket", "gs://bucket"),
    ],
)
def test_addresses_have_one_form(uri, expected):
    assert locations.checked(uri) == expected


@pytest.mark.parametrize("uri", ["gs://", "gs:///", "s3://bucket/../other", "gs://bucket/a/.."])
def test_an_address_without_a_bucket_or_that_leads_upwards_is_refused(uri):
    with pytest.raises(ConfigurationError, match="write a bucket and a name below it"):
        locations.checked(uri)


@pytest.mark.parametrize("uri", ["ftp://host/a", "file://a", "swift://bucket/a"])
def test_another_scheme_is_refused_with_the_remedy(uri):
    scheme = uri.split(":")[0]
    with pytest.raises(ConfigurationError, match=f"^{scheme}://.*copy .* to a local folder"):
        locations.checked(uri)


def test_a_place_that_must_be_on_this_machine_is_named():
    assert locations.check_local("data", "images") == "data"
    with pytest.raises(ConfigurationError, match="images gs://b/a must be on this machine"):
        locations.check_local("gs://b/a", "images")


PATHS = (
    *("a.jpg", "b.png", "sub/a.jpg", "sub/deep/a.jpg", "sub/deep/b.tif", ".hidden/a.jpg"),
    *("sub/.a.jpg", "[x].jpg", "x.jpg"),
)
PATTERNS = (
    *("*", "**", "*.jpg", "**/*.jpg", "sub/*", "sub/**", "sub/**/*.jpg", "s?b/*.jpg", "**/deep/*"),
    *("[ab].*", "[!a].*", "**/[a-c].t?f", ".hidden/*", "sub/.*", "**/**/a.jpg", "[[]x].jpg"),
)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_globs_of_names_match_what_globs_of_paths_match(tmp_path, pattern):
    for name in PATHS:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    wild = os.path.join(glob.escape(str(tmp_path)), pattern)
    found = (path for path in glob.glob(wild, recursive=True) if os.path.isfile(path))
    expected = {os.path.relpath(path, tmp_path) for path in found}

    assert {name for name in PATHS if locations.matches(pattern, name)} == expected


@pytest.mark.parametrize(
    ("folder", "says"),
    [("", "--output is empty: name a folder"), ("gs://b/m", "--output gs://b/m is no folder of")],
)
def test_an_output_that_is_no_folder_of_this_machine_is_refused(folder, says):
    with pytest.raises(ConfigurationError, match=f"^{says}"):
        locations.check_local_output(folder)
    assert locations.check_local_output("runs/may") == "runs/may"
