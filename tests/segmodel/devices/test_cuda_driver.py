"""What the CUDA driver is asked, and what becomes of answers that are none."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from segmodel.devices.gpus import free_bytes, gpu_uuid
from tests.fake_gpus import FakeDriver

UUIDS = [bytes(range(16)), bytes(range(16, 32))]
GIB = 2**30

# The calls as the driver's header has them; a second GPU has 5 GiB free.
DRIVER = r"""
#include <stddef.h>
#include <string.h>
static int current = -1;
int cuInit(unsigned flags) { return flags; }
int cuDeviceGet(int *device, int number) { *device = 7 + number; return number < 2 ? 0 : 101; }
int cuDeviceGetUuid_v2(unsigned char *uuid, int device) { memset(uuid, device, 16); return 0; }
int cuDevicePrimaryCtxRetain(void **context, int device) {
    *context = (void *)(0x7fff00000000ull + device);
    return 0;
}
int cuDevicePrimaryCtxRelease_v2(int device) { return device < 7; }
int cuCtxPushCurrent_v2(void *context) {
    if (((unsigned long long)context >> 32) != 0x7fff) return 201;
    current = (int)(unsigned long long)context & 0xff;
    return 0;
}
int cuCtxPopCurrent_v2(void **context) { *context = NULL; current = -1; return 0; }
int cuMemGetInfo_v2(size_t *free, size_t *total) {
    if (current < 0) return 201;
    *free = (size_t)(current - 3) << 30;
    *total = (size_t)24 << 30;
    return 0;
}
"""


def test_a_gpu_is_known_by_its_uuid_whatever_its_number():
    driver = FakeDriver(UUIDS, [1, 2])
    assert gpu_uuid(1, driver) == "101112131415161718191a1b1c1d1e1f"
    assert gpu_uuid(0, FakeDriver(UUIDS[::-1], [1, 2])) == gpu_uuid(1, driver)


def test_free_memory_is_that_of_the_gpu_that_was_asked_for():
    driver = FakeDriver(UUIDS, [3 * GIB, 5 * GIB])
    assert (free_bytes(0, driver), free_bytes(1, driver)) == (3 * GIB, 5 * GIB)
    assert (driver.held, driver.stack) == (0, [])


@pytest.mark.parametrize(
    "failing",
    ["cuDeviceGet", "cuDevicePrimaryCtxRetain", "cuCtxPushCurrent", "cuMemGetInfo"],
)
def test_a_driver_that_refuses_tells_nothing_of_memory(failing):
    assert free_bytes(0, FakeDriver(UUIDS, [3 * GIB, 5 * GIB], failing)) is None


@pytest.mark.parametrize("failing", ["cuDeviceGet", "cuDeviceGetUuid"])
def test_a_driver_that_refuses_tells_no_uuid(failing):
    assert gpu_uuid(0, FakeDriver(UUIDS, [1, 2], failing)) is None


def test_a_gpu_that_is_not_there_or_a_driver_without_the_calls_tells_nothing():
    driver = FakeDriver(UUIDS, [1, 2])
    assert (gpu_uuid(2, driver), free_bytes(2, driver)) == (None, None)
    assert (gpu_uuid(0, object()), free_bytes(0, object())) == (None, None)


def test_a_driver_library_is_called_as_its_header_says(tmp_path):
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler: the calls are tested with a driver in Python only")
    source = tmp_path / "driver.c"
    source.write_text(DRIVER)
    library = tmp_path / "libcuda.so.1"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source], check=True)
    program = (
        f"from segmodel.devices import gpus; gpus.LIBRARY = {str(library)!r}; "
        f"print([(gpus.gpu_uuid(n), gpus.free_bytes(n)) for n in range(3)])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[3],
    )
    expected = [("07" * 16, 4 * GIB), ("08" * 16, 5 * GIB), (None, None)]
    assert done.stdout.strip() == str(expected)
