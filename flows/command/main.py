"""The `olmo` command: its subcommands, and how their errors and exit codes reach the shell.

A subcommand is a module with `DESCRIPTION`, `add_arguments(parser)` and `run(arguments) -> exit code`. Only
the module that is asked for is imported, so that `olmo --help` answers at once.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import traceback
from collections.abc import Callable, Sequence

from flows.command.usage import UsageError
from olmo_core.errors import OlmoError
from olmo_core.redaction import redacted

COMMANDS: dict[str, tuple[str, str]] = {
    "up": ("flows.command.up", "start the Prefect server and this project's workers, and deploy its flows"),
    "down": ("flows.command.down", "end this project's flow runs, workers and Prefect server"),
    "deploy": ("flows.command.deploy", "pools, deployments and automations on a server that runs elsewhere"),
    "run": ("flows.command.run", "run a flow in this process"),
    "plan": ("flows.command.plan", "what a run would build or reuse, and why"),
    "waterfall": ("flows.command.waterfall", "what each stage of a corpus kept and dropped"),
    "artifacts": (
        "flows.command.artifacts",
        "list, show, verify, repair, tag, trace and clean up what is in the store",
    ),
    "report": ("flows.command.report", "fetch or open the report of a corpus or of evaluations: a page with plots"),
    "reproduce": ("flows.command.reproduce", "make an artifact again elsewhere, and compare stage by stage"),
    "browse": ("flows.command.browse", "the store as web pages: artifacts, samples, curves, scores, lineage"),
    "assets": ("flows.command.assets", "outside files: tokenizer, models, word lists"),
    "evaluate": ("flows.command.evaluate", "score checkpoints or Hugging Face models on benchmarks and texts"),
    "export": ("flows.command.export", "a corpus or a checkpoint in another tool's format; benchmarks as files"),
    "generate": ("flows.command.generate", "text from a checkpoint"),
    "explain": ("flows.command.explain", "why one document was kept or dropped, and where its tokens are"),
    "inspect": ("flows.command.inspect_training", "which documents a training step saw, which steps saw a document"),
    "watch": ("flows.command.watch", "follow a flow run, and what it has started, to its end"),
    "status": ("flows.command.status", "what runs: server, workers, deployments, last runs"),
}
"""Name -> (module, one line for `olmo --help`), in the order in which they are listed."""

EXIT_CODES = """\
exit codes: 0 done; 1 it failed, or what was asked about is not well; 2 wrong usage; 130 interrupted
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line; returns the exit code (argparse itself exits with 2 on wrong usage, 0 on --help)."""
    argv = list(sys.argv[1:] if argv is None else argv)
    arguments = _parser(argv).parse_args(argv)
    arguments.words = argv
    module = COMMANDS[arguments.command][0]
    return reported(f"olmo {arguments.command}", lambda: int(importlib.import_module(module).run(arguments)))


def reported(program: str, run: Callable[[], int]) -> int:
    """Return the exit code of what a program does; an error is told in its name on standard error."""
    try:
        code = run()
        sys.stdout.flush()
        return code
    except OlmoError as error:
        sys.stdout.flush()
        print(f"{program}: {error}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    except BrokenPipeError:
        # The reader (`olmo status | head`) has seen enough; the interpreter must not complain about it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt as interrupt:
        print(f"{program}: interrupted{': ' if interrupt.args else ''}{interrupt}", file=sys.stderr)
        return 130
    except Exception:
        # A bug, or an error that nobody foresaw: the traceback as it is, but for credentials.
        sys.stdout.flush()
        print(redacted(traceback.format_exc()), file=sys.stderr)
        return 1


def _parser(argv: Sequence[str]) -> argparse.ArgumentParser:
    """The parser with the options of the one subcommand that `argv` names."""
    parser = argparse.ArgumentParser(
        prog="olmo", description="Raw text in, versioned tokens and checkpoints out.", epilog=EXIT_CODES
    )
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    wanted = next((word for word in argv if not word.startswith("-")), None)
    for name, (module, summary) in COMMANDS.items():
        subparser = subparsers.add_parser(name, help=summary, formatter_class=argparse.RawDescriptionHelpFormatter)
        if name == wanted:
            command = importlib.import_module(module)
            subparser.description = command.DESCRIPTION
            command.add_arguments(subparser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
