"""`python -m olmo_core.train.bench`: it runs anywhere, needs little, and gives no MFU for a device it does not know."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from olmo_core.model.config import preset
from olmo_core.train.bench import parse, shape

ROOT = Path(__file__).resolve().parents[2]
_ONLY = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in {missing!r}:
            raise ImportError(name + ' is not there')
sys.meta_path.insert(0, Missing())
from olmo_core.train.bench import main
sys.exit(main({arguments!r}))
"""
_MISSING = (
    "pyarrow",
    "yaml",
    "fsspec",
    "safetensors",
    "numba",
    "tokenizers",
    "transformers",
    "prefect",
    "pydantic",
    "boto3",
)


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run it where there is nothing but torch and numpy."""
    code = _ONLY.format(missing=_MISSING, arguments=list(arguments))
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)


@pytest.mark.slow
def test_tiny_with_torch_and_numpy_alone(tmp_path: Path) -> None:
    out = tmp_path / "bench.json"
    done = bench("--model", "tiny", "--device", "cpu", "--steps", "2", "--sequence", "64", "--out", str(out))
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert json.loads(out.read_text()) == found
    (one,) = found["models"]
    assert (one["sequence_length"], one["steps"], one["precision"]) == (64, 2, "bfloat16")
    assert one["mfu"] is None and one["peak_flops"] is None
    assert one["flops_per_token"] == preset("tiny").flops_per_token(64)
    assert one["tokens_per_second_per_device"] > 0
    assert one["peak_memory_bytes"] > 16 * preset("tiny").parameters
    assert 0 <= one["loader_wait_share"] < 1
    assert len(one["losses"]) == 3 and all(10 < loss < 13 for loss in one["losses"])
    assert "causal half" in found["mfu_formula"]


@pytest.mark.slow
def test_a_gpu_that_is_not_there_is_said() -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    done = bench("--device", "cuda")
    assert done.returncode == 1 and "sees no GPU" in done.stderr and not done.stdout


def test_published_shapes_are_the_default() -> None:
    options = parse([])
    assert options.model == ["1b", "7b"]
    one, seven = (shape(name, options, cuda=True) for name in options.model)
    assert (one.sequence_length, one.micro_batch, one.precision, one.compile) == (2048, 32, "bfloat16", True)
    assert (seven.micro_batch, seven.recompute) == (8, "cheap")
    assert shape("tiny", options, cuda=False).sequence_length == 256
