"""Where files are kept: one module a store, and what all have in common."""

from functools import cache

from pipelines import locations
from pipelines.stores.interface import Fault, Store, StoredObject
from pipelines.stores.local import LocalStore
from pipelines.stores.patient import PatientStore
from pipelines.stores.streams import RangeStream

__all__ = ["Fault", "LocalStore", "RangeStream", "Store", "StoredObject", "store_of"]


def store_of(uri: str) -> Store:
    """The store that a location is in; one client a process."""
    return _store(locations.scheme_of(uri))


@cache
def _store(scheme: str) -> Store:
    if not scheme:
        return LocalStore()
    if scheme == locations.GOOGLE:
        from pipelines.stores.google import GoogleClient

        return PatientStore(GoogleClient())
    if scheme == locations.AMAZON:
        from pipelines.stores.amazon import AmazonClient

        return PatientStore(AmazonClient())
    from pipelines.stores.beam import BeamClient

    return PatientStore(BeamClient(scheme))
