"""The file of a SavedModel that holds its graphs, parsed without loading the model."""

from __future__ import annotations

from pathlib import Path

from google.protobuf.message import DecodeError
from tensorflow.core.protobuf import saved_model_pb2

from segmodel.errors import ContractError

GRAPH_FILE = "saved_model.pb"


def read_graphs(model: str | Path) -> saved_model_pb2.SavedModel:
    """The graphs of a SavedModel.

    Args:
        model: Folder of the SavedModel.

    Raises:
        ContractError: If the folder is no SavedModel.
    """
    path, saved = Path(model) / GRAPH_FILE, saved_model_pb2.SavedModel()
    if not path.is_file():
        raise ContractError(
            f"{model} is not a SavedModel, a folder with {GRAPH_FILE}; of Keras files make one "
            f"with model.export"
        )
    try:
        saved.ParseFromString(path.read_bytes())
    except DecodeError as error:
        raise ContractError(
            f"{model} is not a SavedModel: {GRAPH_FILE} is damaged ({error}): copy or export the "
            f"model again"
        ) from error
    if not saved.meta_graphs:
        raise ContractError(
            f"{model} is not a SavedModel: {GRAPH_FILE} holds no graph: copy or export the model "
            f"again"
        )
    return saved
