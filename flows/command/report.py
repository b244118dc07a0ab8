"""`olmo report`: the report of a corpus as one HTML file, fetched from the store, opened or copied."""

from __future__ import annotations

import argparse
import webbrowser
from pathlib import Path

from flows.command import choices, tables
from flows.command.project import find_project
from olmo_core.artifacts.manifest import Manifest
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.errors import InputError, OlmoError
from olmo_core.storage import Storage

PAGE = "report.html"
DESCRIPTION = """\
Fetch the report of a corpus's newest run: one HTML file with the waterfall, the distribution behind every threshold,
samples with what was found in them marked, and the recipe. It needs no network and no server. Without --to, the file of
a local store is named as it lies there; from S3 it is copied to `reports/` in the project's state folder.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument(
        "corpus", nargs="?", default="quickstart", help="name of the corpus, or name@tag (default: %(default)s)"
    )
    parser.add_argument("--open", action="store_true", help="show it in the browser")
    parser.add_argument("--to", metavar="FILE", help="copy it there")
    choices.add_store(parser)


def run(arguments: argparse.Namespace) -> int:
    """Carry out the command; returns its exit code."""
    store = choices.existing_store(arguments)
    manifest = store.manifest(store.resolve(f"report/{arguments.corpus}"))
    path = page_path(manifest)
    file = _file(store, manifest, path, arguments.to)
    if arguments.json:
        tables.show_json({"report": str(manifest.ref), "address": store.storage.url(path), "file": str(file)})
    else:
        print(file)
    if arguments.open and not webbrowser.open(file.as_uri()):
        raise OlmoError(f"there is no browser to open {file} with; copy it (`--to FILE`) to where there is one")
    return 0


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
