"""What there is of a run that has no artifact yet: `olmo artifacts show run/NAME` says it instead of naming nothing."""

from __future__ import annotations

from olmo_core.artifacts.ref import Kind
from olmo_core.artifacts.store import ArtifactStore, parse_address
from olmo_core.errors import OlmoError
from olmo_core.train import retention
from olmo_core.train.run_file import RunFile, step_tag
from olmo_core.train.run_record import RunRecord, run_from_folder


def unfinished(store: ArtifactStore, address: str) -> str:
    """Return a message on the unfinished runs that an address names, "" where it names none."""
    parts, tag = parse_address(address)
    if parts[0] != Kind.RUN or tag not in ("", "latest"):
        return ""
    found = []
    for short in store.storage.folders(f"{Kind.RUN}/{parts[1]}"):
        folder = f"{Kind.RUN}/{parts[1]}/{short}"
        if len(parts) == 3 and not short.startswith(parts[2][: len(short)]):
            continue
        if store.storage.exists(f"{folder}/run.json") and not store.storage.exists(f"{folder}/manifest.json"):
            found.append(_about(store, run_from_folder(store, folder)))
    return "\n".join(found)


def _about(store: ArtifactStore, run: RunFile) -> str:
    record = RunRecord(store=store, run=run.ref)
    try:
        record.refresh()
    except OlmoError:
        pass  # what could be read of it
    lines = [f"{run.ref} is unfinished: it has no artifact before its last step, {run.recipe.steps:,}."]
    if (newest := next(iter(retention.committed(store, run)), None)) is not None:
        step, tokens = int(newest.counts["step"]), int(newest.counts["tokens"])
        name = f"{run.ref.name}@{step_tag(step, tokens)}"
        lines.append(
            f"Its last checkpoint is of step {step:,}: `olmo artifacts show {newest.ref}`, `olmo generate {name}`."
        )
    else:
        lines.append("It has no checkpoint yet.")
    if record.events:
        last = list(record.events.values())[-1]
        lines.append(f"Last event, {last.get('time', 'of an unknown time')}: {last.get('kind')}: {last.get('message')}")
    lines.append("It goes on with the command that started it, or `prefect flow-run retry ID` of its train-olmo.")
    return "\n".join(lines)
