"""Energy that a run uses, where the machine has a meter: GPUs by NVML, processor packages by RAPL.

NVML is asked for each GPU's own counter of millijoules (Volta and later), through the driver's library itself: no
package is needed. RAPL's counters (`/sys/class/powercap/intel-rapl:N`, Intel and AMD) are of whole packages, whoever
works on them, and are usually readable by root only. Without a meter there is no number, never an estimate; cooling,
memory and network are in none of them.
"""

from __future__ import annotations

import ctypes
import logging
from pathlib import Path

import torch

log = logging.getLogger(__name__)

_RAPL = Path("/sys/class/powercap")
JOULES_PER_KWH = 3.6e6


class Gpu:
    """The meter of one GPU."""

    def __init__(self, library: ctypes.CDLL, handle: ctypes.c_void_p) -> None:
        self._library, self._handle = library, handle

    def millijoules(self) -> int:
        """Return the counter; raises OSError when the driver does not tell."""
        value = ctypes.c_ulonglong()
        _check(self._library.nvmlDeviceGetTotalEnergyConsumption(self._handle, ctypes.byref(value)), "total energy")
        return int(value.value)

    @classmethod
    def find(cls, device: torch.device) -> Gpu | None:
        """Return the meter of a torch device, None where there is none."""
        try:
            library = ctypes.CDLL("libnvidia-ml.so.1")
            _check(library.nvmlInit_v2(), "start")
            handle = ctypes.c_void_p()
            uuid = f"GPU-{torch.cuda.get_device_properties(device).uuid}".encode()
            _check(library.nvmlDeviceGetHandleByUUID(uuid, ctypes.byref(handle)), "find the device")
            meter = cls(library, handle)
            meter.millijoules()
        except (OSError, AttributeError, RuntimeError) as error:
            log.info("no energy of %s: %s", device, error)
            return None
        return meter


class Packages:
    """The meters of this machine's processor packages, whose counters run over."""

    def __init__(self, folders: list[Path]) -> None:
        self._folders = folders
        self._ranges = [int((one / "max_energy_range_uj").read_text()) for one in folders]
        self._last = self._read()
        self._total = 0

    def millijoules(self) -> int:
        """Return what was used since this object was made. Ask at least once an hour: a counter runs over in about one."""
        now = self._read()
        self._total += sum((b - a) % (size + 1) for a, b, size in zip(self._last, now, self._ranges, strict=True))
        self._last = now
        return self._total // 1000

    def _read(self) -> list[int]:
        return [int((one / "energy_uj").read_text()) for one in self._folders]

    @classmethod
    def find(cls, root: Path = _RAPL) -> Packages | None:
        """Return the meters of all packages, None where there is none that this process may read."""
        folders = [one for one in sorted(root.glob("intel-rapl:*")) if one.name.count(":") == 1]
        folders = [one for one in folders if _is_package(one)]
        try:
            return cls(folders) if folders else None
        except (OSError, ValueError) as error:
            log.info("no energy of the processors: %s", error)
            return None


class EnergyMeter:
    """What this process measures: its GPU, and on the first process of a machine the processor packages."""

    def __init__(self, device: torch.device, local_rank: int) -> None:
        gpu = Gpu.find(device) if device.type == "cuda" else None
        packages = Packages.find() if local_rank == 0 else None
        self.gpu, self.packages = gpu is not None, packages is not None
        """What has a meter here."""
        self._meters: list[Gpu | Packages] = [one for one in (gpu, packages) if one is not None]
        self._last = [one.millijoules() for one in self._meters]

    def millijoules(self) -> int:
        """Return what was used since the last call, in millijoules; 0 without a meter."""
        now = [one.millijoules() for one in self._meters]
        used = sum(now) - sum(self._last)
        self._last = now
        return max(used, 0)

    def leave_out_packages(self) -> None:
        """Do not count the processors: another machine of the run cannot."""
        kept = [i for i, one in enumerate(self._meters) if isinstance(one, Gpu)]
        self._meters, self._last = [self._meters[i] for i in kept], [self._last[i] for i in kept]


def _is_package(folder: Path) -> bool:
    try:
        return (folder / "name").read_text().startswith("package")
    except OSError:
        return False


def _check(code: int, what: str) -> None:
    if code:
        raise OSError(f"NVML gives code {code} when asked to {what}")
