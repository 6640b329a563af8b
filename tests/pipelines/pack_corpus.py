"""PackInputs of image and mask with known ids, and packs of them without an engine."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from pipelines.datasets.launch import check_pack, prepare_pack
from pipelines.datasets.options import PackOptions, parse_shares
from pipelines.datasets.summary import finish_pack
from pipelines.datasets.work import pack_unit
from pipelines.run import plan
from pipelines.run.seals import unsealed
from tests.pipelines.corpus import png, tree, write

CLASSES = """\
[[classes]]
id = 0
name = "land"
color = "#102030"
[[classes]]
id = 7
name = "water"
color = "#405060"
"""
COUNT = 20
HALVES = parse_shares("train=0.5,test=0.5")


def ids(number: int) -> np.ndarray:
    return np.random.default_rng(number).choice(np.array([0, 7], np.uint8), (6, 5 + number, 1))


def image(number: int) -> np.ndarray:
    return np.random.default_rng(99 - number).integers(0, 256, (6, 5 + number, 3)).astype(np.uint8)


def write_pairs(folder: Path) -> PackOptions:
    """Twenty images with masks, to be packed in two splits, about three images in a shard."""
    for number in range(COUNT):
        write(folder / "images" / f"{number:02d}.png", png(image(number)))
        write(folder / "masks" / f"{number:02d}.png", png(ids(number)))
    return PackOptions(
        images=(str(folder / "images"),),
        masks=(str(folder / "masks"),),
        output=str(folder / "packed"),
        classes=str(write(folder / "classes.toml", CLASSES.encode())),
        mask_encoding="id",
        shares=HALVES,
        images_per_shard=3,
    )


def pack(options: PackOptions) -> tuple[int, list[str]]:
    """Exit status, and ids of the shards that were done now."""
    work = prepare_pack(check_pack(options)).work
    units = plan.read_units(work.run.plan, plan.WorkUnit)
    reports = [(unit.id, pack_unit(unit, work)) for unit in units]
    done = [name for name, report in reports if report.done and not report.skipped]
    return finish_pack(work, options.max_failures, {}), done


def result(options: PackOptions) -> dict:
    document, _ = unsealed((Path(options.output) / "pack.json").read_bytes())
    return document


def rows(options: PackOptions) -> list[dict]:
    folder = Path(options.output) / ".beamseg" / "failures"
    lines = [line for path in sorted(folder.glob("*")) for line in path.read_text().splitlines()]
    return [json.loads(line) for line in lines]


def shards(options: PackOptions) -> dict[str, bytes]:
    found = tree(options.output)
    return {name: found[name] for name in found if not name.startswith(".beamseg/")}
