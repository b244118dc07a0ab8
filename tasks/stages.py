"""The Prefect task that makes one stage's artifact, and how it shows in the dashboard."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from prefect import Task, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.futures import PrefectFuture, wait
from prefect.states import Completed
from prefect.tasks import exponential_backoff

from olmo_core.artifacts.build import Built
from olmo_core.artifacts.ref import ArtifactRef
from olmo_core.errors import IntegrityError, TransientStorageError
from olmo_core.report import markdown
from tasks.dashboard import ProgressArtifact
from tasks.expected_errors import without_credentials
from tasks.session import Session

RETRIES = 5
"""Tries after the first when the store does not answer: with the backoff below about five minutes in all."""


def is_storage_fault(task: Task[Any, Any], task_run: TaskRun, state: State[Any]) -> bool:
    """Say whether a failed task is worth another try: only when the store did not answer."""
    try:
        state.result()
    except TransientStorageError:
        return True
    except BaseException:
        return False
    return False


STORAGE_RETRIES: dict[str, Any] = {
    "retries": RETRIES,
    "retry_delay_seconds": exponential_backoff(backoff_factor=5),
    "retry_jitter_factor": 0.5,
    "retry_condition_fn": is_storage_fault,
}
"""Task options: try again with growing pauses when the store did not answer, and for no other reason."""


@task(cache_policy=NO_CACHE, persist_result=False, **STORAGE_RETRIES)
def build_stage(session: Session, stage: str, source: str) -> ArtifactRef | State[ArtifactRef]:
    """Make the artifact of one stage for one source, or find that it is made (then the state is called Reused)."""
    label = f"{stage}/{source}"
    logger = get_run_logger()
    progress = ProgressArtifact(session.recipe.name, label)
    with without_credentials():
        built = session.build(stage, source, progress)
    progress.finish(built)
    if built.same_bytes is False:
        raise IntegrityError(
            f"{label}: the rebuild gave other bytes than {built.ref}; the stage is not reproducible on this machine, or the "
            f"stored artifact was changed (`olmo artifacts verify {built.ref}` tells)"
        )
    logger.info("%s: %s", label, summary(built))
    if built.reused:
        return Completed(name="Reused", message=f"{built.ref} was there already", data=built.ref)
    return built.ref


def summary(built: Built) -> str:
    """Return in one line what became of a stage."""
    ledger = built.manifest.ledger
    if built.reused:
        return f"reused {built.ref}"
    lost = sum(t.documents for t in (*ledger.dropped.values(), *ledger.quarantined.values()))
    shards = len(built.manifest.shards)
    parts = [f"built {built.ref}"]
    if built.same_bytes is not None:
        parts = [f"rebuilt {built.ref}, every byte the same"]
    if ledger.read.documents:
        parts.append(f"{ledger.read.documents:,} documents in, {ledger.kept.documents:,} kept, {lost:,} dropped")
        parts.append(f"{markdown.size(ledger.read.bytes / max(built.seconds, 1e-3))}/s")
    made = shards - built.shards_reused
    parts.append(
        f"{made} {'shard' if made == 1 else 'shards'} built, {built.shards_reused} reused, {built.seconds:.1f} s"
    )
    return "; ".join(parts)


class Stages:
    """The stages of one flow run: started as tasks named `stage/source` from the beginning, and settled at the end."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._started: list[PrefectFuture[ArtifactRef]] = []

    def start(
        self, stage: str, source: str = "all", after: Sequence[PrefectFuture[ArtifactRef]] = ()
    ) -> PrefectFuture[ArtifactRef]:
        """Start one stage of one source once those in `after` are done."""
        task_: Task[Any, Any] = build_stage.with_options(name=f"{stage}/{source}", task_run_name=f"{stage}/{source}")
        future: PrefectFuture[ArtifactRef] = task_.submit(self._session, stage, source, wait_for=list(after))
        self._started.append(future)
        return future

    def finish(self) -> None:
        """Wait for all stages; raise what stopped the first one that failed.

        A stage whose input failed never starts, and its state does not tell why: the cause is looked for here.
        """
        wait(self._started)
        for future in self._started:
            if future.state.is_failed() or future.state.is_crashed() or future.state.is_cancelled():
                future.result()
