"""A throw-away service account, whose tokens a server on 127.0.0.1 gives out.

For code that asks for credentials although the store is an emulator: Beam's own Google client waits
25 seconds for a metadata server where it finds none.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.services.exchange import Answer, Request, amazon_error, json_answer
from tests.services.processes import server_process
from tests.services.proxy import Proxy


class TokenServer(Proxy):
    """Gives a token to whoever asks at `/token`."""

    def answer(self, request: Request) -> Answer:
        if request.method != "POST" or request.path != "/token":
            return amazon_error(404, "NotFound", "tokens are at /token")
        token = {"access_token": "of-the-tests", "token_type": "Bearer", "expires_in": 3600}
        return json_answer(200, token)


@contextmanager
def token_server() -> Iterator[str]:
    """Address of a server that gives tokens."""
    with server_process(__name__, lambda port: [str(port)]) as port:
        yield f"http://127.0.0.1:{port}/token"


def write_service_account(path: Path, token_uri: str) -> None:
    """A key file for `GOOGLE_APPLICATION_CREDENTIALS`, with a key made for it alone."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    account = {
        "type": "service_account",
        "project_id": "tests",
        "private_key_id": "1",
        "private_key": pem.decode(),
        "client_email": "tests@tests.iam.gserviceaccount.com",
        "client_id": "1",
        "token_uri": token_uri,
    }
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
        json.dump(account, stream)


if __name__ == "__main__":
    TokenServer("", int(sys.argv[1])).serve()
