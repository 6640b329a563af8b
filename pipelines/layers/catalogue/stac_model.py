"""The STAC item of the model: what it takes and returns, by the fields of the MLM extension."""

import re
from typing import Any

from pipelines.layers.catalogue import stac_fields as stac
from segmodel.escaping import on_one_line
from segmodel.savedmodel.contract import Contract

_NAME = re.compile(r"[a-zA-Z][a-zA-Z0-9_.\- ]+[a-zA-Z0-9]")
_VERSION = re.compile(r"\d+\.\d+\.\d+")
_TASKS = ["semantic-segmentation"]


def model_document(contract: Contract, fingerprint: str) -> dict[str, Any]:
    """The item of a model. It has no place, and its files are named by their digest.

    Args:
        contract: The contract of the model.
        fingerprint: SHA-256 of the files of the model, as 64 hex digits.

    Source: Machine Learning Model extension 1.6.0.
    """
    name, bands = on_one_line(contract.name), [*map(on_one_line, contract.bands)]
    properties = {
        "title": name,
        **stac.time_fields(None),
        "bands": [{"name": band} for band in bands],
        "mlm:name": _model_name(name, fingerprint),
        "mlm:architecture": on_one_line(contract.architecture),
        "mlm:framework": "TensorFlow",
        **_framework_version(contract),
        "mlm:tasks": _TASKS,
        **_parameters(contract),
        "mlm:input": [_input(contract, bands)],
        "mlm:output": [_output(contract)],
    }
    model = {
        # A SavedModel is a folder, which may be anywhere.
        "href": f"urn:sha256:{fingerprint}",
        "title": f"SavedModel {name}",
        "roles": ["mlm:model"],
        # MLM demands bands of the item, which STAC allows where an asset has bands too.
        "bands": [{"name": band} for band in bands],
        "mlm:artifact_type": "tf.saved_model.save",
    }
    document = {
        "type": "Feature",
        "id": model_id(contract.name, fingerprint),
        "geometry": None,
        "properties": properties,
        "links": [stac.link("root", "./collection.json")],
        "assets": {"model": model},
    }
    return stac.stac_document(document)


def model_id(name: str, fingerprint: str) -> str:
    """Id of the item of a model.

    >>> model_id("Köln trees", "0123456789abcdef" * 4)
    'K-ln-trees-0123456789abcdef'
    """
    return "-".join(part for part in (stac.slug(name)[:80], fingerprint[:16]) if part)


def _input(contract: Contract, bands: list[str]) -> dict[str, Any]:
    low, high = contract.value_range
    fill = ", ".join(f"{value:g}" for value in contract.nodata_fill)
    return {
        "name": "images",
        "description": f"raw values of {low:g} to {high:g}; nodata is filled with {fill}",
        "bands": bands,
        "input": {
            "shape": [-1, -1, -1, len(bands)],
            "dim_order": ["batch", "height", "width", "bands"],
            "data_type": contract.dtype,
        },
        "pre_processing_function": None,
    }


def _output(contract: Contract) -> dict[str, Any]:
    return {
        "name": "labels",
        "tasks": _TASKS,
        "result": {
            "shape": [-1, -1, -1],
            "dim_order": ["batch", "height", "width"],
            "data_type": contract.classes.label_dtype.name,
        },
        "classification:classes": stac.model_classes(contract.classes),
        "post_processing_function": None,
    }


def _framework_version(contract: Contract) -> dict[str, str]:
    found = _VERSION.match(str(contract.versions.get("tensorflow", "")))
    return {} if found is None else {"mlm:framework_version": found[0]}


def _parameters(contract: Contract) -> dict[str, int]:
    known = contract.parameters
    return {} if known is None else {"mlm:total_parameters": known}


def _model_name(name: str, fingerprint: str) -> str:
    """A name as the extension allows it: what is not allowed becomes a hyphen."""
    allowed = re.sub(r"[^a-zA-Z0-9_.\- ]", "-", name).strip("_.- ")
    return allowed if _NAME.fullmatch(allowed) else f"model-{fingerprint[:16]}"
