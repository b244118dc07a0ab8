"""Names of models: patterns and lists, Hugging Face folders, what means nothing; and one model evaluated from its name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from olmo_core.errors import AssetError, InputError, RecipeError
from olmo_core.evaluation import targets as module
from olmo_core.evaluation.compare import read_evaluation
from olmo_core.evaluation.reporting import build_report, labels_of, series
from olmo_core.evaluation.resources import ScoringResources
from olmo_core.evaluation.run import evaluate
from olmo_core.evaluation.targets import encoder_of, find_targets, subject_of
from olmo_core.recipe import canonical
from tests.evaluation.places import Place, place


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return place(tmp_path_factory.mktemp("place"))


def labels(here: Place, *models: str) -> list[str]:
    return [one.label for one in find_targets(here.store, models)]


STEPS = ["step0-tokens0B", "step10-tokens0B", "step20-tokens0B"]


def test_tags_lists_and_patterns_name_checkpoints_each_once_and_by_step(here: Place) -> None:
    assert labels(here, "checkpoint/toy") == STEPS[-1:]
    assert labels(here, "checkpoint/toy@step*") == STEPS
    assert labels(here, "checkpoint/toy@step[12]*") == STEPS[1:]
    assert labels(here, "checkpoint/toy@*") == STEPS, "`latest` is one of them"
    assert labels(here, "checkpoint/toy@step20-tokens0B", "checkpoint/toy@step0-tokens0B", "checkpoint/toy") == [
        STEPS[2],
        STEPS[0],
    ]
    (one,) = find_targets(here.store, ["checkpoint/toy"])
    assert one.checkpoint is not None
    assert labels(here, f"checkpoint/toy/{one.checkpoint.fingerprint[:8]}") == STEPS[-1:]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("checkpoint/toy@epoch*", "its tags: latest, step0-tokens0B"),
        ("checkpoint/tiny", "there is no checkpoint/tiny"),
        ("tokens/toy", "is of kind tokens"),
        ("nowhere", r"names no model.*in this store: checkpoint/toy.*owner/name"),
    ],
)
def test_a_name_that_means_nothing_is_told(here: Place, name: str, said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        find_targets(here.store, [name])


def test_weights_are_known_by_their_bytes(here: Place) -> None:
    targets = find_targets(here.store, ["checkpoint/toy@step*"])
    encoder = encoder_of(here.store, targets[0], str(here.tokenizer))
    found = {subject_of(here.store, one, encoder).weights for one in targets}
    assert len(found) == 3
    assert subject_of(here.store, targets[1], encoder) == subject_of(here.store, targets[1], encoder)


def test_a_tokenizer_that_the_model_has_no_rows_for_is_refused(here: Place, tmp_path: Path) -> None:
    wide = json.loads(here.tokenizer.read_text())
    wide["model"]["vocab"]["many"] = 300
    (tmp_path / "wide.json").write_text(json.dumps(wide))
    (target,) = find_targets(here.store, ["checkpoint/toy"])
    with pytest.raises(InputError, match="ids up to 300, the model step20-tokens0B up to 259"):
        encoder_of(here.store, target, str(tmp_path / "wide.json"))


def test_checkpoints_are_evaluated_tagged_and_found_again(here: Place, tmp_path: Path) -> None:
    resources = ScoringResources(device="cpu", tokenizer=str(here.tokenizer), scores=str(tmp_path / "scores"))
    told: list[tuple[str, int, int]] = []
    targets = find_targets(here.store, ["checkpoint/toy@step*"])
    made = [
        evaluate(here.store, here.recipe, one, resources, progress=lambda *news: told.append(news)) for one in targets
    ]
    assert [one.reused for one in made] == [False] * 3
    assert told[-1] == ("texts-domains", 38, 38), "24 documents, of which 14 are longer than the context"
    assert all(evaluate(here.store, here.recipe, one, resources).reused for one in targets)
    tags = here.store.tags("evaluation", "toy-texts")
    assert tags == {**dict(zip(STEPS, (one.ref for one in made), strict=True)), "latest": made[-1].ref}
    bits = [read_evaluation(here.store, one.manifest).results["texts-domains"]["bits_per_byte"] for one in made]
    assert len(set(bits)) == 3
    manifests = series(here.store, "toy-texts")
    assert [m.ref for m in manifests] == [one.ref for one in made]
    assert labels_of(here.store, manifests) == ["step 0", "step 10", "step 20"]
    report = build_report(here.store, [m.ref for m in manifests], labels_of(here.store, manifests))
    assert set(canonical(report.manifest.recipe)) == {"title", "labels"}
    page = here.store.storage.read(report.manifest.object("report.html").path).decode()
    assert "step 10" in page and "Bits per byte" in page and "blogs" in page


def test_a_hugging_face_folder_is_evaluated_too(here: Place, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.OlmoConfig(
        vocab_size=260, hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=128, eos_token_id=256, pad_token_id=0,
    )  # fmt: skip
    folder = tmp_path / "A Model"
    transformers.OlmoForCausalLM(config).save_pretrained(folder)
    (target,) = find_targets(here.store, [str(folder)])
    assert (target.label, target.tag) == ("a-model", None)
    with pytest.raises(AssetError, match=r"no tokenizer\.json"):
        encoder_of(here.store, target)
    (folder / "tokenizer.json").write_bytes(here.tokenizer.read_bytes())
    built = evaluate(here.store, here.recipe, target, ScoringResources(device="cpu", scores=str(tmp_path / "scores")))
    assert built.ref.name == "a-model-texts"
    found = read_evaluation(here.store, built.manifest).results["texts-domains"]
    assert found["failed"] == 0 and 2 < found["bits_per_byte"] < 20
    encoder = encoder_of(here.store, target)
    before = subject_of(here.store, target, encoder)
    assert encoder.start == encoder.end_of_text
    (folder / "tokenizer_config.json").write_text('{"bos_token": {"content": "a"}}')
    begun = encoder_of(here.store, target)
    assert begun.start == begun.encode(["a"])[0][0] != begun.end_of_text
    (folder / "tokenizer_config.json").unlink()
    (folder / "generation_config.json").write_text('{"eos_token_id": 7}')
    assert subject_of(here.store, target, encoder) != before, "another token stands before each document now"
    for path in folder.glob("*.safetensors"):
        path.unlink()
    with pytest.raises(InputError, match="no weights"):
        subject_of(here.store, target, encoder_of(here.store, target))


def test_folders_of_one_name_are_told_apart_and_hub_ids_stay_known(
    here: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for parent in ("a", "b", "0123abcd"):
        (tmp_path / parent / "final").mkdir(parents=True)
        (tmp_path / parent / "final" / "config.json").write_text("{}")
    a, b = find_targets(here.store, [str(tmp_path / "a" / "final"), str(tmp_path / "b" / "final")])
    assert a.label != b.label and a.label.startswith("final-") and (a.name, a.hub) == ("final", None)
    monkeypatch.setattr(module, "_downloaded", lambda name: tmp_path / "0123abcd" / "final")
    (one,) = find_targets(here.store, ["owner/model"])
    assert (one.name, one.hub) == ("owner-model", "owner/model"), "not the name of the snapshot's folder"
