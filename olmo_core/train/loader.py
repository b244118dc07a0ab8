"""Batches for a rank: tokens, their targets, documents, and which chunks they are.

The batch of an index is a pure function of dataset, recipe and index; a rank takes its rows of it. So there are no workers
to agree with: a thread reads ahead, which is enough, as a batch is a few copies from memory-mapped files.

Shapes: B rows of this rank, T tokens of a chunk.
"""

from __future__ import annotations

import atexit
import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch

from olmo_core.errors import RecipeError
from olmo_core.train.chunks import evenly_spread
from olmo_core.train.dataset import TokenDataset
from olmo_core.train.order import Batches, Order, Ranges, batch_of_step, step_of_batch
from olmo_core.train.recipe import DataRecipe
from olmo_core.train.repetition import check_repetition, repetitive

NO_TARGET = -100
"""Label of a position that has no target; torch's `ignore_index`."""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """One rank's rows of one batch."""

    index: int
    """Number of the batch, from 0 through all epochs."""
    instances: npt.NDArray[np.int64]
    """Chunks (B,)."""
    tokens_BT: torch.Tensor
    """Ids, int64."""
    labels_BT: torch.Tensor
    """The next token, int64; NO_TARGET at the last position, where the label mask is off, and in masked instances."""
    documents_BT: torch.Tensor | None
    """Number of the document at each position within its chunk, int32, from 0; None unless `mask_documents`."""
    masked: npt.NDArray[np.bool_]
    """Instances (B,) that have no loss because of runaway repetition."""

    def pinned(self) -> Batch:
        """Return the batch in page-locked memory, from which a copy to a GPU does not hold up the host."""
        documents = self.documents_BT
        return replace(
            self,
            tokens_BT=self.tokens_BT.pin_memory(),
            labels_BT=self.labels_BT.pin_memory(),
            documents_BT=None if documents is None else documents.pin_memory(),
        )


def assemble(dataset: TokenDataset, recipe: DataRecipe, instances: npt.NDArray[np.int64], index: int = 0) -> Batch:
    """Return the batch of given chunks.

    Targets are as in OLMo: token t + 1 of the same chunk, also across documents; a label mask says which tokens are targets.
    """
    tokens = dataset.rows(instances)
    labels = np.full_like(tokens, NO_TARGET)
    labels[:, :-1] = tokens[:, 1:]
    if dataset.masked:
        labels[:, :-1][~dataset.label_masks(instances)[:, 1:]] = NO_TARGET
    masked = repetitive(tokens, recipe.repetition) if recipe.repetition else np.zeros(len(instances), bool)
    labels[masked] = NO_TARGET
    documents = None
    if recipe.mask_documents:
        documents = torch.from_numpy(document_numbers(tokens, dataset.end_of_text_id))
    return Batch(
        index=index,
        instances=instances,
        tokens_BT=torch.from_numpy(tokens),
        labels_BT=torch.from_numpy(labels),
        documents_BT=documents,
        masked=masked,
    )


def document_numbers(tokens_BT: npt.NDArray[np.int64], end_of_text_id: int) -> npt.NDArray[np.int32]:
    """Return the number of the document at each position (B, T): an end-of-text token is the last of its document."""
    out = np.zeros(tokens_BT.shape, np.int32)
    np.cumsum(tokens_BT[:, :-1] == end_of_text_id, axis=1, out=out[:, 1:])
    return out


class Loader:
    """The batches of a run, for one rank of `world`."""

    def __init__(self, dataset: TokenDataset, recipe: DataRecipe, *, batch: int, rank: int = 0, world: int = 1) -> None:
        """Raise InputError for fewer tokens than a batch, RecipeError for a batch that does not divide over the ranks."""
        if batch % world:
            lower, upper = batch // world * world, -(-batch // world) * world
            raise RecipeError(
                f"batch: {batch} instances do not divide over {world} ranks; give a multiple of {world}, e.g. {lower or upper}, or start other ranks"
            )
        if recipe.sequence_length != dataset.sequence_length:
            raise RecipeError(
                f"data.sequence_length: {recipe.sequence_length}, but the tokens were opened in chunks of {dataset.sequence_length}"
            )
        if recipe.repetition:
            check_repetition(recipe.repetition)
        self.dataset, self.recipe, self.rank, self.world = dataset, recipe, rank, world
        self.batches = Batches(Order(recipe.order, seed=recipe.seed, chunks=dataset.chunks), batch)

    def instances(self, index: int) -> npt.NDArray[np.int64]:
        """Return the chunks (batch,) of all ranks' batch `index`, counted from 0 through all epochs."""
        return self.batches.instances(index)

    def batch(self, index: int) -> Batch:
        """Return this rank's rows of a batch: every `world`-th from `rank` on, as OLMo deals them out."""
        return assemble(self.dataset, self.recipe, self.instances(index)[self.rank :: self.world], index)

    def prefetch(self, first: int, *, skipped: Ranges = (), depth: int = 4, pin: bool = False) -> Iterator[Batch]:
        """Yield the batches from index `first` on without end, leaving out `skipped` ranges; a thread reads `depth` ahead.

        `pin` puts them into page-locked memory. An error of the thread is raised here, at its batch. Close the iterator (or
        let it go) to end the thread.
        """
        ranges = tuple(skipped)

        def load(number: int) -> Batch:
            batch = self.batch(batch_of_step(number, ranges))
            return batch.pinned() if pin else batch

        step = step_of_batch(first, ranges)
        while step is None:
            first += 1
            step = step_of_batch(first, ranges)
        return _ahead(load, step, depth)


def _ahead(load: Callable[[int], Batch], first: int, depth: int) -> Iterator[Batch]:
    ready: queue.Queue[Batch | BaseException] = queue.Queue(maxsize=depth)
    stop = threading.Event()

    def put(item: Batch | BaseException) -> None:
        while not stop.is_set():
            try:
                ready.put(item, timeout=0.2)
                break
            except queue.Full:
                continue

    def read() -> None:
        number = first
        try:
            while not stop.is_set():
                put(load(number))
                number += 1
        except BaseException as error:  # handed over to whoever waits for the batch
            put(error)

    def batches() -> Iterator[Batch]:
        # Started here, as a generator that nobody has begun is closed without its `finally`.
        thread = threading.Thread(target=read, name="loader", daemon=True)
        thread.start()

        def end() -> None:
            stop.set()
            if threading.current_thread() is not thread:
                thread.join()

        # Also for an iterator left open, before the interpreter's end begins: a daemon thread that comes back from torch's C++ after
        # that is ended there, and with it, by SIGABRT, the whole process, or the process stands still.
        atexit.register(end)
        try:
            while True:
                item = ready.get()
                if isinstance(item, BaseException):
                    raise item
                yield item
        finally:
            atexit.unregister(end)
            end()

    return batches()


def evaluation_batches(
    dataset: TokenDataset, recipe: DataRecipe, *, batch: int, rank: int = 0, world: int = 1, most: int | None = None
) -> Iterator[Batch]:
    """Yield this rank's rows of held-out batches in the order of the chunks, `most` batches at most: of more chunks than that
    every so many-th, so that a few batches stand for all documents and not for the first.

    Every rank gets as many batches of the same shape, though the last may be ragged: it is filled up with rows that have no target.
    """
    chosen = evenly_spread(dataset.chunks, None if most is None else most * batch)
    for index in range(-(-len(chosen) // batch)):
        places = index * batch + np.arange(batch)[rank::world]
        made = assemble(dataset, recipe, chosen[places % len(chosen)], index)
        made.labels_BT[torch.from_numpy(places >= len(chosen))] = NO_TARGET
        yield made
