"""Steps whose loss or gradient is not finite: judged on the device before anything is changed, counted there too.

One such step is left out: parameters, moments and step counters stay, the step's number and its data count as done. So
many in a row (`skip_limit`) mean that the data, or the parameters, have gone bad: the run goes back to the last
checkpoint from before them and leaves their data out. Which step reached the limit is noted on the device, so that the
outcome does not depend on how often the host looks.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Streak:
    """Steps in a row that were not finite, as the host knows them."""

    first_step: int
    batches: tuple[int, ...]
    """Indices of their batches, in order."""

    @property
    def span(self) -> tuple[int, int]:
        """The half-open range of batch indices that they cover."""
        return self.batches[0], self.batches[-1] + 1


class NonFinite:
    """Judges every step of a run; all ranks judge alike, as they judge sums over all ranks."""

    def __init__(self, limit: int, device: torch.device, *, batches: Sequence[int] = (), step: int = 0) -> None:
        """Begin after `step`, the last steps of which, with these `batches`, were not finite."""
        self.limit = limit
        self._state = torch.tensor([len(batches), 0], dtype=torch.int64, device=device)
        """Steps in a row that were not finite; the step that reached the limit, 0 for none."""
        self._recent: deque[tuple[int, int]] = deque(enumerate(batches, step - len(batches) + 1))

    def judge(self, sums: Tensor, step: int, batch: int) -> Tensor:
        """Return whether the step is to be left out (a device scalar): whether any of `sums` is not finite."""
        self._recent.append((step, batch))
        leave_out = ~torch.isfinite(sums).all()
        in_row, reached = self._state.unbind()
        in_row = torch.where(leave_out, in_row + 1, 0)
        reached = torch.where((reached == 0) & (in_row >= self.limit), step, reached)
        self._state = torch.stack([in_row, reached])
        return leave_out

    @property
    def state(self) -> Tensor:
        """What `settle` needs, on the device: to be read together with whatever else the host reads."""
        return self._state

    def settle(self, in_row: int, reached: int) -> Streak | None:
        """Take note of `state` as the host has read it; returns the steps that reached the limit, if any did."""
        if reached:
            found = [(step, batch) for step, batch in self._recent if reached - self.limit < step <= reached]
            return Streak(first_step=found[0][0], batches=tuple(batch for _, batch in found))
        while len(self._recent) > in_row:
            self._recent.popleft()
        return None

    @property
    def batches(self) -> list[int]:
        """Batches of the steps in a row that were not finite when `settle` was last called: to be saved."""
        return [batch for _, batch in self._recent]
