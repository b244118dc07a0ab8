"""Which documents a step was trained on, and which steps saw a document: from a checkpoint's manifest, without its tensors.

The batch of a step follows from the recipe and the batches left out, its chunks from the order, their documents from the
tokens' index and the corpus. Nothing needs torch, the tokens themselves, or a log of the run.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from olmo_core.artifacts.manifest import Manifest
from olmo_core.artifacts.ref import ArtifactRef, Kind
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.errors import InputError, IntegrityError, RecipeError, StorageError
from olmo_core.train.chunks import Chunks
from olmo_core.train.dataset import outside_files, packed_shards
from olmo_core.train.order import Batches, Order, batch_of_step, step_of_batch
from olmo_core.train.recipe import TrainRecipe, train_recipe
from olmo_core.train.run_record import run_file, run_of
from olmo_core.train.state import TrainState
from olmo_core.train.token_index import ArtifactIndex, Name, OutsideIndex, Span, TokenIndex


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A run of one document's tokens within an instance."""

    row: int
    """Instance of the batch, from 0; rank r of W trains on the rows r, r + W, ..."""
    chunk: int
    """Number of the chunk among all of the tokens."""
    position: int
    """First position within the sequence."""
    tokens: int
    file: str
    """Token file."""
    first: int
    """The piece's first token in it."""
    source: str
    id: str | None
    """None in files made elsewhere; `source` is then the file."""
    url: str | None
    copy: int
    """0, or more where mixing repeats the document."""
    begins: int
    """Tokens of the document that come before the piece."""
    length: int | None
    """Tokens of the whole document, its end-of-text token included; None where it is not known."""

    def to_json(self) -> dict[str, Any]:
        """Return the piece as JSON values."""
        return dict(self.__dict__)


@dataclass(frozen=True, kw_only=True)
class Seen:
    """One piece of a document in one batch."""

    step: int | None
    """None for a batch that was left out after a rollback."""
    epoch: int
    batch: int
    piece: Piece

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {"step": self.step, "epoch": self.epoch, "batch": self.batch, **self.piece.to_json()}


@dataclass(frozen=True, kw_only=True)
class Sightings:
    """What a run up to a checkpoint saw of a document."""

    document: str
    tokens: int
    """Tokens of the document and its copies."""
    tokens_in_tails: int
    """Those of them that are in no chunk, as they are in the tails of token files."""
    seen: tuple[Seen, ...]
    """In order of the batches."""

    @property
    def steps(self) -> list[int]:
        """The steps, each once."""
        return sorted({one.step for one in self.seen if one.step is not None})

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {**self.__dict__, "steps": self.steps, "seen": [one.to_json() for one in self.seen]}


class Inspection:
    """The data of a run as far as a checkpoint."""

    def __init__(self, store: ArtifactStore, checkpoint: Manifest) -> None:
        """Raise IntegrityError when the checkpoint was trained on other chunks than its tokens make today."""
        self.checkpoint = checkpoint
        values = {k: v for k, v in checkpoint.recipe.items() if k not in ("run", "step")}
        self.recipe: TrainRecipe = train_recipe(values, str(checkpoint.ref))
        self.state = TrainState.from_json(checkpoint.counts, checkpoint.ref.manifest_path)
        tokens = store.manifest(checkpoint.inputs["tokens"])
        self._index: TokenIndex
        if tokens.ref.kind == Kind.INVENTORY:
            files = outside_files(store, tokens, run_file(store, run_of(checkpoint)), verify=False)
            self._index = OutsideIndex(files, self.recipe.model.end_of_text_id)
        else:
            files = packed_shards(tokens)
            self._index = ArtifactIndex(store, tokens)
        self.chunks = Chunks(files, sequence_length=self.recipe.data.sequence_length)
        if self.chunks.fingerprint != self.state.dataset:
            raise IntegrityError(
                f"{checkpoint.ref} was trained on chunks {self.state.dataset[:12]}, but {tokens.ref} makes {self.chunks.fingerprint[:12]}: "
                f"the tokens or the manifest are not what they were; `olmo artifacts verify` looks at both"
            )
        data = self.recipe.data
        self.batches = Batches(Order(data.order, seed=data.seed, chunks=self.chunks.chunks), self.recipe.batch)
        step = self.state.step
        if step and batch_of_step(step, self.state.skipped) + 1 != self.state.next_batch:
            raise IntegrityError(
                f"{checkpoint.ref}: after step {step} comes batch {self.state.next_batch}, which does not follow from the batches left out, "
                f"{self.state.skipped}; take another checkpoint of the run"
            )

    def step(self, step: int) -> list[Piece]:
        """Return the documents of a step, by row and position. A step after the checkpoint's is one that is planned.

        Raises RecipeError for a step that the run has not.
        """
        some = self._spans_of(step)
        names = self._index.names({span for _, _, span in some})
        return [self._piece(row, chunk, span, names[span]) for row, chunk, span in some]

    def texts(self, steps: Sequence[int], most: int) -> dict[int, list[tuple[Piece, str]]]:
        """Return the first `most` pieces of each step with the whole text of their documents; empty where it is not in the store.

        What the corpus holds is read once for all steps.
        """
        some = {step: self._spans_of(step)[:most] for step in steps}
        known = self._index.texts({span for spans in some.values() for _, _, span in spans})
        return {
            step: [(self._piece(row, chunk, span, known[span][0]), known[span][1]) for row, chunk, span in spans]
            for step, spans in some.items()
        }

    def _spans_of(self, step: int) -> list[tuple[int, int, Span]]:
        """Return row, chunk and span of each piece of a step, in order."""
        if not 1 <= step <= self.recipe.steps:
            raise RecipeError(f"step {step}: the run has the steps 1 to {self.recipe.steps}")
        found: list[tuple[int, int, Span]] = []
        for row, chunk in enumerate(self.batches.instances(self.batch(step)).tolist()):
            file, first = self.chunks.locate(chunk)
            found += [(row, chunk, s) for s in self._index.spans(file, first, first + self.chunks.sequence_length)]
        return found

    def batch(self, step: int) -> int:
        """Return the index of a step's batch."""
        return batch_of_step(step, self.state.skipped)

    def document(self, document: str) -> Sightings:
        """Return what the run saw of a document, up to the checkpoint. Raises InputError when the tokens have none of that id."""
        found = self._index.find(document)
        places = {(span, chunk) for span in found for chunk in self._chunks_of(span)}
        by_chunk: dict[int, list[Span]] = {}
        for span, chunk in sorted(places, key=lambda place: (place[1], place[0].start)):
            by_chunk.setdefault(chunk, []).append(span)
        pieces = {(span, chunk): self._piece(0, chunk, span, found[span]) for span, chunk in places}
        seen = [
            Seen(
                step=step_of_batch(index, self.state.skipped),
                epoch=index // self.batches.per_epoch,
                batch=index,
                piece=self._piece(row, chunk, span, found[span]),
            )
            for index, row, chunk in self.batches.of_chunks(sorted(by_chunk), self.state.next_batch)
            for span in by_chunk[chunk]
        ]
        total = sum(span.length or 0 for span in found)
        inside = sum(piece.tokens for piece in pieces.values())
        return Sightings(document=document, tokens=total, tokens_in_tails=total - inside, seen=tuple(seen))

    def _chunks_of(self, span: Span) -> range:
        return self.chunks.covering(span.file, span.start, span.start + (span.length or 0))

    def _piece(self, row: int, chunk: int, span: Span, name: Name) -> Piece:
        file, first = self.chunks.locate(chunk)
        last = first + self.chunks.sequence_length
        low = max(first, span.start)
        high = last if span.length is None else min(last, span.start + span.length)
        return Piece(
            row=row,
            chunk=chunk,
            position=low - first,
            tokens=high - low,
            file=self.chunks.files[file].name,
            first=low,
            source=name.source,
            id=name.id,
            url=name.url,
            copy=name.copy,
            begins=low - span.start,
            length=span.length,
        )


def seen_by(
    store: ArtifactStore, checkpoints: Iterable[Manifest], documents: Iterable[str]
) -> dict[ArtifactRef, dict[str, list[int]]]:
    """Return the steps up to each checkpoint that saw each document (`source/id`); none where it was not seen yet.

    Documents that a run's tokens do not have are left out, as are checkpoints of which nobody can tell (their tokens are gone, or
    they were made elsewhere): they may have seen it. One look for each run: its newest checkpoint tells for those before.
    """
    wanted = sorted(documents)
    runs: dict[str, list[Manifest]] = {}
    for one in checkpoints:
        if "run" in one.recipe and "step" in one.recipe:
            runs.setdefault(str(one.recipe["run"]), []).append(one)
    found: dict[ArtifactRef, dict[str, list[int]]] = {}
    for some in runs.values():
        try:
            inspection = Inspection(store, max(some, key=lambda m: int(m.recipe["step"])))
        except (InputError, IntegrityError, RecipeError, StorageError):
            continue
        for document in wanted:
            try:
                steps = inspection.document(document).steps
            except InputError:
                continue  # it is not in this run's tokens
            for one in some:
                last = int(one.recipe["step"])
                found.setdefault(one.ref, {})[document] = [step for step in steps if step <= last]
    return found


def resolve_checkpoint(store: ArtifactStore, text: str) -> Manifest:
    """Return the checkpoint that `text` names: `checkpoint/tiny@step1000-tokens4B`, or without `checkpoint/`; `tiny` is its newest.

    Raises RecipeError when it names none.
    """
    kind = text.partition("/")[0]
    ref = store.resolve(text if kind in set(Kind) else f"{Kind.CHECKPOINT}/{text}")
    if ref.kind != Kind.CHECKPOINT:
        raise RecipeError(f"{text!r} is no checkpoint; `olmo artifacts ls checkpoint` lists those there are")
    return store.manifest(ref)


def newest_checkpoints(store: ArtifactStore) -> Iterator[Manifest]:
    """Yield the checkpoint of the highest step of every run in the store."""
    newest: dict[str, Manifest] = {}
    for manifest in store.finished(Kind.CHECKPOINT):
        run = str(manifest.recipe["run"])
        if run not in newest or manifest.recipe["step"] > newest[run].recipe["step"]:
            newest[run] = manifest
    yield from newest.values()
