"""Where files are kept: one module a store, and what all have in common."""

from functools import cache

from pipelines.storage import locations
from pipelines.storage.clients.interface import Fault, Store, StoredObject
from pipelines.storage.clients.local import LocalStore
from pipelines.storage.clients.retry import RetryingStore
from pipelines.storage.clients.streams import RangeStream

__all__ = ["Fault", "LocalStore", "RangeStream", "Store", "StoredObject", "store_of"]


def store_of(uri: str) -> Store:
    """The store that a location is in; one client a process."""
    return _store(locations.scheme_of(uri))


@cache
def _store(scheme: str) -> Store:
    if not scheme:
        return LocalStore()
    if scheme == locations.GOOGLE:
        from pipelines.storage.clients.google import GoogleClient

        return RetryingStore(GoogleClient())
    if scheme == locations.AMAZON:
        from pipelines.storage.clients.amazon import AmazonClient

        return RetryingStore(AmazonClient())
    from pipelines.storage.clients.beam import BeamClient

    return RetryingStore(BeamClient(scheme))
