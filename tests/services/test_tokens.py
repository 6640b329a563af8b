"""Credentials of the throw-away account."""

from __future__ import annotations

import stat

import pytest


def test_the_service_account_gets_a_token_without_leaving_the_machine(service_account, monkeypatch):
    google_auth = pytest.importorskip("google.auth")
    from google.auth.transport.requests import Request

    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(service_account))
    credentials, project = google_auth.default(
        scopes=["https://www.googleapis.com/auth/devstorage.read_write"]
    )
    credentials.refresh(Request())
    assert (project, credentials.token) == ("tests", "of-the-tests")


def test_the_key_is_for_its_owner_only(service_account):
    assert stat.S_IMODE(service_account.stat().st_mode) == 0o600
