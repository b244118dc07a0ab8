"""`olmo artifacts show` of a run and a checkpoint: losses, with the bigram model's beside them, steps and tokens."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.command.main import main
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.train.session import train
from tasks import training_card
from tests.train.tiny_run import BATCH, LENGTH, tiny_run


def test_losses_stand_beside_the_bigram_models(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once the card has measured it; and it is measured once."""
    run = tiny_run(tmp_path, steps=4, held_out=True)
    train(run)
    store, addresses = ArtifactStore(run.store), (str(run.ref), "run/toy", "checkpoint/toy")
    held_out = store.manifest(run.ref).counts["held_out_loss"]

    def shown(address: str) -> dict[str, str]:
        capsys.readouterr()
        assert main(["artifacts", "show", address, "--store", store.uri]) == 0
        rows = capsys.readouterr().out.split("\ninputs")[0].splitlines()[1:]
        return {row[:12].strip(): row[12:].strip() for row in rows}

    for address in addresses:
        told = shown(address)
        assert told["held out"] == f"{held_out:.3f} nats per token" and "bigram model" not in told
        assert (told["step"], told["tokens"]) == ("4", f"{4 * BATCH * LENGTH}")
    loss, note = training_card.baseline(store, run)
    assert loss is not None
    for address in addresses:
        less = "better" if held_out < loss else "WORSE"
        assert shown(address)["bigram model"] == (
            f"{loss:.3f} nats per token {note}: this is {abs(loss - held_out):.3f} nats {less} than the bigram model"
        )
    monkeypatch.setattr(training_card, "bigram_loss", lambda *some, **options: pytest.fail("measured again"))
    assert training_card.baseline(store, run) == (loss, note)
