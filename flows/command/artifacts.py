"""`olmo artifacts`: list, show, verify, tag, trace and clean up what is in the store."""

from __future__ import annotations

import argparse

from flows.command import artifacts_gc, artifacts_lineage, artifacts_verify, choices, tables
from flows.command.artifacts_trained import trained
from flows.command.artifacts_unfinished import unfinished
from flows.command.usage import UsageError
from olmo_core.artifacts.ledger import Ledger
from olmo_core.artifacts.manifest import Manifest
from olmo_core.artifacts.ref import Kind
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.errors import RecipeError
from olmo_core.report.markdown import size

DESCRIPTION = """\
Look into the artifact store. An artifact is named kind/name (its tag `latest`), kind/name@tag, or kind/name/fingerprint
(cut to any unambiguous beginning). Kinds: inventory, documents, attributes, corpus, tokens, model, report, ...
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    ls = actions.add_parser("ls", help="list finished artifacts")
    ls.add_argument("what", nargs="?", default="", metavar="KIND[/NAME]", help="only this kind, or this name")
    show = actions.add_parser("show", help="one artifact: ledger, inputs, recipe, objects")
    show.add_argument("artifact", type=choices.address)
    verify = actions.add_parser(
        "verify", help="check every object, and repair what is damaged", description=artifacts_verify.DESCRIPTION
    )
    artifacts_verify.add_arguments(verify)
    gc = actions.add_parser("gc", help="show, or delete, what nothing refers to", description=artifacts_gc.DESCRIPTION)
    artifacts_gc.add_arguments(gc)
    trace = actions.add_parser(
        "lineage",
        help="what an artifact was made from, what was made from it, who has a document",
        description=artifacts_lineage.DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    artifacts_lineage.add_arguments(trace)
    tag = actions.add_parser("tag", help="give an artifact another human name")
    tag.add_argument("artifact", type=choices.address)
    tag.add_argument("tag")
    for one in (ls, show, verify, gc, trace, tag):
        choices.add_store(one)


def run(arguments: argparse.Namespace) -> int:
    """Carry out the command; returns its exit code."""
    store = choices.existing_store(arguments)
    actions = {
        "ls": _list,
        "show": _show,
        "verify": artifacts_verify.run,
        "gc": artifacts_gc.run,
        "lineage": artifacts_lineage.run,
        "tag": _tag,
    }
    return actions[arguments.action](store, arguments)


def _list(store: ArtifactStore, arguments: argparse.Namespace) -> int:
    kind, _, name = arguments.what.partition("/")
    if kind and kind not in set(Kind):
        raise UsageError(f"there is no kind {kind!r}; the kinds are {', '.join(Kind)}")
    tags: dict[str, list[str]] = {}
    manifests = sorted(store.finished(kind or None, name or None), key=lambda m: (str(m.ref.kind), m.ref.name, m.ended))
    for one_kind, one_name in {(str(m.ref.kind), m.ref.name) for m in manifests}:
        for tag, ref in store.tags(one_kind, one_name).items():
            tags.setdefault(str(ref), []).append(tag)
    if arguments.json:
        tables.show_json([{**_facts(m), "tags": tags.get(str(m.ref), [])} for m in manifests])
        return 0
    if not manifests:
        print(f"no finished artifacts{' of ' + arguments.what if arguments.what else ''} in {store.uri}")
        return 0
    rows = [
        (
            str(m.ref),
            m.ledger.kept.documents or None,
            size(_bytes(m)),
            len(m.objects),
            m.ended,
            " ".join(tags.get(str(m.ref), [])),
        )
        for m in manifests
    ]
    tables.show(rows, ("artifact", "documents", "stored", "objects", "ended", "tags"), left=1)
    return 0


def _facts(manifest: Manifest) -> dict[str, object]:
    return {
        "artifact": str(manifest.ref),
        "fingerprint": manifest.ref.fingerprint,
        "stage": manifest.stage,
        "ledger": manifest.ledger.to_json(),
        "counts": manifest.counts,
        "bytes": _bytes(manifest),
        "objects": len(manifest.objects),
        "ended": manifest.ended,
    }


def _bytes(manifest: Manifest) -> int:
    return sum(o.size for o in manifest.objects)


def _show(store: ArtifactStore, arguments: argparse.Namespace) -> int:
    try:
        manifest = store.manifest(store.resolve(arguments.artifact))
    except RecipeError:
        if said := unfinished(store, arguments.artifact):
            raise RecipeError(said) from None
        raise
    if arguments.json:
        tables.show_json(
            {
                **_facts(manifest),
                "version": manifest.version,
                "recipe": manifest.recipe,
                "inputs": {role: str(ref) for role, ref in manifest.inputs.items()},
                "environment": manifest.environment,
                "objects": [o.to_json() for o in manifest.objects],
            }
        )
        return 0
    environment, used = manifest.environment, ""
    if manifest.peak_memory_bytes:  # of what a trainer used the run's own figures tell
        used = f", {manifest.cpu_seconds:.1f} CPU seconds, peak {size(manifest.peak_memory_bytes)}"
    print(
        f"{manifest.ref}\nfingerprint  {manifest.ref.fingerprint}\nstage        {manifest.stage}, version {manifest.version}"
    )
    print(f"made         {manifest.started} to {manifest.ended}{used}")
    print(
        f"by           olmo-flows {environment.get('olmo-flows')} at {environment.get('commit') or 'no commit'}, Python {environment.get('python')}"
    )
    for name, value in trained(store, manifest):
        print(f"{name:<12} {value}")
    if manifest.ledger != Ledger():
        _show_ledger(manifest.ledger)
    print("\ninputs")
    for role, ref in sorted(manifest.inputs.items()):
        print(f"  {role}: {ref}")
    print("\nrecipe")
    tables.show_json(manifest.recipe)
    print("\nobjects")
    tables.show(
        [(o.key, o.rows, size(o.size), o.sha256[:16], o.path) for o in manifest.objects],
        ("key", "rows", "size", "sha256", "path"),
    )
    return 0


def _show_ledger(ledger: Ledger) -> None:
    print("\nledger")
    lines = [
        ("in", ledger.read),
        ("repeated", ledger.repeated),
        *sorted(ledger.dropped.items()),
        *sorted(ledger.quarantined.items()),
        ("kept", ledger.kept),
    ]
    tables.show([(name, t.documents, size(t.bytes)) for name, t in lines], ("", "documents", "text"))


def _tag(store: ArtifactStore, arguments: argparse.Namespace) -> int:
    ref = store.resolve(arguments.artifact)
    store.tag(ref, arguments.tag)
    print(f"{ref.kind}/{ref.name}@{arguments.tag} is {ref}")
    return 0
