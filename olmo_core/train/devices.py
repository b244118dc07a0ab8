"""The peak speed of a device in matrix products, for the model FLOPs utilisation (MFU); none for one that is not here.

A device is recognised by its whole name and the number of its processors, so that one that was cut down (MIG) or that
has a similar name (an H200 beside an H100, a PCIe card beside a module) never gets another's number: an unknown device
gives None, and the MFU is then null rather than wrong.

Numbers: dense bfloat16 with float32 sums, from the makers' data sheets (half of what they state "with sparsity"). A
MI250X is two devices to torch, so each has half of the card.
"""

from __future__ import annotations

_AMPERE, _HOPPER = 312e12, 989.5e12

_PEAKS: dict[str, tuple[float, int | None]] = {
    "NVIDIA A100-SXM4-40GB": (_AMPERE, 108),
    "NVIDIA A100-SXM4-80GB": (_AMPERE, 108),
    "NVIDIA A100-PCIE-40GB": (_AMPERE, 108),
    "NVIDIA A100 80GB PCIe": (_AMPERE, 108),
    "NVIDIA H100 80GB HBM3": (_HOPPER, 132),
    "NVIDIA H100 PCIe": (756.5e12, 114),
    "NVIDIA H100 NVL": (835.5e12, 132),
    "NVIDIA H200": (_HOPPER, 132),
    "NVIDIA H200 NVL": (835.5e12, 132),
    "NVIDIA GH200 120GB": (_HOPPER, 132),
    "NVIDIA GH200 480GB": (_HOPPER, 132),
    "NVIDIA B200": (2250e12, 148),
    "NVIDIA GB200": (2500e12, 152),
    "NVIDIA L40S": (362.05e12, 142),
    "NVIDIA A10": (125e12, 72),
    "NVIDIA GeForce RTX 4090": (165.2e12, 128),
    "NVIDIA GeForce RTX 3090": (71e12, 82),
    "AMD Instinct MI250X": (191.5e12, 110),
    "AMD Instinct MI300X": (1307.4e12, 304),
    "AMD Instinct MI325X": (1307.4e12, 304),
}


def peak_flops(name: str, processors: int | None = None) -> float | None:
    """Return floating-point operations per second of a device in bfloat16 matrix products; None where it is not known.

    `name` as torch gives it (`torch.cuda.get_device_properties(0).name`), `processors` its `multi_processor_count`;
    None leaves them unchecked.
    """
    peak, expected = _PEAKS.get(name, (None, None))
    if processors is not None and expected is not None and processors != expected:
        return None
    return peak


def utilisation(flops_per_token: float, tokens_per_second: float, peak: float | None) -> float | None:
    """Return the MFU of one device: operations that the model needs, over those that the device could have done.

    `flops_per_token` by ModelRecipe.flops_per_token: what is computed a second time (recompute) does not count.
    """
    return None if not peak else flops_per_token * tokens_per_second / peak
