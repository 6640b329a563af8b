"""A store over a network, whose requests are made again where they may succeed a little later."""

import random
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import TypeVar

from pipelines.storage import locations
from pipelines.storage.clients.interface import (
    Client,
    RequestFailure,
    StoredObject,
    WrongAnswerError,
    wrong_answer,
)
from pipelines.storage.threads import in_order
from segmodel.errors import TransientError, is_worth_waiting

# Waits of up to 0.5, 1, 2, 4, 8 and 16 s between them: half a minute at most.
ATTEMPTS = 7
FIRST_SECONDS = 0.5

T = TypeVar("T")


class RetryingStore:
    """A store behind a client.

    A request whose failure is transient is made again after a while that doubles, and of which a
    random part is waited, so that workers that failed together do not return together ("full
    jitter", Brooker, Exponential Backoff and Jitter, 2015).

    Args:
        client: Client that makes each request once.
        sleep: Function that waits so many seconds.
    """

    def __init__(self, client: Client, sleep: Callable[[float], None] = time.sleep) -> None:
        self._client, self._sleep = client, sleep

    def below(self, folder: str, prefix: str = "") -> Iterator[StoredObject]:
        """Page after page, so that memory is that of one."""
        start = f"{folder}/{prefix}"
        token: str | None = None
        seen: set[str] = set()
        while True:
            found, following = self._ask(folder, partial(self._client.page, start, token))
            names = {entry.uri for entry in found}
            if len(names) < len(found) or not names.isdisjoint(seen):
                raise wrong_answer(folder, "a listing has the same name twice")
            yield from found
            if following is None:
                return
            if following == token:
                raise wrong_answer(folder, "a listing has the same page twice")
            token, seen = following, names

    def stat(self, uri: str) -> StoredObject | None:
        has_name = locations.bucket_and_name(uri)[1] != ""
        return self._ask(uri, lambda: self._client.stat(uri)) if has_name else None

    def read(
        self, uri: str, start: int, length: int | None, known: tuple[int, str] | None
    ) -> bytes:
        locations.check_parts(uri)
        if length == 0 or (known is not None and known[0] <= start):
            return b""

        def read() -> bytes:
            if known is None:
                return self._client.read(uri, start, length, None)
            size, version = known
            content = self._client.read(uri, start, length, version)
            expected = size - start if length is None else min(length, size - start)
            if len(content) != expected:
                raise wrong_answer(uri, f"{len(content)} bytes in place of {expected}")
            return content

        return self._ask(uri, read)

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
        """What a request returns; raises what the last failure means."""

        def meaning(error: Exception) -> RequestFailure | None:
            if isinstance(error, WrongAnswerError):
                return RequestFailure(error, transient=True)
            return self._client.failure(error, uri)

        return retry(request, meaning, attempts, self._sleep)


def retry(
    request: Callable[[], T],
    meaning: Callable[[Exception], RequestFailure | None],
    attempts: int = ATTEMPTS,
    sleep: Callable[[float], None] = time.sleep,
) -> T:
    """What a request returns, made again after a while as long as its failures are transient.

    Args:
        request: Function that makes the request.
        meaning: Function that says what an exception of the request means; None if the exception
            says nothing about the store, and is raised as it is.
        attempts: How often the request is made at most.
        sleep: Function that waits so many seconds.
    """
    for attempt in range(attempts):
        try:
            return request()
        except Exception as error:
            failure = meaning(error) or RequestFailure(error)
            if not failure.transient or attempt == attempts - 1:
                if failure.error is error:
                    raise
                raise failure.error from error
        sleep(random.uniform(0, FIRST_SECONDS * 2**attempt))
    raise AssertionError("unreachable")


def retry_transient(action: Callable[[], T]) -> T:
    """What an action returns, made again after a while as long as it raises a `TransientError`.

    A disk of this machine that is full is not waited for.

    Raises:
        TransientError: The error of the last attempt.
    """

    def meaning(error: Exception) -> RequestFailure:
        is_passing = isinstance(error, TransientError) and is_worth_waiting(error)
        return RequestFailure(error, transient=is_passing)

    return retry(action, meaning, ATTEMPTS)
