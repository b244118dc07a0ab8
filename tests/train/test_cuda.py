"""On a GPU: the same losses, gradients, scores and texts as on processors; runs that are compiled, ended and resumed.

Skipped where there is none. They need torch, numpy and pyarrow only: `pytest --noconftest tests/train/test_cuda.py`.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from olmo_core.artifacts.store import ArtifactStore
from olmo_core.evaluation.engine import Scorer
from olmo_core.evaluation.language_model import OwnModel
from olmo_core.evaluation.requests import Request
from olmo_core.model.generation import complete
from olmo_core.model.loss import Losses, linear_cross_entropy, rounded_row_losses_
from olmo_core.model.sampling import Sampling
from olmo_core.model.transformer import Transformer
from olmo_core.train.run_file import DONE, RunFile
from tests.model.samples import next_tokens, ours, small, tokens
from tests.train.tiny_run import Job, events, metrics, tiny_run

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here"),
    pytest.mark.slow,
    pytest.mark.timeout(280),
]
WIDE = small(width=128, heads=2, vocabulary=5000, embedding_rows=5008, context=256)
"""Heads of 64: what the fused attention kernels take."""


def relative(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Norm of the difference over that of what is expected."""
    return float((found.double().cpu() - expected.double().cpu()).norm() / expected.double().cpu().norm())


@pytest.mark.parametrize("z", [None, 1e-3])
@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize(("dtype", "close"), [(torch.float32, 1e-5), (torch.bfloat16, 6e-3)])
def test_chunked_loss_is_that_of_all_logits_in_double(
    z: float | None, compiled: bool, dtype: torch.dtype, close: float
) -> None:
    generator = torch.Generator("cuda").manual_seed(0)
    hidden = torch.randn(3, 200, 96, generator=generator, device="cuda").to(dtype).requires_grad_()
    weight = torch.randn(5003, 96, generator=generator, device="cuda").mul_(0.3).to(dtype).requires_grad_()
    labels = torch.randint(0, 5003, (3, 200), generator=generator, device="cuda")
    labels[:, ::7] = -100
    row_losses = torch.compile(rounded_row_losses_, dynamic=False) if compiled else None
    found = linear_cross_entropy(hidden, weight, labels, z_loss=z, chunk_rows=256, row_losses=row_losses)
    (found.total / 7).backward()  # type: ignore[no-untyped-call]
    exact = [one.detach().double().requires_grad_() for one in (hidden, weight)]
    logits = F.linear(exact[0], exact[1]).flatten(0, 1)
    wanted = labels.flatten() != -100
    squares = (z or 0.0) * torch.logsumexp(logits, -1).square()[wanted].sum()
    total = F.cross_entropy(logits, labels.flatten(), reduction="sum", ignore_index=-100) + squares
    (total / 7).backward()  # type: ignore[no-untyped-call]
    assert found.total.item() == pytest.approx(total.item(), rel=close)
    for mine, theirs in zip((hidden, weight), exact, strict=True):
        assert mine.grad is not None and theirs.grad is not None
        assert relative(mine.grad, theirs.grad) < close


@pytest.mark.parametrize("masked", [False, True])
def test_gradients_are_those_of_the_cpu(masked: bool) -> None:
    batch = tokens(4, 96)
    labels = next_tokens(batch)
    documents = (torch.arange(96) // 40).expand(4, 96) if masked else None
    model = ours(WIDE)
    there = ours(WIDE).to("cuda")
    found = []
    for one in (model, there):
        device = next(one.parameters()).device
        losses = one(
            batch.to(device),
            labels_BT=labels.to(device),
            documents_BT=None if documents is None else documents.to(device),
        )
        assert isinstance(losses, Losses)
        losses.total.backward()  # type: ignore[no-untyped-call]
        found.append(losses.total.item())
    assert found[1] == pytest.approx(found[0], rel=1e-5)
    for (name, here), gpu in zip(model.named_parameters(), there.parameters(), strict=True):
        assert here.grad is not None and gpu.grad is not None
        assert relative(gpu.grad, here.grad) < 2e-4, name


def test_scores_and_texts_are_those_of_the_cpu() -> None:
    rng = random.Random(0)
    model, there = ours(WIDE), ours(WIDE).to("cuda")
    requests = [
        Request(
            context=tuple(rng.randrange(500) for _ in range(rng.randrange(1, 90))),
            continuation=tuple(rng.randrange(500) for _ in range(rng.randrange(1, 9))),
        )
        for _ in range(60)
    ]
    here = [one.log_likelihood for one in Scorer(OwnModel(model, "w")).score(requests)]
    gpu = [one.log_likelihood for one in Scorer(OwnModel(there, "w")).score(requests)]
    assert gpu == pytest.approx(here, abs=2e-3)
    rounded: Transformer = ours(WIDE).to("cuda", torch.bfloat16)
    bfloat16 = [one.log_likelihood for one in Scorer(OwnModel(rounded, "w")).score(requests)]
    assert bfloat16 == pytest.approx(here, rel=0.02)
    prompts = [tokens(1, 5 + 9 * seed, seed)[0].tolist() for seed in range(3)]
    sampling = Sampling(max_tokens=40)
    assert complete(there, prompts, sampling) == complete(model, prompts, sampling)


def trained(folder: Path, ranks: int, **changes: object) -> RunFile:
    """A run of 20 steps on the GPU, to its end; ranks 0: without torchrun."""
    folder.mkdir()
    run = tiny_run(folder, steps=20, held_out=True, **{"device": "cuda", **changes})
    job = Job(run, folder, ranks, gpus=True)
    assert job.wait() == DONE, job.output
    return run


def losses(run: RunFile) -> list[float]:
    """Of each step."""
    return [line["loss"] for step, line in sorted(metrics(run).items()) if step]


def test_a_run_is_that_of_the_cpu_eager_and_compiled(tmp_path: Path) -> None:
    cpu = losses(trained(tmp_path / "cpu", 0, device="cpu"))
    eager = trained(tmp_path / "eager", 1)
    assert losses(eager) == pytest.approx(cpu, rel=1e-3)
    compiled = trained(tmp_path / "compiled", 0, compile=True)
    assert losses(compiled) == pytest.approx(cpu, rel=1e-3)
    bfloat16 = trained(tmp_path / "bfloat16", 0, compile=True, precision="bfloat16", recompute="block")
    assert losses(bfloat16) == pytest.approx(cpu, rel=0.03)
    line = metrics(eager)[20]
    assert line["memory_bytes"] > 0 and line["held_out_loss"] > 0
    assert line["energy_kwh"] is None or line["energy_kwh"] >= 0


def test_ended_by_a_signal_it_goes_on_where_it_was(tmp_path: Path) -> None:
    whole = losses(trained(tmp_path / "whole", 1))
    folder = tmp_path / "ended"
    folder.mkdir()
    run = tiny_run(folder, steps=20, held_out=True, device="cuda", save_every=20)
    job = Job(run, folder, 1, module="tests.train.faulty", arguments=("--terminate=0:7",), gpus=True)
    job.wait()
    assert events(run)[-1]["kind"] == "preempted", job.output
    assert ArtifactStore(run.store).find(run.ref) is None
    job = Job(run, folder, 1, gpus=True)
    assert job.wait() == DONE, job.output
    assert [one["step"] for one in events(run) if one["kind"] == "resumed"] == [7]
    assert losses(run) == pytest.approx(whole, rel=1e-3)
