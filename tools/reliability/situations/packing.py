"""Packs: splits, groups, classes, and pairs that do not fit."""

from __future__ import annotations

import numpy as np

from tests.broken_images import BROKEN
from tools.reliability.situations.changes import all_of, copied, cut, empty, gone, only, put
from tools.reliability.situations.table import MASKED, OVER, PACK, Situation
from tools.reliability.situations.training import picture

CLASSES = "classes.toml"
MASK = "masks/image-000.png"

SITUATIONS = (
    Situation(
        "pack without images",
        "pack --output=packed",
        "--images",
        "is missing, for example --images photos/",
    ),
    Situation(
        "pack without output",
        "pack --images=photos",
        "--output",
        "is missing, for example --output shards",
    ),
    Situation(
        "shares that do not add up",
        f"{PACK} --split=train=0.8,test=0.1",
        "--split",
        "shares must add up to 1, these add up to 0.9",
    ),
    Situation(
        "a share of nothing",
        f"{PACK} --split=train=1,test=0",
        "--split",
        "must look like train=0.8,validation=0.1,test=0.1, got 'test=0'",
    ),
    Situation(
        "a negative share",
        f"{PACK} --split=train=1.5,test=-0.5",
        "--split",
        "must look like train=0.8,validation=0.1,test=0.1, got",
    ),
    Situation(
        "a share that is a word",
        f"{PACK} --split=train=most,test=few",
        "--split",
        "must look like train=0.8,validation=0.1,test=0.1, got",
    ),
    Situation(
        "a split without a share",
        f"{PACK} --split=train",
        "--split",
        "must look like train=0.8,validation=0.1,test=0.1, got 'train'",
    ),
    Situation(
        "a split of a name that leads upwards",
        f"{PACK} --split=../train=1",
        "--split",
        "must look like train=0.8,validation=0.1,test=0.1, got",
    ),
    Situation(
        "a split of a name that is not ASCII",
        f"{PACK} --split=entraînement=1",
        "--split",
        "must look like train=0.8,validation=0.1,test=0.1, got",
    ),
    Situation(
        "a split twice", f"{PACK} --split=train=0.5,train=0.5", "--split", "names train twice"
    ),
    Situation(
        "a rule of groups without a group",
        f"{PACK} --group_by=tile",
        "--group_by",
        "put what names a group in one pair of parentheses, such as",
    ),
    Situation(
        "a rule of groups that is no expression",
        f"{PACK} '--group_by=(tile'",
        "--group_by",
        "missing ), unterminated subpattern at position 0",
    ),
    Situation(
        "a rule of groups that matches no path",
        f"{PACK} '--group_by=tile_(\\d+)'",
        "--group_by",
        "mend the expression, or name fewer images",
    ),
    Situation(
        "an empty rule of groups",
        f"{PACK} --group_by=",
        "--group_by",
        "put what names a group in one pair of parentheses, such as",
    ),
    Situation(
        "images without masks",
        MASKED,
        "image-000",
        "add what is missing, or name fewer images",
        make=gone(MASK),
    ),
    Situation(
        "a mask that fits two images",
        MASKED,
        "image-000",
        "photos/image-000.png and photos/image-000.tif would have the",
        make=copied("photos/image-000.png", "photos/image-000.tif"),
    ),
    Situation(
        "a mask of another size, to pack",
        MASKED,
        "image-000.png",
        "the mask is 9x9, its image 56x40",
        OVER,
        make=picture(MASK, np.zeros((9, 9), np.uint8)),
    ),
    Situation(
        "a mask of an unknown id",
        MASKED,
        "image-000.png",
        "mask has id 99, which is neither a class nor ignored",
        OVER,
        make=picture(MASK, np.full((40, 56), 99, np.uint8)),
    ),
    Situation(
        "a mask of colours for one of ids",
        MASKED,
        "image-000.png",
        "a mask of ids has one band, got mode RGB",
        OVER,
        make=picture(MASK, np.zeros((40, 56, 3), np.uint8)),
    ),
    Situation(
        "a mask that is a text",
        MASKED,
        "image-000.png",
        "not a JPEG, PNG, WebP or TIFF image",
        OVER,
        make=put(MASK, "hello"),
    ),
    Situation(
        "a mask that is cut",
        MASKED,
        "image-000.png",
        "truncated or corrupt PNG: it ends without its end mark",
        OVER,
        make=cut(MASK, 0.5),
    ),
    Situation(
        "an image to pack that is a text",
        PACK,
        "bad.png",
        "not a JPEG, PNG, WebP or TIFF image",
        OVER,
        make=put("photos/bad.png", "hello"),
    ),
    Situation(
        "an image to pack that is empty",
        PACK,
        "bad.png",
        "empty file",
        OVER,
        make=put("photos/bad.png", ""),
    ),
    Situation(
        "images to pack that are all broken",
        PACK,
        "bad.png",
        "truncated or corrupt PNG: it ends without its end mark",
        OVER,
        make=only("photos/bad.png", BROKEN["png-cut"].encoded),
    ),
    Situation(
        "an image to pack beyond the limit",
        f"{PACK} --max_pixels=9",
        "max_pixels",
        "64x64 pixels exceed the limit of 9: raise --max_pixels (and",
        OVER,
    ),
    Situation(
        "a folder without images to pack",
        PACK,
        "photos",
        "check the path, and quote patterns with *",
        make=empty("photos"),
    ),
    Situation(
        "a folder of texts to pack",
        PACK,
        "photos",
        "check the path, and quote patterns with *",
        make=all_of(empty("photos"), put("photos/a.txt", "a")),
    ),
    Situation(
        "all images to pack are excluded",
        f"{PACK} '--exclude=*'",
        "photos",
        "check the path, and quote patterns with *",
    ),
    Situation(
        "classes that are not there",
        f"{PACK} --masks=masks --classes=none.toml",
        "none.toml",
        "no such file",
    ),
    Situation(
        "classes without any",
        MASKED,
        CLASSES,
        "at least one class is needed, got none",
        make=put(CLASSES, ""),
    ),
    Situation(
        "classes that are no TOML",
        MASKED,
        CLASSES,
        "Invalid statement (at line 1, column 1)",
        make=put(CLASSES, "{"),
    ),
    Situation(
        "classes that are no list",
        MASKED,
        CLASSES,
        "classes must be a valid list, got 3",
        make=put(CLASSES, "classes = 3"),
    ),
    Situation(
        "classes of an id twice",
        MASKED,
        CLASSES,
        "id 0 occurs more than once",
        make=put(CLASSES, '[[classes]]\nid = 0\nname = "a"\ncolor = "#000000"\n' * 2),
    ),
    Situation(
        "classes of a name that is empty",
        MASKED,
        CLASSES,
        "class 0 has no name",
        make=put(CLASSES, '[[classes]]\nid = 0\nname = ""\ncolor = "#000000"\n'),
    ),
    Situation(
        "an encoding other than in the configuration",
        f"{PACK} --masks=masks --classes={CLASSES}",
        "image-000.png",
        "mask has color #",
        OVER,
    ),
)
