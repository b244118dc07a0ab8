"""Nothing that is read from a store, a source or a model's folder is unpickled: a pickle in its place is an error and is not run."""

from __future__ import annotations

import ast
import json
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from olmo_core.artifacts.store import ArtifactStore
from olmo_core.curation.fasttext_format import read_model
from olmo_core.errors import OlmoError
from olmo_core.evaluation.encoder import Encoder
from olmo_core.evaluation.resources import ScoringResources
from olmo_core.evaluation.run import _hugging_face, evaluate
from olmo_core.evaluation.targets import find_targets, subject_of
from olmo_core.model.hugging_face_files import WeightFiles
from olmo_core.train.checkpoint_format import INDEX
from olmo_core.train.checkpoint_read import read_index
from olmo_core.train.run_file import RunFile
from olmo_core.train.session import train
from tests.evaluation.places import BYTES, Place, place
from tests.pickles import is_pickle, marking, pickles, torch_like
from tests.train.tiny_run import tiny_run

ROOT = Path(__file__).resolve().parents[1]
MODULES = {"pickle", "_pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve", "jsonpickle"}
CALLS = {
    "torch.load": "it unpickles; checkpoints are safetensors (olmo_core/train/checkpoint_read.py)",
    "torch.jit.load": "it runs a program",
    "torch.hub.load": "it runs a program",
    "yaml.load": "safe_load",
    "yaml.unsafe_load": "safe_load",
    "yaml.full_load": "safe_load",
    "pd.read_pickle": "it unpickles",
    "pandas.read_pickle": "it unpickles",
}
WANTED = {"allow_pickle": False, "trust_remote_code": False, "use_safetensors": True, "weights_only": True}
PRETRAINED = {"AutoModelForCausalLM": {"trust_remote_code", "use_safetensors"}, "AutoConfig": {"trust_remote_code"}}


def calls(path: Path) -> Iterator[tuple[ast.AST, str]]:
    """Each import and call of a file, with what is wrong in it ('' where nothing is)."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            yield from ((node, f"imports {name}") for name in names if name.split(".")[0] in MODULES)
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            given = {one.arg: one.value for one in node.keywords if one.arg}
            if name in CALLS:
                yield node, f"{name}: {CALLS[name]}"
            if name in ("np.load", "numpy.load") and "allow_pickle" not in given:
                yield node, f"{name} without allow_pickle=False"
            if name in ("eval", "exec"):
                yield node, f"{name} of a text"
            for argument, value in given.items():
                if argument in WANTED and not (isinstance(value, ast.Constant) and value.value is WANTED[argument]):
                    yield node, f"{argument} is not {WANTED[argument]}"
            if name.endswith(".from_pretrained"):
                wanted = next((words for kind, words in PRETRAINED.items() if kind in name), {"trust_remote_code"})
                yield from ((node, f"{name} without {one}") for one in sorted(wanted - set(given)))


def test_the_source_unpickles_nothing() -> None:
    """Prefect's results are covered too: every flow and task says that nothing is persisted."""
    wrong = [
        f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)} {what}"
        for top in ("olmo_core", "tasks", "flows")
        for path in sorted((ROOT / top).rglob("*.py"))
        for node, what in calls(path)
    ]
    assert not wrong
    silent = []
    for top in ("tasks", "flows"):
        for path in sorted((ROOT / top).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                for one in getattr(node, "decorator_list", []):
                    if ast.unparse(one).split("(")[0] in ("task", "flow") and "persist_result=False" not in ast.unparse(
                        one
                    ):
                        silent.append(f"{path.relative_to(ROOT)}:{one.lineno}")
    assert not silent, "persist_result=False is missing"


@pytest.mark.parametrize(
    "line",
    [
        "import pickle", "from cloudpickle import loads", "torch.load(path, weights_only=True)", "yaml.load(text)",
        "np.load(path)", "np.load(path, allow_pickle=True)", "AutoModelForCausalLM.from_pretrained(f, trust_remote_code=False)",
        "x.AutoConfig.from_pretrained(f, trust_remote_code=given)", "eval(text)",
    ],
)  # fmt: skip
def test_the_rule_sees(line: str, tmp_path: Path) -> None:
    (tmp_path / "x.py").write_text(line)
    assert list(calls(tmp_path / "x.py"))


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return place(tmp_path_factory.mktemp("place"))


@pytest.fixture
def mark(tmp_path: Path) -> Iterator[Path]:
    """A file that a pickle of this test would make; that reading it makes the file is seen first."""
    proof = tmp_path / "proof"
    pickle.loads(marking(proof))
    assert proof.exists() and is_pickle(marking(proof)) and is_pickle(torch_like(proof))
    yield tmp_path / "mark"
    assert not (tmp_path / "mark").exists(), "it was run"


def test_a_store_after_training_and_evaluation_holds_no_pickle(here: Place) -> None:
    (target,) = find_targets(here.store, ["checkpoint/toy"])
    folder = here.texts.parent
    resources = ScoringResources(device="cpu", tokenizer=str(here.tokenizer), scores=str(folder / "scores"))
    evaluate(here.store, here.recipe, target, resources)
    assert len(list(folder.rglob("*.safetensors"))) >= 3 and len(list(folder.rglob("*.scores"))) == 1
    assert pickles(folder) == []


def copied(here: Place, tmp_path: Path) -> tuple[ArtifactStore, RunFile]:
    """A run of its own, trained to the middle, that may be spoiled."""
    run = tiny_run(tmp_path, steps=20, model=BYTES)
    return ArtifactStore(run.store), run


def test_a_pickle_for_a_checkpoint_or_its_tokens_is_refused(here: Place, tmp_path: Path, mark: Path) -> None:
    """By training, evaluation and reading, each object of it: slices, index, manifest, token files."""
    store, run = copied(here, tmp_path)
    train(run)
    manifest = store.manifest(store.resolve("checkpoint/toy"))
    root = Path(run.store)
    resources = ScoringResources(device="cpu", tokenizer=str(here.tokenizer), scores=str(tmp_path / "scores"))
    (target,) = find_targets(store, ["checkpoint/toy"])
    for one in manifest.objects:
        path = root / one.path
        raw = path.read_bytes()
        for bad in (marking(mark), torch_like(mark)):
            path.unlink()
            path.write_bytes(bad)
            if one.path == manifest.object(INDEX).path:
                with pytest.raises(OlmoError, match="damaged|sha256"):
                    read_index(store, manifest)
            with pytest.raises(OlmoError, match="damaged|sha256"):
                evaluate(store, here.recipe, target, resources)
        path.write_bytes(raw)
    tokens = store.manifest(store.resolve("tokens/toy"))
    for one in tokens.objects:
        (root / one.path).unlink()
        (root / one.path).write_bytes(marking(mark))
    again = tiny_run(tmp_path / "again", steps=24, model=BYTES)
    spoiled = RunFile(**{**vars(again), "store": run.store, "tokens": tokens.ref})
    with pytest.raises(OlmoError):
        train(spoiled)
    where = root / manifest.ref.manifest_path
    where.unlink()
    where.write_bytes(marking(mark))
    with pytest.raises(OlmoError, match="manifest"):
        ArtifactStore(run.store).manifest(manifest.ref)


READERS: dict[str, Callable[[Path], object]] = {
    "model.bin": read_model,
    "tokenizer.json": lambda path: Encoder(path),
    "config.json": lambda path: (
        find_targets(ArtifactStore(str(path.parent / "s")), [str(path.parent)]) and _weights(path.parent)
    ),
    "model.safetensors": lambda path: WeightFiles(path.parent)("model.norm.weight"),
    "model.safetensors.index.json": lambda path: WeightFiles(path.parent),
}


def _weights(folder: Path) -> object:
    return _hugging_face(str(folder), torch.device("cpu"), torch.float32)


@pytest.mark.parametrize("name", sorted(READERS))
def test_a_pickle_for_a_models_file_is_refused(tmp_path: Path, mark: Path, name: str) -> None:
    path = tmp_path / "model" / name
    path.parent.mkdir()
    path.write_bytes(marking(mark))
    with pytest.raises(OlmoError):
        READERS[name](path)


def test_hugging_face_models_that_are_pickles_or_programs_are_refused(here: Place, tmp_path: Path, mark: Path) -> None:
    """pytorch_model.bin, and a folder whose config.json names a program of its own."""
    transformers = pytest.importorskip("transformers")
    config = transformers.OlmoConfig(
        vocab_size=260, hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=2, eos_token_id=256
    )  # fmt: skip
    folder = tmp_path / "pickled"
    config.save_pretrained(folder)
    (folder / "pytorch_model.bin").write_bytes(torch_like(mark))
    (target,) = find_targets(here.store, [str(folder)])
    with pytest.raises(OlmoError, match=r"pytorch_model\.bin is a pickle, and reading one runs what it says"):
        subject_of(here.store, target, Encoder(here.tokenizer))
    with pytest.raises(OlmoError, match="cannot load it"):
        _weights(folder)

    folder = tmp_path / "program"
    folder.mkdir()
    own = {"model_type": "its-own", "auto_map": {"AutoConfig": "own.C", "AutoModelForCausalLM": "own.M"}}
    (folder / "config.json").write_text(json.dumps(own))
    (folder / "own.py").write_text(f"import pathlib\npathlib.Path({str(mark)!r}).touch()\n")
    (folder / "model.safetensors").write_bytes(b"")
    with pytest.raises(OlmoError, match="cannot load it"):
        _weights(folder)


def test_a_pickle_among_scores_is_left_out(tmp_path: Path, mark: Path) -> None:
    """Scores are struct records with checksums; what is none is left out, and computed again."""
    from olmo_core.evaluation.score_cache import ScoreCache

    names = {"weights": "w", "tokenizer": "t", "dtype": "float32-cpu"}
    folder = ScoreCache(tmp_path, **names).folder
    folder.mkdir(parents=True)
    (folder / "1-a.scores").write_bytes(marking(mark))
    assert len(ScoreCache(tmp_path, **names)) == 0


def test_numpy_objects_are_seen(tmp_path: Path) -> None:
    """What `pickles` finds in numpy's files: objects, not numbers."""
    np.save(tmp_path / "numbers.npy", np.arange(3))
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object))
    np.savez(tmp_path / "both.npz", a=np.array([{}], dtype=object))
    torch.save(torch.ones(2), tmp_path / "torch.pt")
    assert [Path(one).name for one in pickles(tmp_path)] == ["both.npz", "objects.npy", "torch.pt"]
