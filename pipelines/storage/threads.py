"""A function of many items, called in some threads; results in the order of the items."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

# Enough to hide the time that a store takes to answer; few enough for its pool of connections.
THREADS = 8
# Items that are being done, or that wait for it.
AHEAD = 64

A = TypeVar("A")
B = TypeVar("B")


def in_order(function: Callable[[A], B], items: Iterable[A], threads: int = THREADS) -> Iterator[B]:
    """Results of a function in the order of its items, few of which are taken ahead.

    Args:
        function: Function of one item, called in several threads at once.
        items: Items; no more than `AHEAD` are taken before their results are asked for.
        threads: Number of threads.

    >>> list(in_order(abs, [-3, 1, -2]))
    [3, 1, 2]
    """
    with ThreadPoolExecutor(threads, "beamseg-io") as pool:
        ahead: deque[Future[B]] = deque()
        try:
            for item in items:
                ahead.append(pool.submit(function, item))
                if len(ahead) == AHEAD:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
