"""A stage whose output changes has another version, or artifacts of the old code would be taken for those of the new."""

from __future__ import annotations

import json

import pytest

from olmo_core.artifacts.manifest import Manifest
from olmo_core.workers import Workers
from tests.golden_stages import GOLDEN, MODULES, build_stages, digests

UPDATE = "update the golden file with `python -m tests.golden_stages`"


@pytest.fixture(scope="module")
def manifests(tmp_path_factory: pytest.TempPathFactory, workers: Workers) -> dict[str, Manifest]:
    """The chain over the fixed documents."""
    return build_stages(tmp_path_factory.mktemp("golden"), workers)


def test_output_changes_only_with_the_version(manifests: dict[str, Manifest]) -> None:
    found, golden = digests(manifests), json.loads(GOLDEN.read_text())
    assert list(found) == list(golden), f"other stages than in {GOLDEN.name}: {UPDATE}"
    for label, now in found.items():
        if now == golden[label]:
            continue
        stage = label.split("/")[0]
        if now["version"] == golden[label]["version"]:
            pytest.fail(f"output of stage {stage} changed without a version bump: raise {MODULES[stage]} and {UPDATE}")
        pytest.fail(
            f"stage {stage} has version {now['version']}, the golden file knows {golden[label]['version']}: {UPDATE}"
        )


def test_the_fixed_documents_reach_every_branch(manifests: dict[str, Manifest]) -> None:
    """A digest can only guard what happens."""
    ledgers = {label: manifest.ledger for label, manifest in manifests.items()}
    assert set(ledgers["selection/web"].dropped) == {"language", "too_few_words", "symbols", "personal_data"}
    assert set(ledgers["near-duplicates/all"].dropped) == {"exact_duplicate", "near_duplicate"}
    assert ledgers["mixing/all"].repeated.documents > 0
    assert all(manifests["mixing/all"].counts["masked"].values())
    assert len(manifests["packing/all"].shards) > 1
    assert manifests["quality/web"].counts["below_floor"] > 0
    assert manifests.keys() == {f"{stage}/{source}" for stage in list(MODULES)[:8] for source in ("web", "books")} | {
        f"{stage}/all" for stage in list(MODULES)[8:]
    }
