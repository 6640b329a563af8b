"""Where files are kept: one module a store, and what all have in common."""

from functools import cache

from pipelines.storage import locations
from pipelines.storage.clients.interface import Client, RangeStream, Store, StoredObject
from pipelines.storage.clients.local import LocalStore
from pipelines.storage.clients.retry import RetryingStore
from segmodel.errors import ConfigurationError

__all__ = ["RangeStream", "Store", "StoredObject", "store_of"]

# What the client of a scheme needs, as pip names it.
PACKAGES = {
    locations.GOOGLE: "beamseg[gcp]",
    locations.AMAZON: "beamseg[aws]",
    "azfs": "apache-beam[azure]",
    "hdfs": "apache-beam[hadoop]",
}


def store_of(uri: str) -> Store:
    """The store that a location is in, with one client a process.

    Args:
        uri: Path of this machine, or an address in a store.

    Raises:
        ConfigurationError: If the client of the store is not installed, or finds no credentials.
    """
    return _store(locations.scheme_of(uri))


@cache
def _store(scheme: str) -> Store:
    if not scheme:
        return LocalStore()
    try:
        return RetryingStore(_client(scheme))
    except ImportError as error:
        raise ConfigurationError(
            f"{scheme}:// locations need a package that is not installed: pip install "
            f"'{PACKAGES[scheme]}'"
        ) from error


def _client(scheme: str) -> Client:
    if scheme == locations.GOOGLE:
        from pipelines.storage.clients.google import GoogleClient

        return GoogleClient()
    if scheme == locations.AMAZON:
        from pipelines.storage.clients.amazon import AmazonClient

        return AmazonClient()
    from pipelines.storage.clients.beam import BeamClient

    return BeamClient(scheme)
