"""`olmo generate` and `olmo export hf` from a checkpoint in a store."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from flows.command.main import main
from olmo_core import assets
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.errors import AssetError
from olmo_core.model.config import ModelRecipe
from olmo_core.model.initialization import initialize
from olmo_core.model.transformer import Transformer
from olmo_core.train import fence
from olmo_core.train.checkpoint import Checkpointer
from olmo_core.train.recording import put_event
from olmo_core.train.run_record import put_run_file
from olmo_core.train.state import TrainState
from tests.train.tiny_run import tiny_run

PROMPT = "The whale, é\n"
MODEL = ModelRecipe(
    width=16, layers=2, heads=2, mlp_width=32, context=64, tied=True, initialization="normal", kv_heads=1
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Transformer]]:
    """A store with a checkpoint of a small model, and the model."""
    try:
        assets.fetch("olmo-tokenizer")
    except AssetError as error:
        pytest.skip(f"no tokenizer: {error}")
    folder = tmp_path_factory.mktemp("model")
    run = tiny_run(folder, model=MODEL)
    store = ArtifactStore(run.store)
    model = Transformer(MODEL)
    initialize(model, 5)
    optimizer = torch.optim.AdamW(model.parameters())
    checkpoints = Checkpointer(store, run, fence.claim(store, run.ref), model, optimizer)
    checkpoints.save(TrainState(step=0, tokens=0, next_batch=0, dataset="d"), wait=True)
    checkpoints.wait()
    put_run_file(store, run)
    put_event(
        store,
        run.ref,
        1,
        {"kind": "preempted", "message": "SIGTERM: saved step 0", "time": "2026-11-27T12:00:00+00:00"},
    )
    yield folder / "store", model


def test_text_streams_and_json_says_the_same(
    trained: tuple[Path, Transformer], capsys: pytest.CaptureFixture[str]
) -> None:
    store = str(trained[0])
    asked = ["generate", "toy", "--store", store, "--prompt", PROMPT, "--max-tokens", "20", "--temperature", "1"]
    assert main([*asked, "--top-p", "0.9", "--seed", "3"]) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith(PROMPT) and "taking olmo-tokenizer" in printed.err
    assert main([*asked, "--top-p", "0.9", "--seed", "3", "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert printed.out == PROMPT + found["text"] + "\n"
    assert found["stopped"] == "length" and len(found["tokens"]) == 20
    assert main([*asked, "--top-p", "0.9", "--seed", "4", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["tokens"] != found["tokens"]


def test_export_and_generate_as_transformers_does(
    trained: tuple[Path, Transformer], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store, folder = str(trained[0]), tmp_path / "hf"
    assert main(["export", "hf", "toy@latest", "--to", str(folder), "--store", store, "--json"]) == 0
    exported = json.loads(capsys.readouterr().out)
    assert exported["logit_difference"] < 1e-6 and exported["bytes"] == 4 * MODEL.parameters
    peer = AutoModelForCausalLM.from_pretrained(folder)
    for name, parameter in trained[1].named_parameters():
        if name == "embedding.weight":
            assert torch.equal(peer.model.embed_tokens.weight, parameter)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = tokenizer(PROMPT, return_tensors="pt")
    expected = peer.generate(**ids, max_new_tokens=15, do_sample=False)[0, ids["input_ids"].shape[1] :].tolist()
    for source in ("toy", str(folder)):
        assert main(["generate", source, "--store", store, "--prompt", PROMPT, "--max-tokens", "15", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)[0]["tokens"] == expected
    # An empty prompt: a text begins as those it was trained on do, after the end of another.
    start = torch.tensor([[MODEL.end_of_text_id]])
    expected = peer.generate(start, max_new_tokens=15, do_sample=False)[0, 1:].tolist()
    assert main(["generate", "toy", "--store", store, "--prompt", "", "--max-tokens", "15", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["tokens"] == expected


def test_several_prompts_and_standard_input(
    trained: tuple[Path, Transformer], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = ["generate", "toy", "--store", str(trained[0]), "--max-tokens", "5"]
    assert main([*asked, "--prompt", "One", "--prompt", "The second"]) == 0
    both = capsys.readouterr().out
    assert both.startswith("One") and "\n\nThe second" in both
    monkeypatch.setattr("sys.stdin", io.StringIO("One"))
    assert main(asked) == 0
    assert both.startswith(capsys.readouterr().out.rstrip("\n"))
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    assert main(asked) == 2
    shown = capsys.readouterr()
    assert "nothing came from standard input; give --prompt TEXT" in shown.err and not shown.out


def test_an_unfinished_run_is_told_with_its_last_checkpoint(
    trained: tuple[Path, Transformer], capsys: pytest.CaptureFixture[str]
) -> None:
    """By name and by the beginning of its fingerprint; a name without any run is nothing."""
    store = str(trained[0])
    (folder,) = (trained[0] / "run" / "toy").iterdir()
    for address in ("run/toy", "run/toy@latest", f"run/toy/{folder.name[:6]}"):
        assert main(["artifacts", "show", address, "--store", store]) == 1
        said = capsys.readouterr().err
        for word in ("is unfinished", "step 0: `olmo artifacts show checkpoint/toy/", "`olmo generate toy@step0-tokens0B`",
                     "preempted: SIGTERM: saved step 0", "goes on with the command that started it"):  # fmt: skip
            assert word in said, said
    for address in ("run/none", "run/toy@mine", "run/toy/000000"):
        assert main(["artifacts", "show", address, "--store", store]) == 1
        assert "unfinished" not in capsys.readouterr().err


def test_what_cannot_be_is_said(
    trained: tuple[Path, Transformer], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = str(trained[0])
    assert main(["generate", "nothing", "--store", store, "--prompt", "x"]) == 1
    assert "there is no checkpoint/nothing" in capsys.readouterr().err
    assert main(["generate", "toy", "--store", store, "--prompt", "x", "--device", "abacus"]) == 1
    assert "device 'abacus'" in capsys.readouterr().err
    (tmp_path / "mine").write_text("x")
    assert main(["export", "hf", "toy", "--to", str(tmp_path), "--store", store]) == 1
    assert "not an empty folder" in capsys.readouterr().err
