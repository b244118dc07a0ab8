"""The shape of a model: the recipe that decides it, and the presets that were published or are made for laptops.

Sources: allenai/OLMo `configs/official-0724/OLMo-1B.yaml` and `OLMo-7B.yaml`, the 65B configuration "mitchish65", and
the paper, arXiv 2402.00838, table 1. Nothing here imports torch, so that flows and forms can use it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from olmo_core.errors import RecipeError

Norm = Literal["layer", "layer_affine", "rms"]
Block = Literal["sequential", "parallel"]
Activation = Literal["swiglu", "gelu"]
Initialization = Literal["mitchell", "normal"]


@dataclass(frozen=True, kw_only=True)
class ModelRecipe:
    """Everything that decides what a model computes, but for its weights."""

    width: int
    """Size of the residual stream (d_model)."""
    layers: int
    """Transformer blocks."""
    heads: int
    """Query heads; `width` must be a multiple of it."""
    mlp_width: int
    """Width of the hidden layer after the activation: 8192 for OLMo-1B, 11008 for OLMo-7B."""
    kv_heads: int | None = None
    """Key and value heads: fewer than `heads` for grouped queries (GQA), 1 for multi-query; None for one per query head."""
    vocabulary: int = 50_280
    """Ids a tokenizer may give: those of OLMo's tokenizer."""
    embedding_rows: int = 50_304
    """Rows of the embedding and of the output layer: the vocabulary padded to a multiple of 128, which is faster."""
    context: int = 2048
    """Longest sequence in tokens."""
    tied: bool = False
    """The output layer is the embedding (OLMo-1B)."""
    norm: Norm = "layer"
    """`layer`: LayerNorm without weights, as OLMo has it; `layer_affine`: with weight and bias; `rms`: RMSNorm with weight."""
    norm_eps: float = 1e-5
    """Added to the variance."""
    block: Block = "sequential"
    """`parallel`: attention and MLP both read the block's input, as in PaLM."""
    activation: Activation = "swiglu"
    """`swiglu`: silu(gate) * up, three matrices; `gelu`: two matrices."""
    rope_theta: float = 10_000.0
    """Base of the rotary position embedding."""
    clip_qkv: float | None = None
    """Queries, keys and values are clamped to this absolute value (OLMo-7B-0424: 8); None for not."""
    initialization: Initialization = "mitchell"
    """`mitchell`: truncated normal, 1/sqrt(width), outputs of a block smaller with its depth; `normal`: deviation 0.02."""
    end_of_text_id: int = 50_279
    """Id that ends a document."""
    padding_id: int = 1
    """Id that fills up short rows."""

    def __post_init__(self) -> None:
        """Raise RecipeError, naming the field, for a shape that cannot be."""
        for name in ("width", "layers", "heads", "mlp_width", "vocabulary", "context"):
            if getattr(self, name) < 1:
                raise RecipeError(f"model.{name}: {getattr(self, name)}; it must be at least 1")
        if self.width % self.heads or (self.width // self.heads) % 2:
            raise RecipeError(
                f"model.heads: width {self.width} over {self.heads} heads gives no even whole number; "
                f"choose heads so that width / heads is one, e.g. 64 or 128"
            )
        if self.heads % self.key_value_heads:
            raise RecipeError(f"model.kv_heads: {self.kv_heads} does not divide the {self.heads} heads")
        if self.embedding_rows < self.vocabulary:
            raise RecipeError(
                f"model.embedding_rows: {self.embedding_rows} is less than the vocabulary of {self.vocabulary}"
            )

    @property
    def key_value_heads(self) -> int:
        """Key and value heads, resolved."""
        return self.heads if self.kv_heads is None else self.kv_heads

    @property
    def head_width(self) -> int:
        """Width of one head."""
        return self.width // self.heads

    @property
    def parameters(self) -> int:
        """Number of parameters, each counted once."""
        attention = self.width * self.width * 2 + 2 * self.width * self.key_value_heads * self.head_width
        mlp = self.width * self.mlp_width * (3 if self.activation == "swiglu" else 2)
        norm = {"layer": 0, "layer_affine": 2, "rms": 1}[self.norm] * self.width
        norms = norm * (2 * self.layers + 1) if self.block == "sequential" else norm * (self.layers + 1)
        return self.layers * (attention + mlp) + norms + self.embedding_rows * self.width * (1 if self.tied else 2)

    def flops_per_token(self, sequence_length: int) -> float:
        """Return floating-point operations of one token's training step, forward and backward, by the formula
        6 (P - E) + 6 R d + 6 L T d: P parameters, E those of embedding and output layer, R rows of the output layer, d width,
        L layers, T sequence length. Every matrix costs 2 operations a weight forward and 4 backward; the embedding is
        looked up and costs none; attention counts only its causal half (PaLM, arXiv 2204.02311 appendix B, halved).
        """
        table = self.embedding_rows * self.width
        matrices = self.parameters - table * (1 if self.tied else 2)
        return 6.0 * (matrices + table) + 6.0 * self.layers * sequence_length * self.width


PRESETS: Mapping[str, ModelRecipe] = {
    "tiny": ModelRecipe(width=128, layers=4, heads=4, mlp_width=512, context=256, tied=True),
    "20m": ModelRecipe(width=256, layers=8, heads=8, mlp_width=1024, context=1024, tied=True),
    "150m": ModelRecipe(width=768, layers=12, heads=12, mlp_width=3072, tied=True),
    "1b": ModelRecipe(width=2048, layers=16, heads=16, mlp_width=8192, tied=True),
    "7b": ModelRecipe(width=4096, layers=32, heads=32, mlp_width=11_008),
    "65b": ModelRecipe(width=8192, layers=80, heads=64, mlp_width=22_016),
}


def preset(name: str) -> ModelRecipe:
    """Return the model of a name: tiny, 20m, 150m (for laptops and ablations), 1b, 7b, 65b (as published)."""
    if name not in PRESETS:
        raise RecipeError(f"model: there is no preset {name!r}; there are {', '.join(PRESETS)}")
    return PRESETS[name]
