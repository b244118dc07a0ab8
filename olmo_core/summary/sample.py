"""A text that a checkpoint writes, the same on every machine that computes the same logits."""

from __future__ import annotations

import pyarrow as pa

from olmo_core.artifacts.manifest import Manifest
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.summary.recipe import SamplePart
from olmo_core.tokens.origin import tokenizer_of


def write(store: ArtifactStore, checkpoint: Manifest, part: SamplePart) -> str:
    """Return how a checkpoint goes on from the prompt, on this machine's processors.

    The tokenizer is the one that made the tokens it was trained on. Raises AssetError where that cannot be had.
    """
    from olmo_core.model.device import inference_device
    from olmo_core.model.generation import complete
    from olmo_core.model.sampling import Sampling
    from olmo_core.tokens.tokenizer import Tokenizer
    from olmo_core.train.checkpoint_read import load_model

    device, dtype = inference_device("cpu")
    model = load_model(store, checkpoint.ref, device, dtype)
    tokenizer = Tokenizer.from_file(tokenizer_of(store, checkpoint), engine="library")
    ids, _ = tokenizer.encode(pa.array([part.prompt], pa.large_string()))
    sampling = Sampling(
        max_tokens=part.tokens, temperature=part.temperature, top_p=part.top_p if part.temperature else None, seed=part.seed
    )  # fmt: skip
    (found,) = complete(model, [ids.tolist() or [tokenizer.end_of_text_id]], sampling)
    ended = bool(found) and found[-1] == tokenizer.end_of_text_id
    return tokenizer.decode(found[:-1] if ended else found)
