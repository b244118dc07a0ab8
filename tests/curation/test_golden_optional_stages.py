"""What the stages of held-out splits and takedown make of the fixed documents; see tests/golden_stages.py."""

from __future__ import annotations

from pathlib import Path

from olmo_core.workers import Workers
from tests.golden_stages import build_stages, digests

GOLDEN: dict[str, tuple[int, str]] = {
    "splits/all": (1, "f2074708e4643127"),
    "takedown-list/all": (1, "8b060f3c201c812b"),
    "takedown/web": (2, "0348390bf7539783"),
    "takedown/books": (2, "6ad40681fb417024"),
    "takedown-copies/web": (1, "5851223d4d1349a8"),
    "takedown-copies/books": (1, "28b926b8ba8e5e79"),
}
"""Version and digest. An output that changes needs another VERSION in the stage's module, and then another line here."""


def test_output_changes_only_with_the_version(tmp_path: Path, workers: Workers) -> None:
    listed = tmp_path / "list.txt"
    listed.write_text("web/train\nbooks/moon\nhttps://example.org/bread/\nnowhere\n")
    manifests = build_stages(
        tmp_path,
        workers,
        held_out=[{"name": "validation", "fraction": 0.05}, {"name": "test", "fraction": 0.05}],
        takedown={"paths": [str(listed)]},
    )
    assert manifests["takedown-copies/web"].counts["found"] == {"id": 1, "url": 1, "copy": 1, "near_copy": 2}
    splits = manifests["splits/all"].counts["splits"]
    assert splits["train"]["documents"] and splits["validation"]["documents"] + splits["test"]["documents"]
    found = {
        label: (one["version"], one["digest"][:16])
        for label, one in digests(manifests).items()
        if label.startswith(("takedown", "splits"))
    }
    assert found == GOLDEN
