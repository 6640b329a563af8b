"""Variants of fully convolutional networks, and the precisions they compute in."""

from __future__ import annotations

# The stride of the finest features that are scored.
VARIANTS = {"fcn-32s": 32, "fcn-16s": 16, "fcn-8s": 8, "fcn-4s": 4}


PRECISIONS = ("float32", "mixed_float16", "mixed_bfloat16")
