"""Descriptions of SavedModels of others: what is wrong is said with its key and the remedy."""

from __future__ import annotations

import tomllib
from fractions import Fraction

import pytest

from segmodel.errors import ConfigurationError

pytest.importorskip("tensorflow")

from segmodel.savedmodel.wrap_settings import (
    WrapConfig,
    load_wrap_config,
    wrap_settings_table,
)

WHOLE = """
classes = [
  { id = 0, name = "land", color = "#5B9A4B" },
  { id = 7, name = "road", color = "#3C3C3C" },
]

[model]
name = "foreign"
bands = ["vv", "vh"]
dtype = "float32"
value_range = [-30, 0]
gsd_range_m = [8, 12]

[savedmodel]
constants = { keep_prob = 1.0, is_training = false }

[input]
name = "input_3"
preprocessing = ["exp", { clip = [0, [1, 2]] }]

[output]
resolution = "1/4"

[window]
stride = 8
"""


def test_a_whole_description_is_read(tmp_path):
    (tmp_path / "sar.toml").write_text(WHOLE)
    found = load_wrap_config(tmp_path / "sar.toml")
    assert found.classes.ids == (0, 7)
    assert (found.input_bands, found.model.fill) == (("vv", "vh"), (0.0, 0.0))
    assert found.savedmodel.constants == {"keep_prob": 1.0, "is_training": False}
    assert [step.name for step in found.input.preprocessing] == ["exp", "clip"]
    assert found.input.preprocessing[1].numbers == ((0.0,), (1.0, 2.0))
    assert (found.output.resolution, found.window.halo) == (Fraction(1, 4), None)


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        ("[model]", "[modell]", r"^unknown key modell: did you mean model\?$"),
        ('name = "input_3"', 'nome = "input_3"', r"^unknown key input.nome: did you mean input"),
        ('bands = ["vv", "vh"]', "", r"^model.bands is missing$"),
        ('bands = ["vv", "vh"]', 'bands = ["vv", "vv"]', r"^model.bands must be different names"),
        ('"float32"', '"float64"', r"^model.dtype must be 'uint8', 'uint16', 'int16' or 'float32'"),
        ("value_range = [-30, 0]", "", "^model.value_range is missing: two numbers"),
        ("[-30, 0]", "[0, -30]", "^model.value_range must be two rising numbers"),
        ("[8, 12]", "[12, 8]", "^model.gsd_range_m must be two rising positive numbers"),
        ('"exp"', '"expo"', "^input.preprocessing step 1: unknown step expo: known: scale, off"),
        ('"exp"', '"scale"', r"^input.preprocessing step 1: scale needs numbers: write \{scale"),
        ('"exp"', "{ log = 1 }", '^input.preprocessing step 1: log takes no number: write "log"'),
        ('"exp"', "{ add = 1 }", "^input.preprocessing step 1: unknown step add: did you mean off"),
        ('"exp"', "{ scale = 'a' }", "^input.preprocessing step 1: scale must be numbers, got 'a'"),
        ('"exp"', "{ std = [1, 0] }", "^input.preprocessing step 1: std divides by its number"),
        ('"exp"', f"{{ scale = 1{'0' * 400} }}", "^input.preprocessing step 1: scale must be num"),
        ("[0, [1, 2]]", "[3, [1, 4]]", "^input.preprocessing step 2: clip has a least value above"),
        ("[output]", "[output]\nchannels = [0, -1]", "^output.channels must be different numbers"),
        ("[output]", "[output]\nname = true", "^output.name must be a valid string, got True"),
        ("stride = 8", "stride = 4096", "^window.stride must be at most 1024, got 4096"),
        ("[0, [1, 2]]", "[0]", "^input.preprocessing step 2: clip must be two entries"),
        ('"1/4"', '"3/4"', "^output.resolution must be 1, a fraction 1/n .* got '3/4'$"),
        ("stride = 8", "stride = 6", "^window.stride must be a multiple of 4, as output.resol"),
        ("[input]", '[input]\nbands = ["hh"]', r"^input.bands must be of model.bands \(vv, vh\)"),
        ("[output]", '[output]\nkind = "score"', "^output.kind must be 'logits', 'probabilities'"),
        ('"#3C3C3C"', '"grey"', "color must look like #8429F6, got 'grey'"),
    ],
)
def test_what_is_wrong_is_said_with_its_key(old, new, match):
    assert old in WHOLE
    with pytest.raises(ConfigurationError, match=match):
        WrapConfig(**{"model": {}} | tomllib.loads(WHOLE.replace(old, new)))


def test_the_file_is_named(tmp_path):
    (tmp_path / "sar.toml").write_text(WHOLE.replace("exp", "expo"))
    with pytest.raises(ConfigurationError, match=r"sar\.toml: input\.preprocessing step 1"):
        load_wrap_config(tmp_path / "sar.toml")


def test_the_table_of_keys_has_all_of_them():
    rows = wrap_settings_table().splitlines()
    assert "| `window.stride` | integer | none | Multiple of which sides and origins" in rows[-4]
    assert any(row.startswith("| `input.preprocessing` | list of steps | `[]` |") for row in rows)
    assert any(row.startswith("| `output.resolution` | fraction | `1` |") for row in rows)
