"""A store over a network, whose requests are made again where they may succeed a little later."""

import random
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import TypeVar

from pipelines.storage.clients.interface import Client, Fault, StoredObject
from pipelines.storage.threads import in_order
from segmodel.errors import TransientError

# Waits of up to 0.5, 1, 2, 4, 8 and 16 s between them: half a minute at most.
ATTEMPTS = 7
FIRST_SECONDS = 0.5

T = TypeVar("T")


class RetryingStore:
    """A store behind a client.

    A request that fails in a way that may pass is made again after a while that doubles, and of
    which a random part is waited, so that workers that failed together do not return together
    ("full jitter", Brooker, Exponential Backoff and Jitter, 2015).

    Args:
        client: Makes one request at a time.
        sleep: Waits so many seconds.
    """

    def __init__(self, client: Client, sleep: Callable[[float], None] = time.sleep) -> None:
        self._client, self._sleep = client, sleep

    def below(self, folder: str, prefix: str = "") -> Iterator[StoredObject]:
        """Page after page, so that memory is that of one."""
        start = f"{folder}/{prefix}"
        token: str | None = None
        while True:
            found, token = self._ask(folder, partial(self._client.page, start, token))
            yield from found
            if token is None:
                return

    def stat(self, uri: str) -> StoredObject | None:
        return self._ask(uri, lambda: self._client.stat(uri))

    def read(self, uri: str, start: int, length: int | None, version: str | None) -> bytes:
        return self._ask(uri, lambda: self._client.read(uri, start, length, version))

    def publish(self, path: str, uri: str) -> None:
        self._ask(uri, lambda: self._client.upload(path, uri), attempts=1)

    def create(self, uri: str, content: bytes, draft: str) -> bool:
        """Write an object unless there is one of that name; whether it is as this call wrote it.

        An answer may be lost after the object was written. So if one is there at a further
        attempt, it is this call's if it has this call's content.
        """
        asked = 0

        def write() -> bool:
            nonlocal asked
            asked += 1
            written = self._client.create(uri, content)
            return written or (asked > 1 and self._client.read(uri, 0, None, None) == content)

        return self._ask(uri, write)

    def remove(self, uri: str) -> None:
        self._ask(uri, lambda: self._client.remove(uri))

    def remove_below(self, folder: str) -> None:
        for _ in in_order(self.remove, (found.uri for found in self.below(folder))):
            pass

    def _ask(self, uri: str, request: Callable[[], T], attempts: int = ATTEMPTS) -> T:
        """What a request returns; raises what the last fault means."""
        return retry(request, lambda error: self._client.fault(error, uri), attempts, self._sleep)


def retry(
    request: Callable[[], T],
    meaning: Callable[[Exception], Fault | None],
    attempts: int = ATTEMPTS,
    sleep: Callable[[float], None] = time.sleep,
) -> T:
    """What a request returns, made again after a while as long as its faults may pass.

    Args:
        request: What to do.
        meaning: Of an exception; None if it says nothing about the store.
        attempts: How often the request is made at most.
        sleep: Waits so many seconds.
    """
    for attempt in range(attempts):
        try:
            return request()
        except Exception as error:
            fault = meaning(error)
            if fault is None:
                raise
            if not fault.may_pass or attempt == attempts - 1:
                if fault.error is error:
                    raise
                raise fault.error from error
        sleep(random.uniform(0, FIRST_SECONDS * 2**attempt))
    raise AssertionError("unreachable")


def passing(uri: str, what: str) -> TransientError:
    """The error for a fault that has not passed.

    >>> str(passing("gs://bucket/a", "the store answers 503"))
    'gs://bucket/a: the store answers 503: run the same command again a little later'
    """
    return TransientError(f"{uri}: {what}: run the same command again a little later")


def replaced(uri: str) -> TransientError:
    """The error for an object that has another version than the one that was listed."""
    return TransientError(
        f"{uri} was replaced after it was listed: run the same command again, which lists it anew"
    )
