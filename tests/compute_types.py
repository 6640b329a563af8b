"""Whether this machine multiplies bfloat16."""

from __future__ import annotations

import pytest

from segmodel.devices.compute import BFLOAT16_FLAGS, cpu_flags

needs_bfloat16 = pytest.mark.skipif(
    BFLOAT16_FLAGS.isdisjoint(cpu_flags()), reason="this CPU has neither avx512_bf16 nor amx_bf16"
)
