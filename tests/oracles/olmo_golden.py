"""Write the golden values of OLMo's own data loader and schedules.

    python tests/oracles/olmo_golden.py [--out tests/train/golden] [--olmo DIR]

OLMo (ai2-olmo 0.6.0 from PyPI, 145 MB, Apache-2.0) is unpacked into a folder and never installed: its requirements bring
another package named `olmo_core`. `olmo_values.py` runs its code there in a subprocess, with torch and numpy of this
environment and stubs for the rest. The golden files hold numbers only:

    olmo_data.json       {"orders": [{"batches", "first", "sha256"}], "chunks": {...}, "repetitions": ["0110..."]}
    olmo_schedules.json  {name: {"steps", "tokens", "sha256", "block_sums", "rates", "first_norm", "norm_changes"}}

`olmo_settings.py` says what each is of.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
VERSION = "0.6.0"


def unpacked(folder: Path) -> Path:
    """Return the folder that holds OLMo's package, downloading it when it is missing."""
    if not (folder / "READY").exists():
        folder.mkdir(parents=True, exist_ok=True)
        download = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "-q",
            "--no-deps",
            f"ai2-olmo=={VERSION}",
            "-d",
            str(folder),
        ]
        subprocess.run(download, check=True)
        with zipfile.ZipFile(next(folder.glob("ai2_olmo-*.whl"))) as wheel:
            wheel.extractall(folder, [name for name in wheel.namelist() if name.startswith("olmo/")])
        (folder / "READY").touch()
    return folder


def main() -> None:
    """Write both files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--out", type=Path, default=HERE.parent / "train" / "golden")
    parser.add_argument("--olmo", type=Path, default=Path(tempfile.gettempdir()) / f"oracle-olmo-{VERSION}")
    chosen = parser.parse_args()
    command = [sys.executable, str(HERE / "olmo_values.py"), str(unpacked(chosen.olmo))]
    answer = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    chosen.out.mkdir(parents=True, exist_ok=True)
    schedules = answer.pop("schedules")
    for name, values in (("olmo_data", answer), ("olmo_schedules", schedules)):
        text = json.dumps({"olmo": VERSION, **values}, separators=(",", ":"))
        (chosen.out / f"{name}.json").write_text(text.replace('},"', '},\n"').replace("},{", "},\n{") + "\n")


if __name__ == "__main__":
    main()
