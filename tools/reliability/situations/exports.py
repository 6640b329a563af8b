"""Models that are made of models: wrap, ensemble; and training runs side by side."""

from __future__ import annotations

import json

from tools.reliability.situations.changes import (
    Change,
    all_of,
    copied,
    cut,
    empty,
    put,
    swapped,
)
from tools.reliability.situations.contracts import CONTRACT, gives, named, takes
from tools.reliability.situations.kit import DESCRIPTION
from tools.reliability.situations.table import ENSEMBLE, WRAP, Situation

FILE = "wrap.toml"
MORE = "more/assets.extra/segmodel.json"


def says(section: str, *lines: str) -> Change:
    """One more section in the description, or more lines in one."""
    text = "\n".join(lines)
    if f"[{section}]" in DESCRIPTION:
        return swapped(FILE, f"[{section}]\n", f"[{section}]\n{text}\n")
    return put(FILE, f"[{section}]\n{text}\n{DESCRIPTION}")


SITUATIONS = (
    # wrap: the command line.
    Situation("wrap without a model", "wrap", "SavedModel", "see beamseg wrap --help"),
    Situation(
        "wrap without a description",
        "wrap foreign --output=wrapped",
        "--contract",
        "is missing, for example --contract contract.toml",
    ),
    Situation(
        "wrap without an output",
        "wrap foreign --contract=wrap.toml",
        "--output",
        "is missing, for example --output models/land",
    ),
    Situation(
        "wrap into the model itself",
        "wrap foreign --contract=wrap.toml --output=foreign",
        "--output",
        "name another folder",
    ),
    Situation(
        "wrap into a store",
        "wrap foreign --contract=wrap.toml --output=gs://bucket/m",
        "gs://bucket/m",
        "write one, and copy it there",
    ),
    Situation(
        "wrap into a folder of other files",
        "wrap foreign --contract=wrap.toml --output=photos",
        "photos",
        "holds files that are no SavedModel: name another",
    ),
    Situation(
        "wrap into a file",
        "wrap foreign --contract=wrap.toml --output=classes.toml",
        "classes.toml",
        "name another folder",
    ),
    Situation(
        "wrap of a model that has a contract",
        "wrap model --contract=wrap.toml --output=wrapped",
        "model",
        "segment takes it as it is, and beamseg inspect prints it",
    ),
    Situation(
        "wrap of what is not there",
        "wrap nowhere --contract=wrap.toml --output=wrapped",
        "nowhere",
        "is not a SavedModel, a folder with saved_model.pb; of Keras",
    ),
    Situation(
        "wrap of a folder of images",
        "wrap photos --contract=wrap.toml --output=wrapped",
        "photos",
        "is not a SavedModel, a folder with saved_model.pb; of Keras",
    ),
    Situation(
        "wrap by a description that is not there",
        "wrap foreign --contract=none.toml --output=wrapped",
        "none.toml",
        "no such file",
    ),
    Situation(
        "wrap by samples that are not there",
        f"{WRAP} --samples fotos",
        "fotos",
        "no image matches fotos",
    ),
    Situation(
        "wrap by samples that are no images",
        f"{WRAP} --samples classes.toml",
        "classes.toml",
        "not recognized as being in a supported file format.",
    ),
    Situation(
        "wrap by samples that are broken",
        f"{WRAP} --samples bad.png",
        "bad.png",
        "not a JPEG, PNG, WebP or TIFF image",
        make=put("bad.png", "x"),
    ),
    Situation(
        "wrap by samples in a store",
        f"{WRAP} --samples gs://bucket/a.tif",
        "gs://",
        "run `gcloud auth application-default login`, or set",
    ),
    # The description.
    Situation("an empty description", WRAP, FILE, "model.name is missing", make=put(FILE, "")),
    Situation(
        "a description that is cut",
        WRAP,
        FILE,
        "at least one class is needed, got none",
        make=cut(FILE, 0.3),
    ),
    Situation(
        "a description with a key that is misspelled",
        WRAP,
        "model.band",
        "did you mean model.bands?",
        make=says("model", "band = 3"),
    ),
    Situation(
        "a description without bands",
        WRAP,
        "model.bands",
        "is missing",
        make=swapped(FILE, 'bands = ["red", "green", "blue"]\n', ""),
    ),
    Situation(
        "a description of a type that is none",
        WRAP,
        "model.dtype",
        "must be 'uint8', 'uint16', 'int16' or 'float32', got 'int9'",
        make=swapped(FILE, '"uint8"', '"int9"'),
    ),
    Situation(
        "a description of floats without a range",
        WRAP,
        "model.value_range",
        "two numbers, the least and the greatest value of float32 images",
        make=swapped(FILE, '"uint8"', '"float32"'),
    ),
    Situation(
        "a description of fills of too few bands",
        WRAP,
        "model.nodata_fill",
        "must be one number, or one for each of 3 bands, got 2",
        make=says("model", "nodata_fill = [1, 2]"),
    ),
    Situation(
        "a description of a halo that is negative",
        WRAP,
        "window.halo",
        "must be at least 0, got -1",
        make=swapped(FILE, "halo = 0", "halo = -1"),
    ),
    Situation(
        "a description without a halo",
        WRAP,
        "window.halo",
        "give --samples to have it measured, or state it, or",
        make=swapped(FILE, "halo = 0", ""),
    ),
    Situation(
        "a description of a window above all",
        WRAP,
        "window.size",
        "must be at most 8192, got",
        make=says("window", "size = 100000"),
    ),
    Situation(
        "a description of a stride above all",
        WRAP,
        "window.stride",
        "must be at most 1024, got 5000",
        make=says("window", "stride = 5000"),
    ),
    Situation(
        "a signature that is none",
        WRAP,
        "savedmodel.signature",
        "images float32 (?, ?, ?, 3) -> logits float32 (?, ?, ?, 3)",
        make=says("savedmodel", 'signature = "predict"'),
    ),
    Situation(
        "tags that no graph has",
        WRAP,
        "savedmodel.tags",
        "foreign has no graph with the tags gpu; tags of its graphs:",
        make=says("savedmodel", 'tags = ["gpu"]'),
    ),
    Situation(
        "a constant that is no input",
        WRAP,
        "savedmodel.constants",
        "images float32 (?, ?, ?, 3)",
        make=says("savedmodel", "constants = { training = false }"),
    ),
    Situation(
        "an input that is none",
        WRAP,
        "input.name",
        "images float32 (?, ?, ?, 3)",
        make=says("input", 'name = "pixels"'),
    ),
    Situation(
        "an input of bands that are not there",
        WRAP,
        "input.bands",
        "must be of model.bands (red, green, blue), got 'nir'",
        make=says("input", 'bands = ["nir"]'),
    ),
    Situation(
        "an input of fewer bands than the network takes",
        WRAP,
        FILE,
        "1 bands are named (red), and images float32 (?, ?, ?, 3) takes",
        make=says("input", 'bands = ["red"]'),
    ),
    Situation(
        "an input in another order of axes",
        WRAP,
        FILE,
        "write the layout whose C has 3",
        make=says("input", 'layout = "NCHW"'),
    ),
    Situation(
        "an order of axes that is none",
        WRAP,
        "input.layout",
        "must be 'NHWC', 'NCHW', 'HWC' or 'CHW', got 'XYZ'",
        make=says("input", 'layout = "XYZ"'),
    ),
    Situation(
        "a step that is none",
        WRAP,
        "input.preprocessing",
        "did you mean mean and std?",
        make=says("input", 'preprocessing = ["normalize"]'),
    ),
    Situation(
        "a step of too few numbers",
        WRAP,
        "input.preprocessing",
        "mean needs one number, or one for each of 3 bands, got 2",
        make=says("input", "preprocessing = [{ mean = [1, 2] }]"),
    ),
    Situation(
        "a step by zero",
        WRAP,
        "input.preprocessing",
        "std divides by its number, which must not be 0",
        make=says("input", "preprocessing = [{ std = 0 }]"),
    ),
    Situation(
        "an output of the network that is none",
        WRAP,
        "output.name",
        "logits float32 (?, ?, ?, 3)",
        make=says("output", 'name = "scores"'),
    ),
    Situation(
        "an output of a number that is none",
        WRAP,
        "output.name",
        "logits float32 (?, ?, ?, 3)",
        make=says("output", "name = 7"),
    ),
    Situation(
        "an output of a kind that is none",
        WRAP,
        "output.kind",
        "must be 'logits', 'probabilities' or 'labels', got 'scores'",
        make=says("output", 'kind = "scores"'),
    ),
    Situation(
        "labels from an output of floats",
        WRAP,
        FILE,
        'write "logits" or "probabilities"',
        make=says("output", 'kind = "labels"'),
    ),
    Situation(
        "probabilities that are none",
        WRAP,
        FILE,
        "write one of NHWC, NCHW",
        make=says("output", 'kind = "probabilities"', 'layout = "NHW"'),
    ),
    Situation(
        "channels beyond those of the output",
        WRAP,
        "output.channels",
        "they count from 0",
        make=says("output", "channels = [0, 1, 9]"),
    ),
    Situation(
        "a resolution of two thirds",
        WRAP,
        "output.resolution",
        "must be 1, a fraction 1/n of whole n such as '1/4', or a whole",
        make=says("output", 'resolution = "2/3"'),
    ),
    Situation(
        "a resolution that the output does not have",
        WRAP,
        FILE,
        "write output.resolution = 1",
        make=says("output", 'resolution = "1/4"'),
    ),
    Situation(
        "a margin that the output does not have",
        WRAP,
        FILE,
        "leave output.margin out",
        make=says("output", "margin = 8"),
    ),
    Situation(
        "more classes than the output has channels",
        WRAP,
        FILE,
        "name 3, or name those that are scores in output.channels",
        make=put(FILE, f'{DESCRIPTION}[[classes]]\nid = 9\nname = "more"\ncolor = "#010203"\n'),
    ),
    Situation(
        "a damaged graph to wrap",
        WRAP,
        "foreign",
        "copy or export the model again",
        make=cut("foreign/saved_model.pb", 0.5),
    ),
    # ensemble.
    Situation(
        "ensemble of no model",
        "ensemble --output=both",
        "name a model",
        "see beamseg ensemble --help",
    ),
    Situation(
        "ensemble without an output",
        "ensemble model --flips",
        "--output",
        "see beamseg ensemble --help",
    ),
    Situation(
        "ensemble of one model alone",
        "ensemble model --output=both",
        "--flips",
        "an ensemble needs two models, or one with --flips, --turns or",
    ),
    Situation(
        "ensemble of a model twice",
        "ensemble model model --output=both",
        "model",
        "is the same model as model: give it once",
    ),
    Situation(
        "ensemble of a model and its copy",
        "ensemble model more --output=both",
        "more",
        "is the same model as model: give it once",
        make=copied("model", "more"),
    ),
    Situation(
        "ensemble of what is not there",
        "ensemble model nowhere --output=both",
        "nowhere",
        "there is no such folder",
    ),
    Situation(
        "ensemble of a model without contract",
        "ensemble model foreign --output=both",
        "foreign",
        "make a model of it with beamseg wrap; beamseg inspect says what",
    ),
    Situation(
        "ensemble of models of other bands",
        "ensemble model more --output=both",
        "bands",
        "model has ('red', 'green', 'blue'), more has ('a', 'b', 'c');",
        make=all_of(copied("model", "more"), takes(MORE, bands=["a", "b", "c"])),
    ),
    Situation(
        "ensemble of models of other classes",
        "ensemble model more --output=both",
        "classes",
        "0 'dark', 3 'middle', 7 'bright' of model is not in more; train",
        make=all_of(
            copied("model", "more"),
            gives([named(number, f"c{number}") for number in range(3)], MORE),
        ),
    ),
    Situation(
        "ensemble of models of other ranges",
        "ensemble model more --output=both",
        "value_range",
        "model has (0.0, 255.0), more has (0, 100); leave one of them out",
        make=all_of(copied("model", "more"), takes(MORE, value_range=[0, 100])),
    ),
    Situation(
        "ensemble into one of its models",
        "ensemble model --flips --output=model",
        "--output",
        "name another folder",
    ),
    Situation(
        "ensemble into a folder of other files",
        "ensemble model --flips --output=photos",
        "photos",
        "holds files that are no SavedModel: name another",
    ),
    Situation(
        "ensemble into a file",
        "ensemble model --flips --output=wrap.toml",
        "wrap.toml",
        "name another folder",
    ),
    Situation(
        "ensemble into a store",
        "ensemble model --flips --output=gs://bucket/both",
        "gs://bucket/both",
        "write one, and copy it there",
    ),
    Situation(
        "scales that are words",
        f"{ENSEMBLE} --scales=1,half",
        "--scales",
        "must be numbers with commas between them, such as 0.75,1,1.25,",
    ),
    Situation(
        "a scale of nothing", f"{ENSEMBLE} --scales=0", "--scales", "must be in 0.25..4, got 0"
    ),
    Situation(
        "a scale of infinity",
        f"{ENSEMBLE} --scales=inf",
        "--scales",
        "must be numbers with commas between them, such as 0.75,1,1.25,",
    ),
    Situation("a scale twice", f"{ENSEMBLE} --scales=1,1", "--scales", "1 occurs more than once"),
    Situation(
        "no scale",
        f"{ENSEMBLE} --scales=",
        "--scales",
        "must be numbers with commas between them, such as 0.75,1,1.25,",
    ),
    Situation(
        "a scale of too fine a fraction",
        f"{ENSEMBLE} --scales=1,0.999",
        "--scales",
        "use scales that are halves, quarters or eighths",
    ),
    Situation(
        "ensemble by samples that are not there",
        f"{ENSEMBLE} --samples fotos",
        "fotos",
        "no image matches fotos",
    ),
    Situation(
        "ensemble by samples of other bands",
        f"{ENSEMBLE} --samples grey.tif",
        "grey.tif",
        "the scene has 1 (gray)",
        make=copied("masks/image-000.png", "grey.tif"),
    ),
    Situation(
        "ensemble of a damaged model",
        ENSEMBLE,
        "model",
        "copy or export the model again",
        make=cut("model/saved_model.pb", 0.5),
    ),
    Situation(
        "ensemble of a model with a damaged contract",
        ENSEMBLE,
        "segmodel.json",
        "line 55 column 9 (char 900)",
        make=cut(CONTRACT, 0.5),
    ),
    # compare.
    Situation("compare of nothing", "compare", "RUN", "; see beamseg compare --help"),
    Situation("compare of one run", "compare photos", "compare", "needs two or more runs, got 1"),
    Situation(
        "compare of a run twice", "compare photos photos/", "twice", "one of them is named twice"
    ),
    Situation(
        "compare of what is not there",
        "compare nowhere elsewhere",
        "nowhere",
        "it has no configuration.json; give the --output of train",
    ),
    Situation(
        "compare of folders of images",
        "compare photos masks",
        "photos",
        "it has no configuration.json; give the --output of train",
    ),
    Situation(
        "compare of files",
        "compare wrap.toml classes.toml",
        "wrap.toml",
        "it has no configuration.json; give the --output of train",
    ),
    Situation(
        "compare of empty folders",
        "compare a b",
        "a",
        "it has no configuration.json; give the --output of train",
        make=all_of(empty("a"), empty("b")),
    ),
    Situation(
        "compare of runs whose settings are no JSON",
        "compare a b",
        "configuration.json",
        "line 1 column 2 (char 1)",
        make=all_of(put("a/configuration.json", "{"), put("b/configuration.json", "{")),
    ),
    Situation(
        "compare of runs whose settings are a list",
        "compare a b",
        "configuration.json",
        "must hold an object, got list",
        make=all_of(put("a/configuration.json", "[]"), put("b/configuration.json", "[]")),
    ),
    Situation(
        "compare of runs whose settings lack classes",
        "compare a b",
        "configuration.json",
        "at least one class is needed, got none",
        make=all_of(
            put("a/configuration.json", json.dumps({"classes": []})),
            put("b/configuration.json", "{}"),
        ),
    ),
    # demo.
    Situation(
        "a demo with a word too many",
        "demo here",
        "here",
        "options begin with --, patterns with * need quotes",
    ),
    Situation(
        "a demo of an option that is misspelled",
        "demo --sample=demo",
        "--sample",
        "did you mean --samples?",
    ),
    Situation("an empty folder of a demo", "demo --output=", "--output", "is empty: name a folder"),
)
