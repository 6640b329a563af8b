"""A SavedModel folder: its contract in `assets.extra/segmodel.json`, and its fingerprint."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from segmodel.errors import ContractError
from segmodel.savedmodel.contract import Contract

CONTRACT_FILE = "assets.extra/segmodel.json"
# 65,535 classes with long names take half of it.
MAX_CONTRACT_BYTES = 16 << 20


def read_contract(model: str | Path) -> Contract:
    """The contract of a SavedModel folder.

    Args:
        model: Folder on this machine.

    Raises:
        ContractError: If the folder is no SavedModel or has no contract that can be read.
    """
    folder = Path(model)
    if not folder.is_dir():
        raise ContractError(f"{folder} is not a SavedModel: there is no such folder")
    if not (folder / "saved_model.pb").is_file():
        raise ContractError(
            f"{folder} is not a SavedModel: it has no saved_model.pb; name the folder that has one"
        )
    path = folder / CONTRACT_FILE
    if not path.is_file():
        raise ContractError(
            f"{folder} has no {CONTRACT_FILE}: make a model of it with beamseg wrap; beamseg "
            f"inspect says what it takes and gives"
        )
    if path.stat().st_size > MAX_CONTRACT_BYTES:
        raise ContractError(
            f"{path} has more than {MAX_CONTRACT_BYTES >> 20} MiB: it is not what export wrote; "
            f"export the model again"
        )
    try:
        document = json.loads(path.read_text("utf-8"))
    except RecursionError:
        raise ContractError(f"{path} is nested too deeply: export the model again") from None
    except ValueError as error:
        # Not JSON, not UTF-8, or a number of thousands of digits.
        raise ContractError(f"{path} is not JSON: {error}") from error
    try:
        return Contract.from_json(document)
    except ContractError as error:
        raise ContractError(error.text, name=str(path)) from error


def is_without_contract(model: str | Path) -> bool:
    """Whether a folder is a SavedModel of others, which has no contract."""
    folder = Path(model)
    return (folder / "saved_model.pb").is_file() and not (folder / CONTRACT_FILE).is_file()


def write_contract(contract: Contract, model: str | Path) -> None:
    """Write a contract into a SavedModel folder.

    Args:
        contract: Contract of the model.
        model: Folder of the SavedModel.
    """
    path = Path(model) / CONTRACT_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(contract.to_json(), indent=2) + "\n", "utf-8")


def fingerprint(model: str | Path) -> str:
    """SHA-256 of all files of a SavedModel folder, names and contents, as 64 hex digits."""
    folder, digest = Path(model), hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        with path.open("rb") as stream:
            content = hashlib.file_digest(stream, "sha256").hexdigest()
        digest.update(f"{path.relative_to(folder).as_posix()}\0{content}\n".encode())
    return digest.hexdigest()
