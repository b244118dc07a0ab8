"""Lineage as text, JSON, DOT and SVG, back to source files and forward to the steps that saw a document."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from flows.command import main
from olmo_core.artifacts import graph
from olmo_core.artifacts.ref import ArtifactRef, Kind
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.errors import IntegrityError
from olmo_core.report.lineage import APART, arrange, svg
from olmo_core.train.inspection import Inspection, seen_by
from tests.report.test_browse import many
from tests.report.whole_store import Whole


def olmo(capsys: pytest.CaptureFixture[str], whole: Whole, *words: str) -> str:
    assert main.main(["artifacts", "lineage", *words, "--store", whole.store.uri]) == 0
    return capsys.readouterr().out


def test_from_an_evaluation_back_to_the_files(whole: Whole, capsys: pytest.CaptureFixture[str]) -> None:
    said = olmo(capsys, whole, str(whole.evaluations[-1]), "--files")
    lines = said.splitlines()
    assert lines[0].startswith(str(whole.evaluations[-1])) and "checkpoint: checkpoint/toy/" in lines[1]
    assert re.search(
        r"inventory: inventory/web/\w+  \(inventory, .*\)\n *file \S+  [\d,]+ bytes, sha256 [0-9a-f]{16}", said
    )
    told = json.loads(olmo(capsys, whole, str(whole.evaluations[-1]), "--files", "--format", "json"))
    tree = [line for line in lines if not line.lstrip().startswith("file ")]
    assert len(tree) == len(told["edges"]) + 1, "every input of every artifact has its line"
    again = [line for line in tree if line.endswith("  (above)")]
    assert len(tree) - len(again) == len(told["nodes"]) and again
    for line in again:
        ref = line.split()[-2]
        assert ref in said[: said.index(line)], "it is told further up"
    assert [n["artifact"] for n in told["nodes"] if n["asked"]] == [str(whole.evaluations[-1])]
    assert {e["from"] for e in told["edges"]} | {e["to"] for e in told["edges"]} == {
        n["artifact"] for n in told["nodes"]
    }
    assert len(told["files"]) == 2


def test_graphs_as_files(whole: Whole, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for ending, begins in (
        ("svg", "<svg "),
        ("dot", "digraph lineage {"),
        ("json", "{"),
        ("txt", str(whole.checkpoints[1])),
    ):
        file = tmp_path / f"x.{ending}"
        assert "artifacts" in olmo(capsys, whole, str(whole.checkpoints[1]), "--both", "--to", str(file))
        assert file.read_text().startswith(begins)
    root = ElementTree.parse(tmp_path / "x.svg").getroot()
    assert len(root.findall(".//{http://www.w3.org/2000/svg}rect")) > 10
    assert f'"{whole.evaluations[1].address}"' in (tmp_path / "x.dot").read_text()
    assert main.main(["artifacts", "lineage", str(whole.run), "--to", "x.pdf", "--store", whole.store.uri]) == 2


def test_forward_from_a_document_to_the_steps_that_saw_it(whole: Whole, capsys: pytest.CaptureFixture[str]) -> None:
    last = whole.store.manifest(whole.checkpoints[2])
    piece = next(p for p in Inspection(whole.store, last).step(5) if p.copy == 0)
    document = f"{piece.source}/{piece.id}"
    saw = seen_by(whole.store, [whole.store.manifest(one) for one in whole.checkpoints], [document])
    steps = saw[whole.checkpoints[2]][document]
    assert 5 in steps and saw[whole.checkpoints[0]][document] == []
    assert saw[whole.checkpoints[1]][document] == [step for step in steps if step <= 3]
    told = json.loads(olmo(capsys, whole, "--document", document, "--json"))
    by_artifact = {one["artifact"]: one for one in told["artifacts"]}
    assert by_artifact[str(whole.checkpoints[2])]["seen_at_steps"] == {document: steps}
    said = olmo(capsys, whole, "--document", document)
    assert "seen at step" in said and "not seen up to this step" in said
    drawn = olmo(capsys, whole, "--document", document, "--format", "dot")
    assert whole.evaluations[2].address in drawn and "inventory/" not in drawn


def test_many_artifacts_of_a_stage_are_one_box_and_no_edge_says_what_others_say() -> None:
    store = ArtifactStore("memory://drawn")
    many(store, APART + 20)
    every = graph.known(store)
    last = max(every, key=lambda ref: len(graph.trace(every, [ref]).nodes))
    drawing = arrange(graph.trace(every, [last]))
    assert len(drawing.boxes) == APART + 20 and len(drawing.edges) == len(drawing.boxes) - 1, (
        "a chain has no boxes side by side"
    )
    ref = ArtifactRef(kind=Kind.CORPUS, name="x", fingerprint="0" * 64)

    class Made:
        stage, ended = "mixing", ""

    wide = Made()
    wide.ref, wide.inputs = ref, {f"r{n}": one for n, one in enumerate(every)}  # type: ignore[attr-defined]
    alone = {one: type("Alone", (), {"ref": one, "stage": "tag", "ended": "", "inputs": {}})() for one in every}
    drawing = arrange(graph.trace({**alone, ref: wide}, [ref]))  # type: ignore[dict-item]
    assert [box.subtitle for box, _, _ in drawing.boxes] == [f"{APART + 20} × attributes", "corpus/x"]
    assert "<script" not in svg(graph.trace({**alone, ref: wide}, [ref]))  # type: ignore[dict-item]


def test_a_circle_is_an_error_and_not_a_hang() -> None:
    with pytest.raises(IntegrityError, match="made from itself"):
        graph.layers(["a", "b", "c"], [("a", "b"), ("b", "c"), ("c", "b")])
    assert graph.layers(["a", "b", "c"], [("a", "b"), ("a", "c"), ("b", "c")]) == {"a": 0, "b": 1, "c": 2}
