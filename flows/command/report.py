"""`olmo report`: the report of a corpus, or of evaluations, as one HTML file, fetched from the store, opened or copied."""

from __future__ import annotations

import argparse
import sys
import webbrowser
from pathlib import Path

from flows.command import choices, tables
from flows.command.project import find_project
from flows.command.usage import UsageError
from olmo_core.artifacts.manifest import Manifest
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.errors import InputError, OlmoError
from olmo_core.storage import Storage

PAGE = "report.html"
TEXTS = {"data-to-model": ("data-to-model-", "summary"), "ablate-data": ("ablation-", "ablation")}
"""Reports without a page: beginning of their names, and of their objects' (.txt, .md, .json)."""
DESCRIPTION = """\
Fetch the report of a corpus's newest run: one HTML file with the waterfall, the distribution behind every threshold,
samples with what was found in them marked, and the recipe. It needs no network and no server. Without --to, the file of
a local store is named as it lies there; from S3 it is copied to `reports/` in the project's state folder.

`olmo report evaluation NAME` does the same for the evaluations evaluation/NAME of a run's checkpoints, and for others that
are named beside it: scores with intervals, curves, what changed, clean and contaminated items. It is written when it is not there yet.

`olmo report data-to-model NAME` and `olmo report ablate-data NAME` print what stood at the end of such a run.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument(
        "what",
        nargs="*",
        default=["quickstart"],
        metavar="NAME",
        help="corpus, or corpus@tag (default: quickstart); or `evaluation` and names of evaluations, each perhaps with @tag or @pattern; or data-to-model, or ablate-data, and a recipe's name",
    )
    parser.add_argument(
        "--contaminated",
        default="auto",
        metavar="ARTIFACT",
        help="of evaluations: attributes/CORPUS-contaminated-items, or none (default: that of the corpus trained on)",
    )
    parser.add_argument("--open", action="store_true", help="show it in the browser")
    parser.add_argument("--to", metavar="FILE", help="copy it there")
    choices.add_store(parser)


def run(arguments: argparse.Namespace) -> int:
    """Carry out the command; returns its exit code."""
    store = choices.existing_store(arguments)
    if arguments.what[0] in TEXTS and len(arguments.what) == 2:
        return _text(store, arguments)
    manifest = _evaluations(store, arguments) if len(arguments.what) > 1 else _corpus(store, arguments.what[0])
    path = page_path(manifest)
    file = _file(store, manifest, path, arguments.to)
    if arguments.json:
        tables.show_json({"report": str(manifest.ref), "address": store.storage.url(path), "file": str(file)})
    else:
        print(file)
    if arguments.open and not webbrowser.open(file.as_uri()):
        raise OlmoError(f"there is no browser to open {file} with; copy it (`--to FILE`) to where there is one")
    return 0


def _text(store: ArtifactStore, arguments: argparse.Namespace) -> int:
    """Print the report of a chain or an ablation, or copy its Markdown."""
    prefix, stem = TEXTS[arguments.what[0]]
    manifest = store.manifest(store.resolve(f"report/{prefix}{arguments.what[1]}"))
    suffix = ".json" if arguments.json else ".md" if arguments.to else ".txt"
    raw = store.storage.read(manifest.object(f"{stem}{suffix}").path)
    if arguments.to:
        Path(arguments.to).expanduser().write_bytes(raw)
    else:
        print(raw.decode())
    return 0


def _corpus(store: ArtifactStore, name: str) -> Manifest:
    return store.manifest(store.resolve(f"report/{name}"))


def _evaluations(store: ArtifactStore, arguments: argparse.Namespace) -> Manifest:
    """Return the report of the evaluations that are named, written now if need be."""
    from olmo_core.evaluation import reporting

    if arguments.what[0] != "evaluation":
        raise UsageError(f"{' '.join(arguments.what)}: name one corpus, or `evaluation` and evaluations")
    manifests = [
        manifest
        for name, _, tags in (one.partition("@") for one in arguments.what[1:])
        for manifest in reporting.series(store, name, tags or "step*")
    ]
    refs = [one.ref for one in manifests]
    items = None
    if arguments.contaminated == "auto":
        items = reporting.contaminated_items(store, refs)
    elif arguments.contaminated != "none":
        items = store.resolve(arguments.contaminated)
    built = reporting.build_report(store, refs, reporting.labels_of(store, manifests), contaminated=items)
    if not built.reused:
        print(f"written: {built.ref}", file=sys.stderr)
    return built.manifest


def page_path(manifest: Manifest) -> str:
    """Return the page's path in the store. Raises InputError for a report of a time before there was one."""
    for one in manifest.objects:
        if one.key == PAGE:
            return one.path
    raise InputError(f"{manifest.ref} has no {PAGE}: it was made before there was one; run build-dolma again")


def _file(store: ArtifactStore, manifest: Manifest, path: str, to: str | None) -> Path:
    """Return a file with the page: where it lies, or a copy."""
    if to is None and store.storage.protocol == "file":
        target = Path(store.storage.url(path))
        if not target.is_file():
            raise InputError(
                f"{target} is not there any more; `olmo artifacts verify {manifest.ref}` tells what else is missing"
            )
        return target
    if to is None:
        folder = find_project().home / "reports"
        target = folder / f"{manifest.ref.name}-{manifest.ref.fingerprint[:12]}.html"
    else:
        target = Path(to).expanduser().absolute()
        if target.is_dir():
            target = target / f"{manifest.ref.name}.html"
    Storage(str(target.parent)).put(target.name, store.storage.read(path))
    return target
