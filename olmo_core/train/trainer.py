"""The training loop: from RUN.json to the last checkpoint, or to a signal, or to an error that names its cause.

Every rank runs the same loop. What hosts must agree on for a step (whether one was asked to end, how many targets there
are) is added up in one small exchange before it; the device is waited for only where a line of metrics is due. A run that
is started again goes on from its newest checkpoint, with the batch that comes next.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from typing import Any

from olmo_core.artifacts.manifest import Manifest
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.errors import InputError, OlmoError, StorageError, SupersededError
from olmo_core.train import fence, schedule
from olmo_core.train.assembly import assemble
from olmo_core.train.checkpoint import Checkpointer
from olmo_core.train.checks import not_beyond
from olmo_core.train.held_out import held_out_loss
from olmo_core.train.launch import leave_word
from olmo_core.train.loader import Batch
from olmo_core.train.metrics import Clock, Sums, perplexity
from olmo_core.train.non_finite import NonFinite, Streak
from olmo_core.train.preemption import Preemption
from olmo_core.train.progress import Progress
from olmo_core.train.ranks import Ranks
from olmo_core.train.run_file import DONE, PREEMPTED, UNPLANNED, RunFile, save_interval
from olmo_core.train.sharding import initialize_sharded
from olmo_core.train.state import TrainState
from olmo_core.train.step import LossHook
from olmo_core.train.watch import Watch
from olmo_core.train.world import World

log = logging.getLogger(__name__)

_MOST_ROLLBACKS = 3
"""To one and the same checkpoint: then neither its parameters nor the data after it can be trained on."""


class Trainer:
    """One run, on one rank."""

    def __init__(
        self, run: RunFile, world: World, watch: Watch, preemption: Preemption, *, hook: LossHook | None = None
    ) -> None:
        self.run, self.world, self._watch, self._preemption, self._hook = run, world, watch, preemption, hook
        self._store = ArtifactStore(run.store)
        self._ranks = Ranks(seconds=max(3600.0, 2 * run.resources.hang_seconds))  # the watch knows better who hangs
        self._rollbacks: dict[int, int] = {}
        self._unmeasured = False
        """Whether the last step is saved, but an evaluation that belongs to it was left for a signal."""
        self.epoch, self._failed_saves, self._save_every = 0, 0, save_interval(run)

    def train(self) -> int:
        """Train to the end; returns DONE or PREEMPTED. Raises OlmoError for what a person must mend."""
        if self._is_done():
            log.info("%s is done already", self.run.ref)
            return DONE
        self._parts = assemble(self._store, self.run, self.world, self._ranks, self._watch, self._hook)
        self._report, self._fingerprint = self._parts.report, self._parts.dataset.fingerprint
        self._clock = Clock()
        self._take_epoch()
        try:
            self._resume()
            while self.step < self.run.recipe.steps:
                batches = self._parts.loader.prefetch(
                    self._state.next_batch, skipped=self._state.skipped, pin=self.world.device.type == "cuda"
                )
                if not self._steps(batches):
                    return PREEMPTED
            if self._unmeasured and not self._measure():
                return PREEMPTED
            self._finish()
        finally:
            self._report.close()
        return DONE

    @property
    def step(self) -> int:
        """Steps done."""
        return self._state.step

    # beginning
    def _is_done(self) -> bool:
        found = self._ranks.together(lambda: self.world.rank == 0 and self._store.find(self.run.ref) is not None)
        return self._ranks.share(found)

    def _take_epoch(self) -> None:
        claimed = self._ranks.together(lambda: fence.claim(self._store, self.run.ref) if self.world.rank == 0 else 0)
        self.epoch = epoch = self._ranks.share(claimed)
        parts, alive = self._parts, self._watch.alive
        self._checkpointer = Checkpointer(self._store, self.run, epoch, parts.model, parts.optimizer, alive=alive)
        self._report.epoch(epoch)

    def _resume(self) -> None:
        """Load the newest checkpoint of this run, or the one it starts from, or make the first."""
        manifest = self._newest()
        if manifest is not None:
            self._watch.at(f"loading {manifest.ref}")
            state = self._checkpointer.load(manifest, dataset=self._fingerprint)
            not_beyond(manifest.ref, state.step, self.run)
            self._begin_at(state)
            self._unmeasured = state.step == self.run.recipe.steps and self._parts.is_to_measure(manifest.counts)
            how = "extended" if manifest.ref == self.run.start else "resumed"
            self._report.event(how, f"{how} from step {state.step}, {manifest.ref}", step=state.step)
            return
        self._watch.at("drawing the first weights")
        initialize_sharded(self._parts.model, self.run.recipe.seed)
        self._begin_at(TrainState(step=0, tokens=0, next_batch=0, dataset=self._fingerprint))
        self._saved = -1
        dropped, left = self._parts.dataset.dropped_tokens, self._parts.loader.batches.dropped_chunks
        self._report.event(
            "started",
            f"{self.run.recipe.steps:,} steps of {self.run.recipe.tokens_per_step:,} tokens; {dropped:,} tokens at the ends of files "
            f"make no instance, and {left:,} instances no batch in each epoch",
            step=0,
            dropped_tokens=dropped,
            dropped_instances=left,
        )
        measured = self._evaluate()
        if measured:
            self._report.line({"step": 0, "tokens": 0, **measured})
        self._save(_figures(measured))

    def _newest(self) -> Manifest | None:
        """The newest checkpoint of this run, or else the one it starts from; the same on all ranks."""

        def find() -> Manifest | None:
            if self.world.rank != 0:
                return None
            found = self._checkpointer.latest()
            return self._store.manifest(self.run.start) if found is None and self.run.start is not None else found

        return self._ranks.share(self._ranks.together(find))

    def _begin_at(self, state: TrainState) -> None:
        self._state, self._saved = state, state.step
        self._non_finite = NonFinite(self.run.recipe.skip_limit, self.world.device)
        self._sums, self._waited, self._lines = Sums(self.world.device), 0.0, state.step
        self._progress = Progress(self.run.recipe.steps)
        self._clock.lap()

    # the loop
    def _steps(self, batches: Iterator[Batch]) -> bool:
        """Take steps up to the last, or to a rollback; False when the run is to end before."""
        for step in range(self.step + 1, self.run.recipe.steps + 1):
            self._watch.at(f"at step {step}, waiting for its data")
            began = time.perf_counter()
            batch = next(batches)
            self._waited += time.perf_counter() - began
            self._watch.at(f"at step {step}, agreeing with the other ranks")
            targets = int((batch.labels_BT != -100).sum())
            stop, targets = self.world.agree([int(self._preemption.signal is not None), targets])
            if stop:
                self._end_early()
                return False
            self._parts.stepper.step(step, batch.index, batch, targets, self._non_finite, self._sums)
            self._state = self._after(step, batch)
            if self._is_line_due(step):
                streak = self._line(step)
                if streak is not None:
                    self._roll_back(streak)
                    return True
                if self._unmeasured:
                    self._end_early()
                    return False
        return True

    def _after(self, step: int, batch: Batch) -> TrainState:
        return TrainState(
            step=step,
            tokens=step * self.run.recipe.tokens_per_step,
            next_batch=batch.index + 1,
            skipped=self._state.skipped,
            dataset=self._fingerprint,
        )

    def _is_line_due(self, step: int) -> bool:
        resources = self.run.resources
        last = step == self.run.recipe.steps
        return last or step % resources.log_every == 0 or self._is_save_due(step) or self._is_evaluation_due(step)

    def _is_save_due(self, step: int) -> bool:
        return step == self.run.recipe.steps or step % self._save_every == 0

    def _is_evaluation_due(self, step: int) -> bool:
        every = self.run.resources.evaluate_every
        return step == self.run.recipe.steps or (self._is_save_due(step) if every is None else step % every == 0)

    def _line(self, step: int) -> Streak | None:
        """Read what the device knows, tell of it, save where that is due; returns steps that ask for a rollback."""
        self._watch.at(f"at step {step}, waiting for the device")
        read = self._sums.read(self._parts.stepper.parameter_norm(), self._non_finite.state)
        seconds, steps = self._clock.lap(), step - self._lines
        millijoules, waited = self.world.agree([self._report.millijoules(), int(self._waited * 1e6)])
        self._waited, self._lines = 0.0, step
        line = self._report.values(
            step=step,
            steps=steps,
            read=read,
            learning_rate=schedule.learning_rate(self.run.recipe, step),
            seconds=seconds,
            waited=waited / 1e6 / self.world.size,
            millijoules=millijoules,
        )
        if read.left_out:
            self._report.event(
                "not-finite",
                f"{read.left_out} steps up to {step} were left out: loss or gradient not finite",
                step=step,
            )
        streak = self._non_finite.settle(read.in_row, read.reached)
        figures = {"loss": read.loss} if read.loss is not None else {}
        if streak is None and self._is_evaluation_due(step):
            measured = self._evaluate()
            line |= measured
            figures |= _figures(measured)
        self._report.line(line)
        self._progress.tell(step, steps, seconds, line)
        if streak is None and self._is_save_due(step) and not self._unmeasured:
            self._save(figures)
        return streak

    def _is_to_end(self) -> bool:
        """Whether any rank was asked to end: then evaluation is left, and the time is for saving. That of the last step is made
        up for by the next start, before it publishes the run.
        """
        (asked,) = self.world.agree([int(self._preemption.signal is not None)])
        self._unmeasured = asked > 0 and self.step == self.run.recipe.steps
        return asked > 0

    def _measure(self) -> bool:
        """Make up for the evaluation of the last step; False when there is no time again."""
        self._unmeasured = False
        measured = self._evaluate()
        if self._unmeasured:
            self._end_early()
            return False
        # Without a loss: it adds to the line of that step that an earlier start has written.
        self._report.line({"step": self.step, "tokens": self._state.tokens, **measured})
        return True

    def _evaluate(self) -> dict[str, Any]:
        """Return the held-out loss and scores on benchmarks, as far as they are asked for and there is time; theirs is not that of the steps."""
        parts, resources, found = self._parts, self.run.resources, dict[str, Any]()
        began = time.perf_counter()
        if parts.held_out is not None:
            loss = held_out_loss(
                parts.model,
                parts.held_out,
                self.run.recipe,
                self.world,
                batches=resources.evaluate_batches,
                micro_batch=resources.micro_batch,
                at=self._measuring,
                stop=self._is_to_end,
            )
            if loss is not None:
                found |= {"held_out_loss": loss, "held_out_perplexity": perplexity(loss)}
        if parts.benchmarks is not None and not self._is_to_end():
            found |= parts.benchmarks.numbers(parts.model, self._measuring)
        self._clock.leave_out(time.perf_counter() - began)
        return found

    def _measuring(self, doing: str) -> None:
        self._watch.at(f"after step {self.step}, {doing}")
        self._progress.measuring(self.step, doing)

    # saving, ending
    def _save(self, figures: dict[str, Any]) -> None:
        """Save in the background; the last step's checkpoint waits. Amid steps that were left out, save what was before them."""
        self._watch.at(f"after step {self.step}, saving")
        last = self.step == self.run.recipe.steps
        self._report.flush()  # a later start begins after this step, and would never tell of it again
        self._await_save()
        state = self._state if last else self._good_state()
        if state.step <= self._saved:
            return
        try:
            self._checkpointer.save(state, figures=figures, wait=last)
            self._saved = state.step
        except StorageError as error:  # it did not even begin, or it was the last
            self._bear(error)

    def _await_save(self) -> None:
        """Wait for the save under way. One that fails is told, as the next may do; two in a row end the run."""
        try:
            if self._checkpointer.wait() is not None:
                self._failed_saves = 0
        except StorageError as error:
            self._bear(error)

    def _bear(self, error: StorageError) -> None:
        """Go on without the checkpoint that could not be saved; raises its error for the second in a row, and for the last step."""
        self._failed_saves += 1
        if self._failed_saves > 1 or self.step == self.run.recipe.steps:
            raise error
        self._report.event("not-saved", str(error), step=self.step)

    def _good_state(self) -> TrainState:
        """The state after the last step that counted: parameters and optimizer are still as they were then.

        So a rollback never finds a checkpoint from amid the steps that it is to leave out.
        """
        batches = self._non_finite.batches
        if not batches:
            return self._state
        step = self.step - len(batches)
        return TrainState(
            step=step,
            tokens=step * self.run.recipe.tokens_per_step,
            next_batch=batches[0],
            skipped=self._state.skipped,
            dataset=self._fingerprint,
        )

    def _end_early(self) -> None:
        """Save within `save_seconds` of the signal, and tell."""
        limit = self.run.resources.save_seconds
        self._watch.at(f"after step {self.step}, saving before the end")
        if self.step > self._lines and self._line(self.step) is not None:
            log.warning("the run was to roll back; it does when it is started again")
            leave_word("amid steps that are not finite; the checkpoint before them counts")
            return
        try:
            self._report.flush()
            self._checkpointer.wait(timeout=self._preemption.seconds_left(limit))
            state = self._good_state()
            if state.step > self._saved:
                left = self._preemption.seconds_left(limit)
                extra = {UNPLANNED: True} if state.step % self._save_every else None
                self._checkpointer.save(state, figures=extra, wait=True, timeout=left, retain=False)
            said = f"saved step {state.step}"
        except SupersededError:
            raise
        except OlmoError as error:
            said = f"step {self.step} was not saved ({error}); the checkpoint before it counts"
        said = f"{self._preemption.signal or 'another rank was told to end'}: {said}"
        self._report.event("preempted", said, step=self.step)
        if self.world.rank == 0:
            leave_word(said)

    def _roll_back(self, streak: Streak) -> None:
        """Go back to the newest checkpoint, which is from before the streak, and leave its batches out from now on."""
        self._await_save()
        manifest = self._newest()
        first, end = streak.span
        last_step = streak.first_step + len(streak.batches) - 1
        if manifest is None:
            raise InputError(
                f"loss or gradient is not finite in steps {streak.first_step} to {last_step}, and there is no checkpoint to go back to: "
                f"that of step 0 could not be saved. Make room in {self.run.store}, or lower optimizer.learning_rate, and start again"
            )
        step = int(manifest.recipe["step"])
        self._rollbacks[step] = self._rollbacks.get(step, 0) + 1
        if self._rollbacks[step] > _MOST_ROLLBACKS:
            raise InputError(
                f"loss or gradient is not finite again in steps {streak.first_step} to {last_step}, after {_MOST_ROLLBACKS} "
                f"rollbacks to the checkpoint of step {step}: it is not the data alone. Lower optimizer.learning_rate, or begin a "
                f"run from an earlier checkpoint (start)"
            )
        skipped = self._state.skipped
        self._checkpointer.close()
        self._take_epoch()
        self._watch.at(f"rolling back to step {step}")
        state = self._checkpointer.load(manifest, dataset=self._fingerprint)
        self._begin_at(
            TrainState(
                step=state.step,
                tokens=state.tokens,
                next_batch=state.next_batch,
                skipped=(*skipped, (first, end)),
                dataset=state.dataset,
            )
        )
        self._report.event(
            "rollback",
            f"{len(streak.batches)} steps in a row were not finite ({streak.first_step} to {last_step}): back to step {step}, "
            f"and batches {first} to {end - 1} are left out",
            step=step,
            first_step=streak.first_step,
            last_step=last_step,
            skipped=[first, end],
        )

    def _finish(self) -> None:
        """Publish the run artifact."""
        self._watch.at("publishing the run")
        self._checkpointer.wait()
        self._checkpointer.close()
        self._ranks.together(lambda: self._report.finish(self._state))
        log.info("%s is done: %d steps", self.run.ref, self.step)


def _figures(measured: dict[str, Any]) -> dict[str, Any]:
    """Return what of an evaluation the checkpoint's manifest tells too."""
    return {key: value for key, value in measured.items() if key != "held_out_perplexity"}
