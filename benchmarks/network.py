"""What does an exported network take beside the one that Keras calls? Ratios, in one run.

    python benchmarks/network.py mobilenet_v2 --weights FILE --images FOLDER --sides 512 1536

All go from raw uint8 to labels of uint8, of one array in one piece: the function of Keras, the
signature as it was loaded, and as it runs, with weights that were computed once. Time of processors
is told beside time, as it depends less on what else a machine does.
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
import tensorflow as tf
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
    parser.add_argument("--sides", type=int, nargs="+", default=[512, 1536])
    parsed = parser.parse_args()
    reuse_memory()
    keras.utils.set_random_seed(0)
    config = NetworkConfig(5, backbone=parsed.backbone, backbone_weights=parsed.weights)
    network = build_network(config)
    vary_normalization(network)
    contract = replace(
        comparison.CONTRACT,
        name=parsed.backbone,
        nodata_fill=nodata_fill(config, "uint8"),
    )
    with tempfile.TemporaryDirectory() as folder:
        export_savedmodel(network, contract, f"{folder}/model", measure_memory=False)
        predictor = Predictor.load(f"{folder}/model")
    if (why := predictor.served("labels").why_loaded) is not None:
        print(f"runs as loaded: {why}")
    for side in parsed.sides:
        compare(network, predictor, pictures(parsed.images, side)[None])


def vary_normalization(network: keras.Model) -> None:
    """Give batch normalization values as if it were trained.

    Untrained, its shift is 0, which TensorFlow leaves out, and then it does not fuse activations.
    """
    random = np.random.default_rng(0)
    for weight in network.weights:
        name = weight.path.rsplit("/", 1)[-1]
        if name in ("gamma", "moving_variance"):
            weight.assign(random.uniform(0.8, 1.2, weight.shape))
        elif name in ("beta", "moving_mean"):
            weight.assign(random.normal(0, 0.1, weight.shape))


def compare(network: keras.Model, predictor: Predictor, images: np.ndarray) -> None:
    """Print rates of Keras, of the signature as loaded and of the one that runs."""
    plain, loaded = plain_function(network), predictor.signatures["labels"]
    sides = {
        "Keras": lambda: plain(images),
        "loaded": lambda: loaded(images=tf.constant(images))["labels"].numpy(),
        "runs": lambda: predictor.labels(images),
    }
    first = {name: call() for name, call in sides.items()}
    unequal = {name: np.mean(first[name] != first["runs"]) for name in ("Keras", "loaded")}
    print(
        f"{predictor.contract.name}, {images.shape[1]} pixels a side, load {os.getloadavg()[0]:.1f}"
    )
    print("share of unequal labels " + ", ".join(f"{n} {s:.1e}" for n, s in unequal.items()))
    for what, clock in (("time", time.perf_counter), ("processors", time.process_time)):
        taken = medians({name: timed(call, clock) for name, call in sides.items()}, REPEATS)
        rates = {name: images.size / 3e6 / seconds for name, seconds in taken.items()}
        ratios = ", ".join(
            f"{name} {rate:.2f} ({rate / rates['Keras']:.2f})" for name, rate in rates.items()
        )
        print(f"Mpx a second of {what} (ratio to Keras): {ratios}")


if __name__ == "__main__":
    main()
