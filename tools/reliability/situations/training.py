"""Training: configurations, data, and what a run continues or begins with."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

from tests.pipelines.train_corpus import CONFIGURATION
from tools.reliability.situations.changes import (
    Change,
    all_of,
    copied,
    cut,
    empty,
    gone,
    link,
    put,
    swapped,
)
from tools.reliability.situations.table import TRAIN, Situation

FILE = "train.toml"


def picture(path: str, values: np.ndarray, kind: str = "PNG") -> Change:
    """An image of these values."""
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, kind)
    return put(path, buffer.getvalue())


def told(old: str, new: str) -> Change:
    """Another text in the configuration."""
    return swapped(FILE, old, new)


def added(section: str, line: str) -> Change:
    """One more line in a section of the configuration."""
    return told(f"[{section}]\n", f"[{section}]\n{line}\n")


def filled(color: tuple[int, int, int]) -> Change:
    """All masks for training hold one colour."""
    mask = np.full((64, 64, 3), color, np.uint8)
    paths = [f"training/masks/{name}.png" for name in ("east-0", "west-1", "east-2", "west-3")]
    return all_of(*(picture(path, mask) for path in paths))


def huge(folder: Path) -> None:
    """A configuration of 100 MB."""
    (folder / FILE).write_text("#" + "x" * 100_000_000 + "\n[data")


RED, BLUE = (0xC8, 0x28, 0x28), (0x28, 0x28, 0xC8)
SHARDS = f"{TRAIN} --set=data.images=[] --set=data.masks=[] --set=data.shards"

SITUATIONS = (
    # The command line.
    Situation(
        "train without a configuration",
        "train --output=trained",
        "--config",
        "see beamseg train --help",
    ),
    Situation(
        "train without an output",
        "train --config=train.toml",
        "--output",
        "see beamseg train --help",
    ),
    Situation(
        "a setting without a value",
        f"{TRAIN} --set=training.steps",
        "--set",
        "needs SECTION.KEY=VALUE, got 'training.steps'",
    ),
    Situation(
        "a setting without a name", f"{TRAIN} --set==5", "--set", "needs SECTION.KEY=VALUE, got ''"
    ),
    Situation(
        "a setting that is misspelled",
        f"{TRAIN} --set=training.stepz=5",
        "training.stepz",
        "did you mean training.steps?",
    ),
    Situation(
        "a setting of a section that is none",
        f"{TRAIN} --set=trianing.steps=5",
        "trianing",
        "did you mean training?",
    ),
    Situation(
        "a setting below a value",
        f"{TRAIN} --set=training.steps.more=5",
        "training.steps",
        "--set needs SECTION.KEY=VALUE, got 'training.steps.more'",
    ),
    Situation(
        "a setting that is a section",
        f"{TRAIN} --set=training=5",
        "training",
        "--set needs SECTION.KEY=VALUE, got 'training'",
    ),
    Situation(
        "a setting of a word for a number",
        f"{TRAIN} --set=training.steps=many",
        "training.steps",
        "must be a valid integer, got 'many'",
    ),
    Situation(
        "a setting of NaN",
        f"{TRAIN} --set=training.learning_rate=nan",
        "training.learning_rate",
        "must be a finite number, got nan",
    ),
    Situation(
        "a floor without a class",
        f"{TRAIN} --min_iou=0.5",
        "--min_iou",
        "needs CLASS=VALUE, got '0.5'",
    ),
    Situation(
        "a floor of a class that is none",
        f"{TRAIN} --min_iou=road=0.5",
        "road",
        "export.min_iou must be one of red, blue, mean, got 'road'",
    ),
    Situation(
        "a floor that is no number",
        f"{TRAIN} --min_iou=red=high",
        "--min_iou",
        "red must be a number, got 'high'",
    ),
    Situation(
        "a floor above 1",
        f"{TRAIN} --min_iou=red=50",
        "min_iou",
        "export.min_iou.red must be at most 1, got 50.0",
    ),
    Situation(
        "a start that is not there",
        f"{TRAIN} --init_from=nowhere",
        "nowhere",
        "found no saved_model.pb in it, nor in its folder model",
    ),
    Situation(
        "a start that is a folder of images",
        f"{TRAIN} --init_from=photos",
        "photos",
        "found no saved_model.pb in it, nor in its folder model",
    ),
    Situation(
        "a start from a model of no layers",
        f"{TRAIN} --init_from=model",
        "model",
        "train it again, or name another model",
    ),
    Situation(
        "weights that are not there",
        f"{TRAIN} --backbone_weights=nowhere.h5",
        "nowhere.h5",
        "set width = 1.0 or backbone_weights = 'none'",
    ),
    Situation(
        "weights that are no weights",
        f"{TRAIN} --backbone_weights=wrap.toml",
        "wrap.toml",
        "set width = 1.0 or backbone_weights = 'none'",
    ),
    Situation(
        "weights that are a folder",
        f"{TRAIN} --backbone_weights=photos",
        "photos",
        "set width = 1.0 or backbone_weights = 'none'",
    ),
    # The file.
    Situation(
        "a configuration that is not there",
        "train --config=none.toml --output=trained",
        "none.toml",
        "no such file",
    ),
    Situation(
        "a configuration that is a folder",
        "train --config=photos --output=trained",
        "photos",
        "check the path, a file is needed there",
    ),
    Situation(
        "a configuration that is an image",
        "train --config=photos/image-000.png --output=trained",
        "image-000.png",
        "invalid start byte",
    ),
    Situation(
        "a configuration that is a link to itself",
        TRAIN,
        FILE,
        "name another place, or remove them",
        make=link(FILE, FILE),
    ),
    Situation("an empty configuration", TRAIN, FILE, "model.name is missing", make=put(FILE, "")),
    Situation(
        "a configuration of YAML",
        TRAIN,
        FILE,
        "Expected '=' after a key in a key/value pair (at line 1, column",
        make=put(FILE, "model:\n  name: a\n"),
    ),
    Situation(
        "a configuration that is cut",
        TRAIN,
        FILE,
        "Unterminated string (at end of document)",
        make=cut(FILE, 0.5),
    ),
    Situation(
        "a configuration that is not UTF-8",
        TRAIN,
        FILE,
        "invalid start byte",
        make=put(FILE, b'[model]\nname = "\xff"\n'),
    ),
    Situation(
        "a configuration with a mark of byte order",
        TRAIN,
        FILE,
        "Invalid statement (at line 1, column 1)",
        make=put(FILE, "\ufeff" + CONFIGURATION),
    ),
    Situation(
        "a configuration in UTF-16",
        TRAIN,
        FILE,
        "invalid start byte",
        make=put(FILE, CONFIGURATION.encode("utf-16")),
    ),
    Situation(
        "a configuration with a key twice",
        TRAIN,
        FILE,
        "Cannot overwrite a value (at line 11, column 17)",
        make=added("model", 'name = "again"'),
    ),
    Situation(
        "a configuration that is nested without end",
        TRAIN,
        FILE,
        "it is nested too deeply",
        make=put(FILE, f"a = {'[' * 5000}{']' * 5000}"),
    ),
    Situation(
        "a configuration of 100 MB",
        TRAIN,
        FILE,
        "Expected ']' at the end of a table declaration (at end of",
        make=huge,
    ),
    Situation(
        "a configuration with a number of too many digits",
        TRAIN,
        FILE,
        "value has 9999 digits; use sys.set_int_max_str_digits() to",
        make=put(FILE, f"a = {'9' * 9999}"),
    ),
    # Its settings.
    Situation(
        "a configuration without a model",
        TRAIN,
        "model",
        "['about', 'allow_empty_classes', 'cache_mb', 'group',",
        make=told("[model]", "[data.model]"),
    ),
    Situation(
        "a configuration without classes",
        TRAIN,
        "classes",
        "at least one class is needed, got none",
        make=lambda folder: (folder / FILE).write_text(CONFIGURATION.partition("[[classes]]")[0]),
    ),
    Situation(
        "a configuration of one class",
        TRAIN,
        "class",
        "mask has color #2828C8, which is neither a class nor ignored",
        make=lambda folder: (folder / FILE).write_text(CONFIGURATION.rpartition("[[classes]]")[0]),
    ),
    Situation(
        "classes as a table",
        TRAIN,
        "classes",
        "must be a valid list, got {'id': 1}",
        make=lambda folder: (folder / FILE).write_text(
            CONFIGURATION.partition("[[classes]]")[0] + "[classes]\nid = 1\n"
        ),
    ),
    Situation(
        "a class whose id is a text",
        TRAIN,
        "classes[0].id",
        "must be a valid integer, got '3'",
        make=told("id = 3", 'id = "3"'),
    ),
    Situation(
        "a class without a colour",
        TRAIN,
        "color",
        "classes[0].color is missing",
        make=told('color = "#C82828"\n', ""),
    ),
    Situation(
        "a class with a colour by its name",
        TRAIN,
        "color",
        "must look like #8429F6, got 'crimson'",
        make=told('"#C82828"', '"crimson"'),
    ),
    Situation(
        "two classes of one colour",
        TRAIN,
        "#2828C8",
        "correct the classes, or what is ignored",
        make=told("#C82828", "#2828C8"),
    ),
    Situation(
        "two classes of one name",
        TRAIN,
        "red",
        "name red occurs more than once",
        make=told('name = "blue"', 'name = "red"'),
    ),
    Situation(
        "a class above all ids",
        TRAIN,
        "70000",
        "id must be in 0..",
        make=told("id = 3", "id = 70000"),
    ),
    Situation(
        "a network that is none",
        TRAIN,
        "model.variant",
        "must be 'fcn-32s', 'fcn-16s', 'fcn-8s' or 'fcn-4s', got 'unet'",
        make=told("fcn-16s", "unet"),
    ),
    Situation(
        "a backbone that is none",
        TRAIN,
        "model.backbone",
        "must be one of vgg16, vgg19, resnet50, resnet101, resnet152,",
        make=told("vgg16", "vgg99"),
    ),
    Situation(
        "a network of no width",
        TRAIN,
        "model.width",
        "must be greater than 0, got 0",
        make=told("width = 0.05", "width = 0"),
    ),
    Situation(
        "a crop of nothing",
        TRAIN,
        "training.crop",
        "must be at least 1, got 0",
        make=told("crop = 32", "crop = 0"),
    ),
    Situation(
        "a crop that is no multiple of the stride",
        TRAIN,
        "training.crop",
        "must be a multiple of 32, got 33",
        make=told("crop = 32", "crop = 33"),
    ),
    Situation(
        "a crop beyond all memory",
        TRAIN,
        "training.crop",
        "lower training.batch or training.crop",
        make=told("crop = 32", "crop = 3200000"),
    ),
    Situation(
        "a number of steps as a fraction",
        TRAIN,
        "training.steps",
        "must be a valid integer, got 4.5",
        make=told("steps = 4\n", "steps = 4.5\n"),
    ),
    Situation(
        "a learning rate of nothing",
        TRAIN,
        "training.learning_rate",
        "must be greater than 0, got 0",
        make=told("0.003", "0"),
    ),
    Situation(
        "an optimizer that is none",
        TRAIN,
        "training.optimizer",
        "must be 'adamw' or 'sgd', got 'lion'",
        make=added("training", 'optimizer = "lion"'),
    ),
    Situation(
        "a loss that is none",
        TRAIN,
        "training.loss",
        "must be 'cross_entropy', 'focal' or 'dice', got 'hinge'",
        make=added("training", "loss = { hinge = 1 }"),
    ),
    Situation(
        "a loss of no weight",
        TRAIN,
        "training.loss",
        "needs one weight above 0",
        make=added("training", "loss = { dice = 0 }"),
    ),
    Situation(
        "weights of too few classes",
        TRAIN,
        "training.class_weights",
        "needs one number for each of 2 classes, got 1",
        make=added("training", "class_weights = [1]"),
    ),
    Situation(
        "stages from fine to coarse",
        TRAIN,
        "training.stages",
        "must go from coarse to fine, each once, got ['fcn-8s',",
        make=added("training", 'stages = ["fcn-8s", "fcn-16s"]'),
    ),
    Situation(
        "a device that is not there",
        TRAIN,
        "training.devices",
        "GPU:7 is not there: CPU:0",
        make=added("training", 'devices = ["GPU:7"]'),
    ),
    Situation(
        "a seed above all",
        TRAIN,
        "training.seed",
        "must be at most",
        make=added("training", "seed = 99999999999999999999"),
    ),
    Situation(
        "a momentum of 1",
        TRAIN,
        "training.momentum",
        "must be less than 1, got 1.0",
        make=added("training", "momentum = 1.0"),
    ),
    Situation(
        "a scale that falls",
        TRAIN,
        "augmentation.scale",
        "must be two rising positive numbers, got [2.0, 1.0]",
        make=lambda folder: (folder / FILE).write_text(
            "[augmentation]\nscale = [2, 1]\n" + CONFIGURATION
        ),
    ),
    Situation(
        "a cache of negative size",
        TRAIN,
        "data.cache_mb",
        "must be at least 1, got -1",
        make=added("data", "cache_mb = -1"),
    ),
    Situation(
        "an encoding of masks for training that is none",
        TRAIN,
        "data.mask_encoding",
        "must be 'color', 'palette' or 'id', got 'rgb'",
        make=added("data", 'mask_encoding = "rgb"'),
    ),
    Situation(
        "a rule for groups that is no expression",
        TRAIN,
        "data.group",
        "unterminated character set at position 1",
        make=told("group = '(\\w+)-\\d+\\.png$'", "group = '(['"),
    ),
    Situation(
        "an ignored colour that is none",
        TRAIN,
        "data.ignore_colors",
        "color must look like #8429F6, got 'black'",
        make=added("data", 'ignore_colors = ["black"]'),
    ),
    Situation(
        "an ignored id that is a class",
        TRAIN,
        "id 3",
        "correct the classes, or what is ignored",
        make=added("data", "ignore_ids = [3]"),
    ),
    Situation(
        "floats for a range of bytes",
        TRAIN,
        "model.value_range",
        "two numbers, such as the least and the greatest value of most",
        make=added("model", 'dtype = "float32"'),
    ),
    Situation(
        "a range of a single value",
        TRAIN,
        "model.value_range",
        "must be two rising numbers, got [5.0, 5.0]",
        make=added("model", "value_range = [5, 5]"),
    ),
    # The data.
    Situation(
        "more folders of images than of masks",
        TRAIN,
        "data.images",
        "and data.masks must name equally many folders, got 1 and 2",
        make=told('masks = "training/masks"', 'masks = ["training/masks", "b"]'),
    ),
    Situation(
        "no data for training",
        TRAIN,
        "data.images",
        "or data.shards must name something to train on",
        make=told('images = "training/images"\nmasks = "training/masks"\n', ""),
    ),
    Situation(
        "no data for validation",
        TRAIN,
        "data.validation_images",
        "or data.validation_shards must name something to validate on",
        make=told(
            'validation_images = "validation/images"\nvalidation_masks = "validation/masks"\n', ""
        ),
    ),
    Situation(
        "images for training that are not there",
        TRAIN,
        "training/images",
        "is not a folder that can be read",
        make=gone("training/images"),
    ),
    Situation(
        "masks for training that are not there",
        TRAIN,
        "training/masks",
        "is not a folder that can be read",
        make=gone("training/masks"),
    ),
    Situation(
        "a folder of no images for training",
        TRAIN,
        "training/images",
        "holds no image (.jpeg, .jpg, .png, .tif, .tiff, .webp)",
        make=empty("training/images"),
    ),
    Situation(
        "a file as folder of images",
        TRAIN,
        "training/images",
        "is not a folder that can be read",
        make=put("training/images", "x"),
    ),
    Situation(
        "an image without mask",
        TRAIN,
        "east-0",
        "add masks, or remove the images",
        make=gone("training/masks/east-0.png"),
    ),
    Situation(
        "a mask without image",
        TRAIN,
        "west-1",
        "add masks, or remove the images",
        make=all_of(gone("training/images/east-0.png"), gone("training/masks/west-1.png")),
    ),
    Situation(
        "an image for training that is a text",
        TRAIN,
        "east-0.png",
        "not a JPEG, PNG, WebP or TIFF image",
        make=put("training/images/east-0.png", "hello"),
    ),
    Situation(
        "an image for training that is empty",
        TRAIN,
        "east-0.png",
        "training/images/east-0.png: empty file",
        make=put("training/images/east-0.png", ""),
    ),
    Situation(
        "an image for training that is cut",
        TRAIN,
        "east-0.png",
        "it ends without its end mark",
        make=cut("training/images/east-0.png", 0.5),
    ),
    Situation(
        "a mask for training that is cut",
        TRAIN,
        "east-0.png",
        "it ends without its end mark",
        make=cut("training/masks/east-0.png", 0.5),
    ),
    Situation(
        "an image for training that is a link to nothing",
        TRAIN,
        "east-0.png",
        "No such file or directory",
        make=link("training/images/east-0.png", "nowhere"),
    ),
    Situation(
        "a mask of another size",
        TRAIN,
        "east-0.png",
        "the mask is 60x64, its image 64x64",
        make=picture("training/masks/east-0.png", np.full((64, 60, 3), RED, np.uint8)),
    ),
    Situation(
        "a mask of an unknown colour",
        TRAIN,
        "east-0.png",
        "mask has color #",
        make=picture("training/masks/east-0.png", np.full((64, 64, 3), 9, np.uint8)),
    ),
    Situation(
        "a mask of grey for one of colours",
        TRAIN,
        "east-0.png",
        "mask has color #",
        make=picture("training/masks/east-0.png", np.full((64, 64), 3, np.uint8)),
    ),
    Situation(
        "a mask as a JPEG",
        TRAIN,
        "east-0",
        "mask has color #00005C, #",
        make=all_of(
            gone("training/masks/east-0.png"),
            picture(
                "training/masks/east-0.jpg",
                np.random.default_rng(1).integers(0, 255, (64, 64, 3), np.uint8),
                "JPEG",
            ),
        ),
    ),
    Situation(
        "two masks of one image",
        TRAIN,
        "east-0",
        "remove all but one",
        make=copied("training/masks/east-0.png", "training/masks/east-0.tif"),
    ),
    Situation(
        "masks of one class only",
        TRAIN,
        "blue",
        "add images of it, remove it from the classes, or set",
        make=filled(RED),
    ),
    Situation(
        "masks of which all is ignored",
        TRAIN,
        "red",
        "all of them are ignored",
        make=all_of(added("data", 'ignore_colors = ["#000000"]'), filled((0, 0, 0))),
    ),
    Situation(
        "images of validation that are those of training",
        TRAIN,
        "training/images",
        "scores would be of what was learned",
        make=told("validation/", "training/"),
    ),
    Situation(
        "images smaller than nothing for a crop",
        TRAIN,
        "east-0.png",
        "the mask is 64x64, its image 1x1",
        make=picture("training/images/east-0.png", np.zeros((1, 1, 3), np.uint8)),
    ),
    Situation(
        "a group that matches no path",
        f"{TRAIN} --folds_by=group",
        "data.group",
        "every image needs a group",
        make=told("group = '(\\w+)-\\d+\\.png$'", "group = 'tile(\\d)'"),
    ),
    Situation(
        "a single group for folds",
        f"{TRAIN} --folds_by=group",
        "group",
        "data.group is the regular expression that finds the region in",
        make=told("group = '(\\w+)-\\d+\\.png$'", "group = '(png)$'"),
    ),
    # Shards.
    Situation(
        "shards for training that are not there",
        f"{SHARDS}=nowhere",
        "nowhere",
        "TFRecord shards (.tfrecord .tfrecord.gz), WebDataset shards",
    ),
    Situation(
        "shards for training of another kind of file",
        f"{SHARDS}=photos",
        "photos",
        "TFRecord shards (.tfrecord .tfrecord.gz), WebDataset shards",
    ),
    Situation(
        "shards for training without label maps",
        f"{SHARDS}=shards/part.tfrecord",
        "part.tfrecord",
        "the record has no feature image/segmentation/class/encoded with",
    ),
    Situation(
        "a shard for training that is text",
        f"{SHARDS}=shards/part.tar",
        "part.tar",
        "a header is corrupt (invalid header); the rest of the shard",
        make=put("shards/part.tar", "hello " * 999),
    ),
    Situation(
        "a shard for training that is cut",
        f"{SHARDS}=shards/part.parquet",
        "part.parquet",
        "Parquet magic bytes not found in footer. Either the file is",
        make=cut("shards/part.parquet", 0.5),
    ),
    # The output.
    Situation(
        "an output of training that is a file",
        "train --config=train.toml --output=wrap.toml",
        "wrap.toml",
        "a part of the path is no folder: check it",
    ),
    Situation(
        "an output of training in a store",
        "train --config=train.toml --output=gs://bucket/trained",
        "gs://bucket/trained",
        "write one, and copy it there",
    ),
    Situation(
        "an output of training below a file",
        "train --config=train.toml --output=wrap.toml/trained",
        "wrap.toml",
        "a part of the path is no folder: check it",
    ),
)
