"""What TensorFlow and the CUDA driver say of GPUs, without any."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple


class PhysicalDevice(NamedTuple):
    """As in TensorFlow."""

    name: str
    device_type: str = "GPU"


def gpu(number: int) -> PhysicalDevice:
    return PhysicalDevice(f"/physical_device:GPU:{number}")


@dataclass
class FakeConfig:
    """Stands for `tf.config`; as in TensorFlow, nothing that is changed too late is taken.

    `started` is whether TensorFlow has begun to use devices, `limited` are GPUs with a limit.
    """

    physical: list[PhysicalDevice]
    started: bool = False
    limited: tuple[PhysicalDevice, ...] = ()
    growing: dict[PhysicalDevice, bool] = field(default_factory=dict)
    tf32: bool = True

    def __post_init__(self) -> None:
        self.visible = list(self.physical)

    @property
    def experimental(self) -> FakeConfig:
        return self

    def list_physical_devices(self, kind: str) -> list[PhysicalDevice]:
        assert kind == "GPU"
        return list(self.physical)

    def get_visible_devices(self, kind: str) -> list[PhysicalDevice]:
        assert kind == "GPU"
        return list(self.visible)

    def get_logical_device_configuration(self, device: PhysicalDevice) -> list[str] | None:
        return ["a limit"] if device in self.limited else None

    def enable_tensor_float_32_execution(self, enabled: bool) -> None:
        self.tf32 = enabled

    def tensor_float_32_execution_enabled(self) -> bool:
        return self.tf32

    def set_memory_growth(self, device: PhysicalDevice, enable: bool) -> None:
        if device in self.limited:
            raise ValueError("Cannot set memory growth on device when virtual devices configured")
        if self.growing.get(device) == enable:
            return
        if self.started:
            raise RuntimeError("Physical devices cannot be modified after being initialized")
        self.growing[device] = enable

    def set_visible_devices(self, devices: list[PhysicalDevice], kind: str) -> None:
        assert kind == "GPU"
        if self.visible == devices:
            return
        if self.started:
            raise RuntimeError("Visible devices cannot be modified after being initialized")
        self.visible = devices


class FakeDriver:
    """Stands for the CUDA driver: `uuids` and `free` memory of each GPU.

    `failing` is the name of a call that fails; `held` counts contexts that were not given back.
    """

    def __init__(self, uuids: list[bytes], free: list[int], failing: str = "") -> None:
        self.uuids, self.free, self.failing = uuids, free, failing
        self.held = 0
        self.stack: list[int] = []

    def _status(self, name: str) -> int:
        return 999 if name == self.failing else 0

    def cuDeviceGet(self, device, number):  # noqa: N802
        device._obj.value = 100 + number
        return self._status("cuDeviceGet") or (0 if number < len(self.uuids) else 101)

    def cuDeviceGetUuid_v2(self, identity, device):  # noqa: N802
        identity[:] = self.uuids[device.value - 100]
        return self._status("cuDeviceGetUuid")

    def cuDevicePrimaryCtxRetain(self, context, device):  # noqa: N802
        context._obj.value = device.value
        self.held += 1
        return self._status("cuDevicePrimaryCtxRetain")

    def cuDevicePrimaryCtxRelease_v2(self, device):  # noqa: N802
        self.held -= 1
        return 0

    def cuCtxPushCurrent_v2(self, context):  # noqa: N802
        self.stack.append(context.value)
        return self._status("cuCtxPushCurrent")

    def cuCtxPopCurrent_v2(self, context):  # noqa: N802
        self.stack.pop()
        return 0

    def cuMemGetInfo_v2(self, free, total):  # noqa: N802
        free._obj.value = self.free[self.stack[-1] - 100]
        return self._status("cuMemGetInfo")
