"""Figures of a line: peaks of devices, energy counters, what is null rather than wrong."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from olmo_core.train.devices import peak_flops, utilisation
from olmo_core.train.energy import EnergyMeter, Packages
from olmo_core.train.metrics import Sums, perplexity
from olmo_core.train.progress import duration


@pytest.mark.parametrize(
    ("name", "processors", "peak"),
    [
        ("NVIDIA H200", 132, 989.5e12),  # OLMo-core 3.0.0 takes it for an A100
        ("NVIDIA H100 80GB HBM3", 132, 989.5e12),
        ("NVIDIA H100 PCIe", 114, 756.5e12),
        ("NVIDIA H100 NVL", None, 835.5e12),
        ("NVIDIA A100-SXM4-40GB", 108, 312e12),
        ("NVIDIA B200", 148, 2250e12),
        ("AMD Instinct MI250X", 110, 191.5e12),
        ("AMD Instinct MI300X", 304, 1307.4e12),
        ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", 16, None),
        ("NVIDIA H100 80GB HBM3", 60, None),
        ("NVIDIA H2000", None, None),
    ],
)
def test_peaks_are_of_exact_devices(name: str, processors: int | None, peak: float | None) -> None:
    assert peak_flops(name, processors) == peak


def test_utilisation() -> None:
    assert utilisation(7.46e9, 50_000, 989.5e12) == pytest.approx(0.377, abs=0.001)
    assert utilisation(7.46e9, 50_000, None) is None


def test_packages_are_counted_through_the_overflow_of_their_counters(tmp_path: Path) -> None:
    for name, kind, value in (("0", "package-0", 900), ("1", "package-1", 5), ("0:0", "core", 70), ("2", "psys", 1)):
        folder = tmp_path / f"intel-rapl:{name}"
        folder.mkdir()
        (folder / "name").write_text(f"{kind}\n")
        (folder / "max_energy_range_uj").write_text("999999\n")
        (folder / "energy_uj").write_text(f"{value * 1000}\n")
    found = Packages.find(tmp_path)
    assert found is not None
    (tmp_path / "intel-rapl:0" / "energy_uj").write_text("50000\n")  # 150 mJ on, over the end
    (tmp_path / "intel-rapl:1" / "energy_uj").write_text("25000\n")
    assert found.millijoules() == 170
    assert found.millijoules() == 170


def test_without_a_meter_there_is_no_number(tmp_path: Path) -> None:
    assert Packages.find(tmp_path) is None
    assert EnergyMeter(torch.device("cpu"), 1).millijoules() == 0


def test_steps_that_are_left_out_are_in_no_mean() -> None:
    sums = Sums(torch.device("cpu"))
    sums.add(torch.tensor([30.0, 1.0]).double(), 10, torch.tensor(2.0).double(), torch.tensor(False))
    sums.add(torch.tensor([math.nan, 0.0]).double(), 10, torch.tensor(math.nan).double(), torch.tensor(True))
    sums.add(torch.tensor([10.0, 3.0]).double(), 30, torch.tensor(3.0).double(), torch.tensor(False))
    read = sums.read(torch.tensor(5.0), torch.tensor([0, 0]))
    assert (read.loss, read.z_loss, read.targets, read.left_out) == (1.0, 0.1, 40, 1)
    assert (read.grad_norm, read.parameter_norm) == (3.0, 5.0)
    empty = sums.read(torch.tensor(5.0), torch.tensor([0, 0]))
    assert (empty.loss, empty.targets) == (None, 0)


def test_numbers_for_people() -> None:
    assert [duration(s) for s in (3.4, 200, 18_720, 270_000)] == ["3 s", "3 min 20 s", "5 h 12 min", "3 d 3 h"]
    assert perplexity(None) is None
    assert perplexity(1000.0) is None
    assert perplexity(0.0) == 1.0
