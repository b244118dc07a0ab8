"""Small Llama models in Hugging Face folders, whose tokenizers begin texts in different ways; and what they are asked.

The same bits in every environment: weights by numpy's PCG64, vocabularies learned here from this project's licence. Imports numpy,
safetensors and tokenizers only: used by the tests, and by `evaluation_beginnings_golden.py` in lm-eval's environment.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

ROOT = Path(__file__).resolve().parents[2]
CONTEXT = 64
CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 640,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": CONTEXT,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10_000.0,
    "hidden_act": "silu",
    "tie_word_embeddings": False,
    "attention_bias": False,
    "mlp_bias": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "torch_dtype": "float32",
}
KINDS = ("adds", "has", "none", "spaces", "switched off", "switched on")
"""`adds`: as Llama 3, bytes, and a template with the token in the file. `has`: the token is there, nothing adds it (GPT-2, Pythia).
`none`: there is none. `spaces`: as Llama 2 and Mistral, which begin every text with a space, too. `switched off`: the same file, but the
settings say `add_bos_token: false`. `switched on`: as Gemma, no space; the token is in the settings only."""

LICENCE = (ROOT / "LICENSE").read_text(encoding="utf-8")
PAIRS = (
    ("", "the Work and such Derivative Works"),
    ("", " Licensor"),
    ("Answer:", " yes"),
    ("Question: May You reproduce the Work?\nAnswer:", " yes"),
    ("Question: May You reproduce the Work?\nAnswer:", " no, unless the License says so"),
    ("You must give any other recipients of the Work ", "a copy"),
    ("You must give any other recipients of the Work \n", "  a copy"),
    ("Übergrößen, 東京都:", " Ελλάδα \U0001f9d1"),
    (LICENCE[:700].rstrip(), " reproduction"),
    (LICENCE[900:1500].rstrip(), " any such form"),
)
"""Contexts and continuations; the last two contexts are longer than the models' 64 tokens."""
DOCUMENTS = {
    "word": "word",
    "line feeds": "\n\n\n",
    "short": "You may reproduce and distribute copies of the Work.",
    "letters": "Übergrößenträger, 東京都, Ελλάδα, e\u0301. " * 4,
    "long": LICENCE[1000:3000],
    "longer": LICENCE[-4000:],
}
PROMPTS = ("Question: May You reproduce the Work?\nAnswer:", "The Licensor", "1 + 2 =", "Übergrößen:")
STOP = ("or", "\n\n")
MOST = 24
"""Tokens of an answer at most."""


def learned(symbol: str, letters: list[str], count: int) -> list[tuple[str, str]]:
    """Merges of byte pair encoding over the licence's words, each after `symbol`; ties by the alphabet."""
    words = Counter(tuple(symbol + word) for word in LICENCE.split() if set(word) <= set(letters))
    found = []
    for _ in range(count):
        pairs: Counter[tuple[str, str]] = Counter()
        for word, times in words.items():
            for pair in zip(word, word[1:], strict=False):
                pairs[pair] += times
        best = max(pairs, key=lambda pair: (pairs[pair], pair))
        found.append(best)
        merged: Counter[tuple[str, ...]] = Counter()
        for word, times in words.items():
            merged[_merged(word, best)] += times
        words = merged
    return found


def _merged(word: tuple[str, ...], pair: tuple[str, str]) -> tuple[str, ...]:
    made: list[str] = []
    for part in word:
        if made and (made[-1], part) == pair:
            made[-1] += part
        else:
            made.append(part)
    return tuple(made)


def tokenizer(kind: str) -> Tokenizer:
    """The tokenizer of a kind, as its `tokenizer.json` has it."""
    named = ["<unk>", "<pad>" if kind == "none" else "<s>", "</s>"]
    by_bytes = kind in ("adds", "has", "none")
    if by_bytes:
        letters = sorted(pre_tokenizers.ByteLevel.alphabet())
        merges = learned("Ġ", letters, 150)
        first: list[str] = []
    else:
        letters = sorted({*LICENCE, "▁"} - {" "})
        merges = [*learned("▁", letters, 150), ("▁", "▁")]
        first = [f"<0x{i:02X}>" for i in range(256)]
    names = list(dict.fromkeys([*named, *first, *letters, *(a + b for a, b in merges)]))
    vocabulary = {name: i for i, name in enumerate(names)}
    fallback = {} if by_bytes else {"unk_token": "<unk>", "byte_fallback": True, "fuse_unk": True}
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, **fallback))
    made.add_special_tokens([AddedToken(name, normalized=False, special=True) for name in named])
    if by_bytes:
        made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        made.decoder = decoders.ByteLevel()
        made.post_processor = processors.ByteLevel(trim_offsets=False)
    else:
        spaces = [normalizers.Prepend("▁")] if kind != "switched on" else []
        made.normalizer = normalizers.Sequence([*spaces, normalizers.Replace(" ", "▁")])
        strip = [decoders.Strip(" ", 1, 0)] if spaces else []
        made.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), *strip])
    if kind in ("adds", "spaces", "switched off"):
        made.post_processor = processors.TemplateProcessing(
            single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)]
        )
    return made


def settings(kind: str) -> dict[str, Any]:
    """What `tokenizer_config.json` says."""
    begin = {} if kind == "none" else {"bos_token": "<s>"}
    said = {"model_max_length": CONTEXT, "clean_up_tokenization_spaces": False, "unk_token": "<unk>", **begin}
    own = {
        "spaces": {"tokenizer_class": "LlamaTokenizer", "add_bos_token": True, "legacy": True},
        "switched off": {"tokenizer_class": "LlamaTokenizer", "add_bos_token": False, "legacy": True},
        "switched on": {"tokenizer_class": "GemmaTokenizer", "add_bos_token": True},
    }
    return {**said, "eos_token": "</s>", **own.get(kind, {"tokenizer_class": "PreTrainedTokenizerFast"})}


def weights(seed: int = 11) -> dict[str, np.ndarray[Any, np.dtype[np.float32]]]:
    """Weights by Hugging Face's names, large enough that probabilities differ by far."""
    generator = np.random.Generator(np.random.PCG64(seed))
    rows, width, hidden = CONFIG["vocab_size"], CONFIG["hidden_size"], CONFIG["intermediate_size"]
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (rows, width), "lm_head.weight": (rows, width)}
    ones = ["model.norm.weight"]
    for number in range(CONFIG["num_hidden_layers"]):
        layer = f"model.layers.{number}"
        attention = {"q": width, "k": width // 2, "v": width // 2, "o": width}
        shapes |= {f"{layer}.self_attn.{name}_proj.weight": (out, width) for name, out in attention.items()}
        shapes |= {f"{layer}.mlp.{name}_proj.weight": (hidden, width) for name in ("gate", "up")}
        shapes[f"{layer}.mlp.down_proj.weight"] = (width, hidden)
        ones += [f"{layer}.input_layernorm.weight", f"{layer}.post_attention_layernorm.weight"]
    drawn = {name: (generator.standard_normal(shape) * 0.35).astype(np.float32) for name, shape in shapes.items()}
    return drawn | {name: np.ones(width, np.float32) for name in ones}


def write(folder: Path, kind: str) -> Path:
    """Write a model's folder."""
    folder.mkdir(parents=True)
    own = {} if kind != "none" else {"bos_token_id": None}
    (folder / "config.json").write_text(json.dumps({**CONFIG, **own}))
    (folder / "tokenizer_config.json").write_text(json.dumps(settings(kind)))
    made = tokenizer(kind)
    made.save(str(folder / "tokenizer.json"))
    if kind == "adds":  # as Llama 3's and Gemma's models for chats: several tokens end a text
        ends = {"eos_token_id": [2, made.token_to_id("ĠYou")], "bos_token_id": 1}
        (folder / "generation_config.json").write_text(json.dumps(ends))
    save_file(weights(), folder / "model.safetensors", metadata={"format": "pt"})
    return folder
