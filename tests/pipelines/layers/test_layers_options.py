"""Options of `layers`."""

from __future__ import annotations

import pytest

from pipelines.commands.layers import parser
from pipelines.layers import options
from pipelines.layers.options import layers_options
from segmodel.errors import ConfigurationError


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--max_zoom=9", "--max_zoom is the deepest zoom of --tiles: give both"),
        ("--tiles=png --max_zoom=25", "--max_zoom must be from 0 to 24, got 25"),
        ("--tiles=png --max_zoom=-1", "--max_zoom must be from 0 to 24, got -1"),
        ("--tiles=jpeg", "--tiles must be one of png, webp, got 'jpeg'"),
        ("--mosaic --cell=0", "--cell must be greater than 0, got 0.0"),
        ("--tiles=png --cell=9", "--cell is the side of the files of --mosaic: give both"),
    ],
)
def test_an_option_that_is_not_possible_is_refused_by_name(words, message):
    with pytest.raises(ConfigurationError) as refused:
        layers_options(parser().parse_args(["run", *words.split()]))
    assert str(refused.value) == message


@pytest.mark.parametrize("size", ["0.7", "100.5", "nan"])
def test_a_tolerance_that_leaves_no_vertex_out_or_most_polygons_is_refused(size):
    with pytest.raises(ConfigurationError) as refused:
        layers_options(parser().parse_args(["run", "--polygons=fgb", f"--simplify={size}"]))
    assert str(refused.value) == (
        f"--simplify must be from 0.71, below which no vertex is left out, to 100, got {size}"
    )


def test_packages_that_are_missing_are_named_with_what_installs_them(monkeypatch):
    words = parser().parse_args(["run", "--mosaic"])
    layers_options(words)
    monkeypatch.setattr(options, "PACKAGES", ("pmtiles", "no_such_package"))
    with pytest.raises(ConfigurationError) as refused:
        layers_options(words)
    assert str(refused.value) == (
        "layers need no_such_package, which is missing: pip install 'beamseg[layers]'"
    )
