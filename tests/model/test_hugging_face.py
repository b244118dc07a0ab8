"""Models go to Hugging Face and come back unchanged, transformers computes the same, and nothing wrong is published."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import stat
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from olmo_core.errors import InputError, IntegrityError, RecipeError
from olmo_core.model import hugging_face
from olmo_core.model.config import ModelRecipe, preset
from olmo_core.model.hugging_face import export_hugging_face, load_hugging_face, model_source, open_hugging_face
from olmo_core.model.hugging_face_names import configuration, recipe_of
from olmo_core.model.transformer import Transformer
from tests.model.peers import their_names, theirs
from tests.model.samples import ours, small, tokens

FORMS = [{"tied": True}, {"tied": False, "kv_heads": 2}, {"clip_qkv": 0.5}, {"norm": "rms", "kv_heads": 1}]


def export(model: Transformer, folder: Path, **options: Any) -> hugging_face.Exported:
    """Export a model that is in memory."""
    return export_hugging_face(model.recipe, model_source(model), folder, **options)


@pytest.mark.parametrize("changed", FORMS, ids=str)
def test_there_and_back(tmp_path: Path, changed: dict[str, Any]) -> None:
    model = ours(small(**changed))
    done = export(model, tmp_path / "hf")
    assert done.difference == 0
    assert done.bytes == 4 * model.recipe.parameters
    back = load_hugging_face(tmp_path / "hf")
    assert back.recipe == model.recipe
    for name, parameter in model.named_parameters():
        assert torch.equal(back.get_parameter(name), parameter), name
    peer = AutoModelForCausalLM.from_pretrained(tmp_path / "hf", dtype=torch.float32)
    ids = tokens(2, 40)
    with torch.no_grad():
        assert torch.equal(model(ids), peer(ids).logits)
    expected = their_names(dict(model.named_parameters()), model.recipe)
    for name, parameter in peer.named_parameters():
        assert torch.equal(parameter, expected[name]), name


def test_from_transformers_own_files(tmp_path: Path) -> None:
    model = ours(small(tied=True))
    theirs(model).save_pretrained(tmp_path, max_shard_size="60KB")
    assert (tmp_path / "model.safetensors.index.json").is_file()
    back = load_hugging_face(tmp_path)
    # Theirs has no place for the number of ids that the tokenizer gives.
    assert back.recipe == dataclasses.replace(model.recipe, vocabulary=512)
    for name, parameter in model.named_parameters():
        assert torch.equal(back.get_parameter(name), parameter), name


def test_shards_in_bfloat16(tmp_path: Path) -> None:
    model = ours(small())
    done = export(model, tmp_path / "hf", dtype="bfloat16", shard_bytes=50_000)
    shards = sorted(path.name for path in (tmp_path / "hf").glob("*.safetensors"))
    assert len(shards) > 3 and shards[0] == f"model-00001-of-{len(shards):05d}.safetensors"
    index = json.loads((tmp_path / "hf" / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == done.bytes == 2 * model.recipe.parameters
    assert done.difference == 0
    peer = AutoModelForCausalLM.from_pretrained(tmp_path / "hf")
    assert peer.dtype == torch.bfloat16
    assert torch.equal(peer.lm_head.weight, model.output.weight.bfloat16())  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("umask", "file", "folder"), [(0o022, 0o644, 0o755), (0o077, 0o600, 0o700), (0o002, 0o664, 0o775)]
)
def test_modes_are_those_of_the_umask(tmp_path: Path, umask: int, file: int, folder: int) -> None:
    before = os.umask(umask)
    try:
        export(ours(small(layers=1)), tmp_path / "hf", shard_bytes=50_000)
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "hf").iterdir()}
    assert set(modes.values()) == {file} and any(name.endswith(".safetensors") for name in modes), modes
    assert stat.S_IMODE((tmp_path / "hf").stat().st_mode) == folder


def test_one_layer_in_memory_at_a_time(tmp_path: Path) -> None:
    model = ours(small(layers=8))
    given: list[weakref.ref[Tensor]] = []
    most = 0

    def source(name: str) -> Tensor:
        nonlocal most
        tensor = model.get_parameter(name).detach().clone()
        given.append(weakref.ref(tensor))
        most = max(most, sum(one() is not None for one in given))
        return tensor

    export_hugging_face(model.recipe, source, tmp_path / "hf", shard_bytes=50_000)
    assert most <= 5  # a block has four matrices


def test_generation_settings_and_tokenizer(tmp_path: Path, tokenizer: Path) -> None:
    recipe = small(vocabulary=50_280, embedding_rows=50_304, end_of_text_id=50_279, layers=1)
    export(ours(recipe), tmp_path / "hf", tokenizer=tokenizer)
    loaded = AutoTokenizer.from_pretrained(tmp_path / "hf")
    text = "Two  spaces, é, a mask |||EMAIL_ADDRESS||| don 't .\n\tEnd<|endoftext|>"
    from tokenizers import Tokenizer

    expected = Tokenizer.from_file(str(tokenizer)).encode(text).ids
    assert loaded(text)["input_ids"] == expected
    assert loaded.decode(expected) == text
    assert (loaded.eos_token_id, loaded.pad_token_id, loaded.bos_token_id) == (50_279, 1, None)
    peer = AutoModelForCausalLM.from_pretrained(tmp_path / "hf")
    assert peer.generation_config.eos_token_id == 50_279 and peer.generation_config.pad_token_id == 1


def test_a_tokenizer_without_the_end_of_text_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "tokenizer.json"
    file.write_text(json.dumps({"added_tokens": [], "model": {"vocab": {"a": 0, "b": 1}}}))
    with pytest.raises(InputError, match="has no token 499"):
        export(ours(small()), tmp_path / "hf", tokenizer=file)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tokenizer.json"]


def test_different_logits_are_not_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if transformers computed something else from the files: with another base of the rotary embedding."""
    real = configuration

    def wrong(recipe: ModelRecipe, dtype: torch.dtype) -> dict[str, Any]:
        return real(dataclasses.replace(recipe, rope_theta=500.0), dtype)

    monkeypatch.setattr("olmo_core.model.hugging_face_files.configuration", wrong)
    with pytest.raises(IntegrityError, match=r"logits differ from ours .* nothing was published"):
        export(ours(small()), tmp_path / "hf")
    assert not list(tmp_path.iterdir())


def test_weights_that_are_not_finite_are_not_published(tmp_path: Path) -> None:
    model = ours(small())
    with torch.no_grad():
        model.blocks[1].mlp.down.weight[3, 4] = float("nan")  # type: ignore[union-attr, index, operator]
    with pytest.raises(IntegrityError, match="not finite"):
        export(model, tmp_path / "hf")
    assert not list(tmp_path.iterdir())


def test_a_source_that_changes_is_not_published(tmp_path: Path) -> None:
    model = ours(small())
    calls: list[str] = []

    def source(name: str) -> Tensor:
        calls.append(name)
        return model.get_parameter(name).detach() + calls.count(name) * 1e-3

    with pytest.raises(IntegrityError, match="is not what was written"):
        export_hugging_face(model.recipe, source, tmp_path / "hf")


def test_without_transformers_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "transformers" else real(name))
    assert export(ours(small()), tmp_path / "hf").difference is None


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(InputError, match="not an empty folder"):
        export(ours(small()), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"block": "parallel"}, "model.block"),
        ({"activation": "gelu"}, "model.activation"),
        ({"norm": "layer_affine"}, "model.norm"),
        ({"norm_eps": 1e-6}, "model.norm_eps"),
        ({"norm": "rms", "clip_qkv": 8.0}, "model.clip_qkv"),
    ],
)
def test_models_without_a_form_are_refused(tmp_path: Path, changed: dict[str, Any], field: str) -> None:
    with pytest.raises(RecipeError, match=field):
        export(ours(small(**changed)), tmp_path / "hf")


@pytest.mark.parametrize("name", ["tiny", "1b", "7b", "65b"])
def test_recipes_come_back(name: str) -> None:
    assert recipe_of(configuration(preset(name))) == preset(name)


def test_the_published_configuration_is_read() -> None:
    """allenai/OLMo-1B-hf as published, in transformers 4's spelling."""
    published = {
        "model_type": "olmo",
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 16,
        "num_attention_heads": 16,
        "num_key_value_heads": 16,
        "vocab_size": 50_304,
        "max_position_embeddings": 2048,
        "rope_theta": 10_000.0,
        "rope_scaling": None,
        "clip_qkv": None,
        "attention_bias": False,
        "hidden_act": "silu",
        "eos_token_id": 50_279,
        "pad_token_id": 1,
        "tie_word_embeddings": True,
    }
    assert recipe_of(published) == preset("1b")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"model_type": "gpt2"}, "model_type 'gpt2'"),
        ({"attention_bias": True}, "attention_bias"),
        ({"hidden_act": "gelu"}, "hidden_act"),
        ({"rope_scaling": {"type": "linear", "factor": 2}}, "rope_parameters"),
        ({"head_dim": 17}, "head_dim"),
    ],
)
def test_other_models_are_refused(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        recipe_of({**configuration(small()), **changed})


def test_damaged_folders_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "hf"
    export(ours(small()), folder, shard_bytes=50_000)
    shard = sorted(folder.glob("*.safetensors"))[1]
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-100])
    with pytest.raises(InputError, match=f"cannot read .*{shard.name}"):
        load_hugging_face(folder)
    shard.unlink()
    with pytest.raises(InputError, match="which is not there"):
        load_hugging_face(folder)
    (folder / "config.json").unlink()
    with pytest.raises(InputError, match="config.json"):
        open_hugging_face(folder)
