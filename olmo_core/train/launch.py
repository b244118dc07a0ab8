"""`python -m olmo_core.train.launch [options] RUN.json`: the ranks of one machine, by torchrun, with their exit code.

torchrun ends with 1 whatever its ranks ended with, and kills them 30 s after SIGTERM. This process starts torchrun and

- ends as the ranks did: 0 done; 75 when all ranks that ended otherwise were preempted; 1 when one failed or was killed;
- passes SIGTERM, Ctrl-C and SIGHUP on to the ranks themselves, as SIGTERM, so that they have as long to save as the sender
  allows; one that is only starting finds word of it (`told_by`); a second Ctrl-C kills them;
- leaves nothing behind: ranks that outlive torchrun (it was killed) become its children, and are ended;
- runs the trainer, or with `--module olmo_core.evaluation` an EVAL.json;
- writes the code to a file, for whoever comes back to ask after its own process was killed.

Each rank says how it ended in the folder that OLMO_EXIT_CODES names (`olmo_core.train.rank`). Needs only the standard
library, and Linux; torch is imported by the ranks.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

DONE, FAILED, PREEMPTED = 0, 1, 75
"""As in `run_file`, which needs more than the standard library."""
EXIT_CODES = "OLMO_EXIT_CODES"
"""Environment variable: folder in which each rank leaves its exit code, in a file named after the rank."""
SAID = "said"
"""File there with what rank 0 said of a preemption."""
TOLD, BEGUN, FAILURE = "told", "begun", "failure"
"""Files there: the ranks are to end (the signal's name), left just before they are told; a rank has begun what it is for; what the
first one that failed said.
"""
TRAINER, EVALUATION = "olmo_core.train", "olmo_core.evaluation"
"""What ranks may run."""
MODULE = "OLMO_RANK_MODULE"
"""Environment variable of the ranks that names it."""
GO = "go\n"
"""What `--await-go` waits for on its standard input."""

_DEATH_SIGNAL, _SUBREAPER = 1, 36
"""Options of prctl(2): PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER."""
_PATIENCE = 10.0
"""Seconds between asking what is left behind to end and killing it."""
_LOOK = 0.1
"""Seconds between two looks where more than signals is waited for."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the ranks of this machine to their end; returns the exit code."""
    signals = _Signals()
    arguments = _parser().parse_args(argv)
    if arguments.await_go and not _may_go(signals):
        return FAILED  # who started this is gone before it has written down that it did
    with tempfile.TemporaryDirectory(prefix="olmo-exit-codes-") as folder:
        code = _run(torchrun(arguments), Path(folder), arguments, signals)
        if arguments.exit_file:
            write_code(Path(arguments.exit_file), code)
        if code == FAILED or (code == PREEMPTED and arguments.module == TRAINER):
            # After torchrun's own traceback, which tells nothing of it.
            print(last_word(Path(folder), code, killed=signals.kill), file=sys.stderr, flush=True)  # noqa: T201
    return code


def _may_go(signals: _Signals) -> bool:
    """Wait for leave to start, and return whether it came; told to end meanwhile there is no more to wait for."""
    while not signals.told:
        signals.look()
        if select.select([sys.stdin], [], [], _LOOK)[0]:
            return sys.stdin.readline() == GO
    return True


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m olmo_core.train.launch", description=__doc__)
    parser.add_argument("run_file", metavar="RUN.json")
    parser.add_argument("--processes", type=int, default=1, metavar="N", help="ranks on this machine")
    parser.add_argument("--nodes", type=int, default=1, metavar="N", help="machines")
    parser.add_argument("--rendezvous", metavar="HOST:PORT", help="where the machines meet; needed for more than one")
    parser.add_argument("--id", default="olmo", help="name of the rendezvous")
    parser.add_argument("--exit-file", metavar="FILE", help="file for the exit code")
    parser.add_argument("--module", default=TRAINER, choices=(TRAINER, EVALUATION), help="what the ranks run")
    parser.add_argument("--await-go", action="store_true", help="start when `go` is read from the standard input")
    return parser


def torchrun(arguments: argparse.Namespace) -> list[str]:
    """Return the command line of torchrun."""
    command = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={arguments.processes}"]
    if arguments.nodes == 1:
        # By number: the machine's own name need not lead anywhere (a container), and torchrun would try it for minutes.
        command += ["--standalone", "--local-addr=127.0.0.1"]
    else:
        command += [f"--nnodes={arguments.nodes}", "--rdzv-backend=c10d", f"--rdzv-id={arguments.id}"]
        command += [f"--rdzv-endpoint={arguments.rendezvous}"]
    # Not SIGTERM: schedulers send it to every process, and torchrun would kill its ranks 30 s later.
    return [
        *command,
        "--signals-to-handle=SIGINT",
        "--max-restarts=0",
        "-m",
        "olmo_core.train.rank",
        arguments.run_file,
    ]


def _run(command: Sequence[str], folder: Path, arguments: argparse.Namespace, signals: _Signals) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_SUBREAPER, 1, 0, 0, 0)

    def of_torchrun() -> None:
        # Should this process be killed, torchrun is told by SIGINT, and tells its ranks.
        libc.prctl(_DEATH_SIGNAL, signal.SIGINT, 0, 0, 0)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell's background jobs ignore it
        signals.unblock()

    signals.look()
    if signals.told:
        return PREEMPTED
    of_ranks = {EXIT_CODES: str(folder), MODULE: arguments.module}
    # In a process group of its own: a terminal sends Ctrl-C to all of this one's, and torchrun would kill its ranks 30 s later.
    # (Ctrl-Z then stops this process alone.)
    process = subprocess.Popen(command, env={**os.environ, **of_ranks}, preexec_fn=of_torchrun, process_group=0)
    while (code := process.poll()) is None:
        if signals.look(_LOOK * 10):
            _leave_told(folder, signals.name)
            if ranks := children(process.pid):
                _send(signal.SIGKILL if signals.kill else signal.SIGTERM, ranks)
            else:
                _send(signal.SIGKILL if signals.kill else signal.SIGINT, [process.pid])
    _end_orphans(folder, signals)
    told = signals.told and not signals.kill and not (folder / BEGUN).exists()
    return job_code(code, rank_codes(folder), arguments.processes, told=told)


class _Signals:
    """What this process is told by SIGTERM, SIGINT (Ctrl-C) and SIGHUP: they are kept until it looks, so that none comes amid anything."""

    def __init__(self) -> None:
        self.name = ""
        """Of the first that came; "" while none has."""
        self._interrupted = 0
        self._heard = {signal.SIGTERM, signal.SIGINT}
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup
            self._heard.add(signal.SIGHUP)
        # A child's end is waited for in the same place.
        self._before = signal.pthread_sigmask(signal.SIG_BLOCK, {*self._heard, signal.SIGCHLD})

    @property
    def told(self) -> bool:
        """Whether the ranks are to end."""
        return self.name != ""

    @property
    def kill(self) -> bool:
        """Whether they are not to save: Ctrl-C came twice."""
        return self._interrupted > 1

    def unblock(self) -> None:
        """Undo what it has done to signals, for a process that is started."""
        signal.pthread_sigmask(signal.SIG_SETMASK, self._before)

    def look(self, seconds: float = 0) -> bool:
        """Return whether anything is to be passed on; wait so long for it, or until a child has ended."""
        found = signal.sigtimedwait({*self._heard, signal.SIGCHLD}, seconds)
        news = False
        while found is not None:
            if found.si_signo in self._heard:
                self.name = self.name or signal.Signals(found.si_signo).name
                self._interrupted += found.si_signo == signal.SIGINT
                news = True
            found = signal.sigtimedwait({*self._heard, signal.SIGCHLD}, 0)
        return news


def _leave_told(folder: Path, name: str) -> None:
    """Leave it before the signal: a rank whose handler is not yet in place ignores that, as torchrun does, and looks here then."""
    with contextlib.suppress(OSError):  # a full disk; all others hear the signal
        (folder / TOLD).write_text(name, encoding="ascii")


def _send(number: int, to: Sequence[int]) -> None:
    for pid in to:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def job_code(torchrun_code: int, codes: Sequence[int], ranks: int, *, told: bool = False) -> int:
    """Return the exit code of a job from torchrun's, those that its ranks left, and how many ranks there were.

    `told`: it was asked to end before any rank had begun; where none left a code it is to be started again.
    """
    if torchrun_code == 0 or (len(codes) == ranks and set(codes) == {DONE}):
        return DONE  # a signal may end a rank that has done all and said so, and torchrun then tells of that
    if told and not codes:
        return PREEMPTED
    # A rank that left no code was killed; its fellows may well have saved and ended with 75 when torchrun told them to.
    return PREEMPTED if len(codes) == ranks and set(codes) <= {DONE, PREEMPTED} and PREEMPTED in codes else FAILED


def told_by() -> str:
    """Return the name of the signal for which this rank's launcher has told its ranks to end; "" where it has not, or there is none."""
    if folder := os.environ.get(EXIT_CODES):
        with contextlib.suppress(FileNotFoundError):
            # Without a name amid the writing of it, and for orphans of a torchrun that was killed.
            return (Path(folder) / TOLD).read_bytes().decode() or signal.SIGTERM.name
    return ""


def leave_code(code: int) -> None:
    """Leave this rank's exit code for its launcher; nothing where there is none. One that cannot be left counts as failed."""
    if folder := os.environ.get(EXIT_CODES):
        with contextlib.suppress(OSError):  # a full disk may not keep a rank from ending
            write_code(Path(folder) / os.environ.get("RANK", "0"), code)


def leave_begun() -> None:
    """Leave word that this rank has begun what it is for."""
    _leave(BEGUN, "")


def leave_word(text: str) -> None:
    """Leave word of how this run ends, for `last_word`."""
    _leave(SAID, text)


def leave_failure(message: str) -> None:
    """Leave the error by which this rank ends, for `last_word`; the first rank's counts."""
    _leave(FAILURE, message, mode="x")


def _leave(name: str, text: str, mode: Literal["w", "x"] = "w") -> None:
    """Leave a file for this rank's launcher; nothing where there is none. A full disk may not keep a rank from ending."""
    if folder := os.environ.get(EXIT_CODES):
        with contextlib.suppress(OSError), open(Path(folder) / name, mode, encoding="utf-8") as file:
            file.write(text)


def last_word(folder: Path, code: int = PREEMPTED, *, killed: bool = False) -> str:
    """Return the last lines of the log of a job that failed or was preempted: why, or what was saved, and how it goes on."""
    if killed and code == FAILED:
        return "interrupted a second time: nothing is saved since the last checkpoint"
    if code == FAILED:
        failure = folder / FAILURE
        why = (
            failure.read_text(encoding="utf-8")
            if failure.is_file()
            else "no rank said why: one was killed, or its traceback is above"
        )
        return f"failed: {why}"
    said, codes = folder / SAID, rank_codes(folder)
    if said.is_file():
        what = f"preempted: {said.read_text(encoding='utf-8')}."
    elif codes:
        what = "preempted; the log of the machine with rank 0 says what was saved."
    else:
        what = "preempted before it had begun: nothing was lost."
    above = f"what torchrun reports above is its way to tell of exit code {PREEMPTED}. " if codes else ""
    return (
        f"{what}\nNo error: {above}Started again, the run goes on from there; the flow train-olmo does so by itself unless it was "
        "cancelled."
    )


def rank_codes(folder: Path) -> list[int]:
    """Return the exit codes that ranks have left in a folder."""
    found = (path.read_text(encoding="ascii").strip() for path in folder.iterdir() if path.name.isdigit())
    return [int(text) for text in found]


def write_code(path: Path, code: int) -> None:
    """Write an exit code so that a reader sees all of it or nothing."""
    temporary = path.with_name(f"{path.name}.tmp")
    temporary.write_text(f"{code}\n", encoding="ascii")
    temporary.replace(path)


def children(pid: int) -> list[int]:
    """Return the child processes of a process."""
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
        return [int(word) for word in text.split()]
    except OSError:
        return []


def _end_orphans(folder: Path, signals: _Signals) -> None:
    """End the ranks that outlived torchrun; this process has become their parent."""
    deadline = time.monotonic() + _PATIENCE
    told: set[int] = set()
    while left := children(os.getpid()):
        _leave_told(folder, signals.name)
        for pid in left:
            with contextlib.suppress(ChildProcessError):
                if os.waitpid(pid, os.WNOHANG) != (0, 0):
                    continue
            kill = signals.kill or (pid in told and time.monotonic() > deadline)
            if pid not in told or kill:
                _send(signal.SIGKILL if kill else signal.SIGTERM, [pid])
                told.add(pid)
        signals.look(_LOOK)


if __name__ == "__main__":
    sys.exit(main())
