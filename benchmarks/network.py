"""What does an exported network take beside the one that Keras calls? Ratios, in one run.

    python benchmarks/network.py mobilenet_v2 --weights FILE --images FOLDER

Both go from raw uint8 to labels of uint8, of one array in one piece. Time of processors is told
beside time, as it depends less on what else a machine does.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from dataclasses import replace

import comparison
import keras
import numpy as np
from comparison import medians, pictures, plain_function, timed

from segmodel.devices.startup import reuse_memory
from segmodel.networks.network import NetworkConfig, build_network, nodata_fill
from segmodel.savedmodel.export import export_savedmodel
from segmodel.savedmodel.predictor import Predictor

REPEATS = 5


def main() -> None:
    """Measure one network."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("backbone")
    parser.add_argument("--weights", default="none", help="weights of its backbone")
    parser.add_argument("--images", metavar="FOLDER", help="JPEG files; default: made up")
    parser.add_argument("--side", type=int, default=1536)
    parsed = parser.parse_args()
    reuse_memory()
    keras.utils.set_random_seed(0)
    config = NetworkConfig(5, backbone=parsed.backbone, backbone_weights=parsed.weights)
    network = build_network(config)
    contract = replace(comparison.CONTRACT, nodata_fill=nodata_fill(config, "uint8"))
    with tempfile.TemporaryDirectory() as folder:
        export_savedmodel(network, contract, f"{folder}/model", measure_memory=False)
        predictor = Predictor.load(f"{folder}/model")
    images = pictures(parsed.images, parsed.side)[None]
    plain = plain_function(network)
    sides = {"Keras": lambda: plain(images), "exported": lambda: predictor.labels(images)}
    first = {name: call() for name, call in sides.items()}
    unequal = np.mean(first["Keras"] != first["exported"])
    print(f"{parsed.backbone}, {parsed.side} pixels a side, load {os.getloadavg()[0]:.1f}")
    print(f"share of unequal labels {unequal:.1e}")
    for what, clock in (("time", time.perf_counter), ("processors", time.process_time)):
        taken = medians({name: timed(call, clock) for name, call in sides.items()}, REPEATS)
        rates = {name: images.size / 3e6 / seconds for name, seconds in taken.items()}
        told = ", ".join(f"{name} {rate:.2f}" for name, rate in rates.items())
        print(f"Mpx a second of {what}: {told}; ratio {rates['exported'] / rates['Keras']:.2f}")


if __name__ == "__main__":
    main()
