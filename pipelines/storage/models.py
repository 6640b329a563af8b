"""Models, here or in a store: TensorFlow reads folders of this machine."""

from pipelines.storage import locations
from pipelines.storage.copies import local_folder
from segmodel.errors import ConfigurationError, ContractError
from segmodel.savedmodel.contract import Contract
from segmodel.savedmodel.folder import read_contract


def local_model(uri: str) -> str:
    """The folder of a model on this machine; a copy if it is in a store.

    Raises:
        ConfigurationError: If there is nothing in the store.
    """
    try:
        return local_folder(locations.checked(uri))
    except FileNotFoundError as error:
        raise ConfigurationError(f"{uri} is not a SavedModel: nothing is there") from error


def contract_of(uri: str) -> Contract:
    """The contract of a model.

    Raises:
        ContractError: If it is no SavedModel or has no contract that can be read.
        ConfigurationError: If there is nothing in the store.
    """
    folder = local_model(uri)
    try:
        return read_contract(folder)
    except ContractError as error:
        raise ContractError(str(error).replace(folder, uri)) from error
