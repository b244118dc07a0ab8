"""The command line in this process: exit codes, stores that are not there, verify, repair and gc as commands."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from flows.command import quickstart
from flows.command import run as command
from flows.command.main import main
from olmo_core.artifacts import lineage
from olmo_core.artifacts.store import ArtifactStore
from tests.ports import free_port
from tests.small_corpus import Run


def olmo(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    """Return exit code, output and errors of a command."""
    try:
        code = main(words)
    except SystemExit as ended:
        code = int(ended.code or 0)
    shown = capsys.readouterr()
    return code, shown.out, shown.err


READING = [
    ("artifacts", "ls"),
    ("artifacts", "show", "tokens/x"),
    ("artifacts", "verify"),
    ("artifacts", "gc"),
    ("artifacts", "lineage", "tokens/x"),
    ("artifacts", "tag", "tokens/x", "y"),
    ("waterfall", "x"),
    ("explain", "x"),
]


@pytest.mark.parametrize("words", READING)
def test_a_store_that_is_not_there(words: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, error = olmo(capsys, *words, "--store", str(tmp_path / "nosuch"))
    assert code == 1 and "there is no store at" in error and "--store or OLMO_STORE" in error
    assert not (tmp_path / "nosuch").exists()


WRONG = [
    ("artifacts", "ls", "nothing"),
    ("artifacts", "verify", "nothing"),
    ("artifacts", "show", "nothing/x"),
    ("artifacts", "gc", "--keep", "x"),
    ("artifacts", "gc", "--keep-days", "-1"),
    ("artifacts", "gc", "--delete", "--dry-run"),
    ("artifacts", "verify", "--workers", "0"),
    ("plan", "--sample", "0"),
    ("plan", "--sample", "1.5"),
    ("plan", "--limit", "0"),
    ("plan", "--language-threshold", "2"),
    ("plan", "--near-duplicate-jaccard", "0"),
    ("plan", "--max-bytes", "many"),
    ("plan", "--name", "No Name"),
    ("run", "nosuch"),
    ("run", "build-dolma", "--workers", "0"),
    ("run", "build-dolma", "--rebuild", "nosuch"),
    ("waterfall", "--examples", "-1"),
    ("down", "--grace", "-1"),
    ("up", "--wait", "soon"),
    ("status", "--runs", "-1"),
    ("nosuch",),
]


@pytest.mark.parametrize("words", WRONG)
def test_wrong_values_of_options_end_with_2(
    words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OLMO_STORE", str(tmp_path))
    code, out, error = olmo(capsys, *words)
    assert code == 2 and not out and error.strip()


def test_errors_end_with_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = ("--store", str(tmp_path))
    assert olmo(capsys, "artifacts", "ls", *store)[0] == 0, "a folder without artifacts is a store"
    assert olmo(capsys, "artifacts", "show", "tokens/x", *store)[0] == 1
    assert olmo(capsys, "plan", "--recipe", "nosuch", *store)[0] == 1


@pytest.fixture
def copied(small: Run, tmp_path: Path) -> ArtifactStore:
    shutil.copytree(small.folder / "store", tmp_path / "store")
    return ArtifactStore(str(tmp_path / "store"))


def test_verify_and_repair(small: Run, copied: ArtifactStore, capsys: pytest.CaptureFixture[str]) -> None:
    where = ("--store", copied.uri)
    code, out, _ = olmo(capsys, "artifacts", "verify", *where)
    assert code == 0 and f"{len(small.built)} artifacts" in out and "0 artifacts damaged" in out
    victims = [small.manifest(label).objects[0].path for label in ("quality/web", "mixing/all")]
    before = [copied.storage.read(path) for path in victims]
    for path in victims:
        copied.storage.put(path, b"x")
    code, out, _ = olmo(capsys, "artifacts", "verify", "corpus", *where)
    assert code == 1 and victims[1] in out and victims[0] not in out and "1 artifacts damaged" in out
    code, out, _ = olmo(capsys, "artifacts", "verify", "corpus/small", "--inputs", "--json", *where)
    assert code == 1 and len(json.loads(out)["damaged"]) == 2
    code, out, _ = olmo(capsys, "artifacts", "verify", "corpus/small", "--repair", "--workers", "1", *where)
    assert code == 0 and "2 artifacts damaged, 2 of them repaired" in out
    assert [copied.storage.read(path) for path in victims] == before
    copied.storage.delete(small.manifest("documents/web").objects[0].path)
    code, out, _ = olmo(capsys, "artifacts", "verify", "--repair", "--json", *where)
    (problem,) = json.loads(out)["not_repaired"].values()
    assert code == 1 and "give the recipe file with --recipe" in problem


def test_gc(small: Run, copied: ArtifactStore, capsys: pytest.CaptureFixture[str]) -> None:
    old = ("--keep-days", "0", "--attempt-hours", "0", "--store", copied.uri)
    code, _, error = olmo(capsys, "artifacts", "gc", "--delete", *old)
    assert code == 1 and "nothing has a tag" in error
    copied.tag(small.built["mixing/all"].ref, "latest")
    count = len(list(copied.storage.walk("")))
    code, out, _ = olmo(capsys, "artifacts", "gc", *old)
    assert code == 0 and "--delete does it" in out and len(list(copied.storage.walk(""))) == count
    told = json.loads(olmo(capsys, "artifacts", "gc", "--delete", "--json", *old)[1])
    kept = {one.manifest.ref.address for one in lineage.backward(small.store, small.built["mixing/all"].ref)}
    gone = {one["address"] for one in told["waste"] if one["what"] == "artifact"}
    assert gone == {built.ref.address for built in small.built.values()} - kept and len(gone) >= 3
    assert len(list(copied.storage.walk(""))) == count - told["objects"]
    assert olmo(capsys, "artifacts", "verify", "--store", copied.uri)[0] == 0
    assert json.loads(olmo(capsys, "artifacts", "gc", "--json", *old)[1])["objects"] == 0


def test_an_estimate_says_what_it_counts(small: Run) -> None:
    manifests = {label: small.manifest(label) for label in small.built}
    cpu = sum(one.cpu_seconds for one in manifests.values())
    assert command._estimate(manifests, 2)["CPU seconds"] >= round(cpu) > 0
    said = command._counted(manifests, 12.2)
    assert "this trial took 12 s; its stages' work is" in said and f"{cpu:.1f} CPU seconds" in said


def test_the_quickstart_tells_errors_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A server that is gone since `olmo up`, and Ctrl-C while the run is followed."""
    monkeypatch.setenv("OLMO_HOME", str(tmp_path))
    monkeypatch.setenv("OLMO_PORT", str(free_port()))
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.setattr(sys, "argv", ["quickstart"])
    monkeypatch.setattr("flows.command.main.main", lambda words: 0)
    monkeypatch.chdir(tmp_path)
    assert quickstart.main() == 1
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith("make quickstart: POST http://127.0.0.1:") and "refused; is the server up" in said
    monkeypatch.setattr(quickstart, "start", lambda *words: "x")
    monkeypatch.setattr(quickstart, "follow", lambda *words: signal.default_int_handler(signal.SIGINT, None))
    assert quickstart.main() == 130
    assert capsys.readouterr().err.startswith("make quickstart: interrupted: the run goes on; `olmo watch` follows it")


SETTINGS = """
import json, sys
import flows.command.run, flows.command.run_chain, flows.command.run_training
assert "prefect" not in sys.modules
flows.command.run.prefect_environment()
import tasks.session
from prefect.settings import get_current_settings as settings
from prefect._internal.analytics import is_telemetry_enabled
print(json.dumps([settings().results.default_serializer, str(settings().home), is_telemetry_enabled()]))
"""


def test_prefect_is_imported_with_the_settings_of_runs(tmp_path: Path) -> None:
    """Results, if there were any, as JSON and not a pickle; nothing in the user's ~/.prefect; nothing told to Prefect's makers."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "OLMO_", "CI"))}
    kept |= {"HOME": str(tmp_path), "OLMO_HOME": str(tmp_path / "olmo"), "OLMO_PORT": str(free_port())}
    done = subprocess.run([sys.executable, "-c", SETTINGS], env=kept, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == ["json", str(tmp_path / "olmo" / "prefect-run"), False]
    assert not (tmp_path / ".prefect").exists()


READERS = [
    ("explain", "w0-0", "--corpus", "small"),
    ("waterfall", "small"),
    ("artifacts", "verify"),
    ("artifacts", "lineage", "report/small"),
]
ENDING = """
import os, sys, time
from flows.command import run as command
from flows.command.main import main
code = main(sys.argv[1:])
deadline = time.monotonic() + 60  # a thread that is joined may stand there a moment longer
def named(thread):
    try:
        return open(f"/proc/self/task/{thread}/comm").read()
    except OSError:  # it has gone meanwhile
        return "jemalloc"
def threads():
    return [one for one in os.listdir("/proc/self/task") if not named(one).startswith("jemalloc")]
while len(threads()) > 1 and time.monotonic() < deadline:
    os.sched_yield()
print(len(threads()), file=sys.stderr)
sys.exit(code)
"""


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="lists its threads in /proc")
@pytest.mark.parametrize("words", READERS, ids=" ".join)
def test_a_command_that_reads_leaves_no_thread(words: tuple[str, ...], small: Run, tmp_path: Path) -> None:
    """`explain` had printed all it knew and then died of SIGABRT: a thread of Arrow's met the interpreter's end."""
    shutil.copytree(small.folder / "store", tmp_path / "store")
    store = ArtifactStore(str(tmp_path / "store"))
    store.tag(small.built["report/all"].ref, "latest")
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", ENDING, *words, "--store", str(tmp_path / "store")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=800)
    assert done.returncode == 0 and done.stdout, done.stderr
    assert done.stderr.split() == ["1"], "the main thread, and no other"
