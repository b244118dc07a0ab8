"""data-to-model through its deployments: a stage fails and is rerun alone; the summary; reuse; what is wrong is said before."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.command import password
from flows.command.following import Followed
from flows.command.main import main
from flows.command.project import Project
from olmo_core.artifacts.store import ArtifactStore
from tests.flows.conftest import ROOT, Services, done, eventually, wait_until
from tests.flows.in_sight import KEY, SECRET, CommandLines, places_that_show_it
from tests.flows.test_train_olmo import ended
from tests.pickles import pickles
from tests.report import devtools
from tests.small_corpus import passages, record, write_jsonl

pytestmark = [pytest.mark.timeout(4500), pytest.mark.slow]
VARIANTS = [{"name": "whole"}, {"name": "long", "changes": {"sources.web.rules.too_few_words.value": 200}}]


def recipes(folder: Path) -> Path:
    """Write a chain of a few dozen documents and a model of some ten thousand parameters beside the embedding; returns its file."""
    texts = passages()[:120]
    write_jsonl(folder / "web" / "a.jsonl", [record(f"d{i}", text) for i, text in enumerate(texts)])
    rule = {"name": "too_few_words", "column": "gopher_word_count", "drop_if": "<", "value": 20}
    corpus = {
        "name": "chained", "shard_bytes": 100000, "content": {"kind": "lexicon"},
        "held_out": [{"name": "validation", "fraction": 0.1}],
        "sources": [{"read": {"kind": "dolma-jsonl", "name": "web", "paths": [f"{folder}/web/*"]}, "rules": [rule]}],
    }  # fmt: skip
    training = {
        "name": "chained-model", "model": {"preset": "tiny", "width": 16, "layers": 1, "heads": 1, "mlp_width": 16},
        "tokens": 20 * 4 * 64, "batch": 4, "data": {"sequence_length": 64}, "schedule": {"warmup": 2},
        "optimizer": {"learning_rate": 0.01, "eps": 1.0e-8},
    }  # fmt: skip
    evaluation = {
        "name": "texts",
        "domains": [
            {"name": "held-out", "corpus": "corpus/none", "tokens": 2000},
            {"name": "late", "folder": f"{folder}/late"},
        ],
    }
    chain = {
        "name": "chained", "corpus": {"recipe": "corpus.yaml"}, "training": {"recipe": "training.yaml"},
        "evaluation": {"recipe": "evaluation.yaml"}, "sample": {"prompt": "The", "tokens": 8}, "prices": {"cpu_hour": 1.0},
    }  # fmt: skip
    for name, values in (("corpus", corpus), ("training", training), ("evaluation", evaluation), ("chain", chain)):
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    return folder / "chain.yaml"


def start(services: Services, flow: str, file: Path, store: ArtifactStore) -> str:
    trainer = {"device": "cpu", "save_every": 100, "evaluate_batches": 2, "tensorboard": f"{file.parent}/board"}
    resources = {
        "store": store.uri,
        "workers": 1,
        "training": {"threads": 1, "trainer": trainer},
        "credentials_block": "chain",
    }
    words = ("-p", f"recipe={file}", "-p", f"resources={json.dumps(resources)}")
    found = re.search(r"UUID: ([0-9a-f-]{36})", done(services.prefect("deployment", "run", flow, *words)))
    assert found
    return found.group(1)


def children(services: Services, parent: str) -> dict[str, dict[str, Any]]:
    """The runs that a run has started, by the flow's name."""
    flows = {one["id"]: one["name"] for one in services.api.find("flows")}
    found = services.api.find("flow_runs", flow_runs={"parent_flow_run_id": {"any_": [parent]}})
    return {flows[one["flow_id"]]: one for one in found}


@dataclass(frozen=True, kw_only=True)
class Chained:
    """A run of data-to-model that failed in its last stage and was retried to its end."""

    folder: Path
    """With recipes, texts, store and TensorBoard's events."""
    file: Path
    store: ArtifactStore
    before: list[dict[str, str]]
    """What `--plan` told of each stage before anything was built."""
    parent: str
    """Id of the run."""
    first: dict[str, dict[str, Any]]
    """The runs of its stages after the first try, by the flow's name."""
    again: dict[str, dict[str, Any]]
    """The same after the retry."""


def planned(file: Path, store: ArtifactStore) -> list[dict[str, str]]:
    with contextlib.redirect_stdout(io.StringIO()) as said:
        assert main(["run", "data-to-model", str(file), "--store", store.uri, "--plan", "--json"]) == 0
    stages: list[dict[str, str]] = json.loads(said.getvalue())["stages"]
    return stages


@pytest.fixture(scope="module")
def chained(running_services: Services, tmp_path_factory: pytest.TempPathFactory) -> Chained:
    """Evaluation fails for want of a text, which is written then; a retry of the parent completes it. Made once."""
    services, folder = running_services, tmp_path_factory.mktemp("chained")
    file, store = recipes(folder), ArtifactStore(str(folder / "store"))
    before = planned(file, store)
    services.save_block("chain", {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET})
    with CommandLines() as lines:
        parent = start(services, "data-to-model", file, store)
        state = ended(services, parent, seconds=900)
    assert any(b"olmo_core.train" in line for line in lines.seen) and not lines.showing
    assert state["type"] == "FAILED" and "/late has no file that ends with" in state["message"], state
    first = children(services, parent)

    write_jsonl(folder / "late" / "prose.jsonl", [record("late", passages()[130])])
    done(services.prefect("flow-run", "retry", parent))
    wait_until(lambda: services.run(parent)["run_count"] == 2, seconds=900, what="the second try")
    assert ended(services, parent, seconds=900)["type"] == "COMPLETED", services.run(parent)["state"]
    again = children(services, parent)
    return Chained(folder=folder, file=file, store=store, before=before, parent=parent, first=first, again=again)


def test_the_dashboard_shows_the_chain(
    browser: str, running_services: Services, chained: Chained, tmp_path: Path
) -> None:
    """In a browser: the run, the runs it has started and its card; and the tasks of the curation."""
    runs = f"http://127.0.0.1:{running_services.port}/v2/runs"
    kept = password.stored(Project(directory=ROOT, home=running_services.home)) or ""
    with devtools.tab(browser, tmp_path / "profile") as tab:

        def shows(address: str, *words: str) -> None:
            tab.show(address, 1400)
            script = f"{json.dumps(words)}.every(word => document.body.innerText.includes(word))"
            wait_until(lambda: tab.ask(script), seconds=600, what=f"{words} at {address}")

        shows(runs, "Login")
        # Where its form keeps the password.
        tab.ask(f"localStorage.setItem('prefect-password', '{base64.b64encode(kept.encode()).decode()}')")
        of_parent, names = f"{runs}/flow-run/{chained.parent}", [one["name"] for one in chained.again.values()]
        shows(f"{of_parent}?tab=SubflowRuns", "data-to-model", "Completed", "3 Subflow runs", *names, *chained.again)
        shows(f"{of_parent}?tab=Artifacts", "data-to-model-chained")
        curation = f"{runs}/flow-run/{chained.again['build-dolma']['id']}?tab=TaskRuns"
        shows(curation, "selection/web", "tokenization/", "Completed")


def test_a_failed_stage_is_rerun_alone_and_the_summary_tells_all(
    running_services: Services, chained: Chained, capsys: pytest.CaptureFixture[str]
) -> None:
    """Evaluation fails for want of a text; a retry of the parent takes corpus and model, and retries that one. Then all is reused, also by ablate-data."""
    services, parent, stages, again = running_services, chained.parent, chained.first, chained.again
    file, store, folder = chained.file, chained.store, chained.folder
    assert [one[""].split()[0] for one in chained.before] == ["build", "train", "score"]
    assert {name: run["state_type"] for name, run in stages.items()} == {
        "build-dolma": "COMPLETED",
        "train-olmo": "COMPLETED",
        "evaluate-olmo": "FAILED",
    }
    assert {name: run["id"] for name, run in again.items()} == {name: run["id"] for name, run in stages.items()}
    assert {name: run["run_count"] for name, run in again.items()} == {
        "build-dolma": 1,
        "train-olmo": 1,
        "evaluate-olmo": 2,
    }

    made = {
        name.removeprefix("olmo.made."): one for name, one in services.run(parent)["labels"].items() if "made" in name
    }
    assert set(made) == {"tokens", "run", "checkpoint", "evaluation", "summary"}
    for one in chained.before[:2]:
        assert one["artifact"] in made.values(), "the plan knew the addresses"
    summary = store.manifest(store.resolve("report/data-to-model-chained"))
    assert {str(ref) for ref in summary.inputs.values()} > {made["run"], made["checkpoint"], made["evaluation"]}
    text = store.storage.read(summary.object("summary.txt").path).decode()
    for word in (
        "selection/web", "20 steps", "held-out loss", "held-out", "late", "bits per byte", "±", "sample at temperature",
        "not metered", "1 USD for a CPU-hour", made["tokens"], "inventory/web", "olmo generate checkpoint/chained-model",
    ):  # fmt: skip
        assert word in text, (word, text)
    assert main(["report", "data-to-model", "chained", "--store", store.uri]) == 0
    assert capsys.readouterr().out.strip() == text.strip()
    # Who has a document is told beside reports on evaluations and on the chain, too.
    assert main(["inspect", "step", made["checkpoint"], "3", "--store", store.uri, "--json"]) == 0
    seen = json.loads(capsys.readouterr().out)["documents"][0]["id"]
    assert main(["artifacts", "lineage", "--document", seen, "--store", store.uri]) == 0
    told = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line.strip()}
    assert made["tokens"] in told and "seen at step 3" in told[made["checkpoint"]], told
    (card,) = services.api.find(
        "artifacts", flow_runs={"id": {"any_": [parent]}}, artifacts={"key": {"any_": ["data-to-model-chained"]}}
    )
    for run in again.values():
        assert f"/v2/runs/flow-run/{run['id']}" in card["data"]

    # No secret and no pickle in corpus, run, checkpoints, evaluation, summary, TensorBoard's events, logs of jobs and services,
    # and the server's database with its events, parameters and automations.
    assert list((folder / "board").rglob("*tfevents*")) and list((services.home / "jobs").glob("*"))
    assert places_that_show_it(folder, services.home) == []
    assert pickles(folder) == []

    # The same again: nothing is done twice, and `follow` tells of all runs below it.
    second = start(services, "data-to-model", file, store)
    shown = io.StringIO()
    followed = Followed(services.api, second, shown)
    wait_until(lambda: followed.look()["state_type"] == "COMPLETED", seconds=900, what="the second run")
    below = [one["id"] for one in children(services, second).values()]
    tasks = eventually(lambda: services.tasks(*below), lambda found: set(found.values()) == {"Completed", "Reused"})
    done_again = {name for name, state in tasks.items() if state == "Completed"}
    assert set(tasks.values()) == {"Completed", "Reused"}, tasks
    assert all(name.startswith(("publish/", "report")) for name in done_again), done_again
    told = shown.getvalue().splitlines()
    assert any(
        one.startswith("train-olmo/train-olmo chained-model-") and one.endswith(": Completed") for one in told
    ), told
    assert services.run(second)["labels"]["olmo.made.summary"] == made["summary"]
    assert {one[""] for one in planned(file, store)} == {"reuse"}


def test_variants_are_compared_in_this_process(running_services: Services, tmp_path: Path) -> None:
    """Two variants, two seeds: four models on equal tokens, one table; shared stages are built once; again, all is reused."""
    recipes(tmp_path)
    file, store = tmp_path / "ablation.yaml", ArtifactStore(str(tmp_path / "store"))
    evaluation = {"name": "texts", "domains": [{"name": "held-out", "corpus": "corpus/none"}]}
    (tmp_path / "evaluation.yaml").write_text(yaml.safe_dump(evaluation), encoding="utf-8")
    values = {
        "name": "ab", "base": "corpus.yaml", "variants": VARIANTS, "training": {"recipe": "training.yaml"},
        "evaluation": "evaluation.yaml", "seeds": [1, 2],
    }  # fmt: skip
    file.write_text(yaml.safe_dump(values), encoding="utf-8")
    words = (
        "run",
        "ablate-data",
        str(file),
        "--store",
        store.uri,
        "--threads",
        "1",
        "--workers",
        "1",
        "--device",
        "cpu",
    )
    said = done(running_services.olmo(*words, timeout=1200))
    for word in ("ablate-data ab", "held-out/web", "long", "verdict", "own stages", "no price"):
        assert word in said, said
    report = store.manifest(store.resolve("report/ablation-ab"))
    numbers = json.loads(store.storage.read(report.object("ablation.json").path))
    assert [one["name"] for one in numbers["variants"]] == ["whole", "long"]
    assert numbers["variants"][0]["tokens"] > numbers["variants"][1]["tokens"] > 0
    assert {one["trained"] for one in numbers["variants"]} == {20 * 4 * 64}
    (effect,) = numbers["effects"]
    assert effect["variant"] == "long" and len(effect["seeds"]) == 2
    assert (
        effect["both"]["low"]
        < effect["texts"]["low"]
        <= effect["both"]["value"]
        <= effect["texts"]["high"]
        < effect["both"]["high"]
    )
    # inventory, documents, language and four tags are those of the source, whatever is selected later
    assert numbers["stages"]["made once for several"] == 7
    assert all(one["own"] == one["stages"] - 7 for one in numbers["variants"])
    assert len(list(store.finished("run"))) == 4
    built = {manifest.ref for manifest in store.finished()}
    done(running_services.olmo(*words, timeout=1200))
    assert {manifest.ref for manifest in store.finished()} == built


def test_a_recipe_of_another_kind_is_called_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each kind, given to another flow, names the command that takes it; a part of a file, and a stray field, do not."""
    recipes(tmp_path)
    ours = Path(__file__).parents[2] / "deployments" / "recipes"
    for flow, file, command in (
        ("data-to-model", tmp_path / "corpus.yaml", "`olmo run build-dolma FILE`"),
        ("data-to-model", ours / "ablate-data" / "raw-against-curated.yaml", "`olmo run ablate-data FILE`"),
        ("build-dolma", tmp_path / "training.yaml", "`olmo run train-olmo FILE`"),
        ("build-dolma", tmp_path / "evaluation.yaml", "`olmo evaluate MODEL --recipe FILE`"),
        ("ablate-data", ours / "data-to-model" / "quickstart.yaml", "`olmo run data-to-model FILE`"),
        ("ablate-data", ours / "classifiers" / "toxic-tweets.yaml", "`olmo run train-classifier FILE`"),
    ):
        assert main(["run", flow, str(file), "--store", str(tmp_path / "store")]) == 1
        said = capsys.readouterr().err
        assert f"{file.name}: unknown field " in said and f"which {command} takes" in said, said
    corpus = yaml.safe_load((tmp_path / "corpus.yaml").read_text(encoding="utf-8"))
    for changes in ({"training": {}}, {"mixing": {"optimizer": 1}}):
        (tmp_path / "stray.yaml").write_text(yaml.safe_dump(corpus | changes), encoding="utf-8")
        assert main(["run", "build-dolma", str(tmp_path / "stray.yaml"), "--store", str(tmp_path / "store")]) == 1
        said = capsys.readouterr().err
        assert "unknown field " in said and "takes" not in said


@pytest.mark.parametrize(
    ("flow", "changes", "said"),
    [
        ("data-to-model", {"training": {"recipe": "nothing"}}, "training: no training recipe 'nothing'"),
        ("data-to-model", {"evaluation": {"recipe": "nothing"}}, "evaluation: no evaluation recipe 'nothing'"),
        ("data-to-model", {"corpus": {"recipe": "nothing"}}, "corpus: no recipe 'nothing'"),
        ("data-to-model", {"trainig": {}}, "did you mean 'training'?"),
        ("ablate-data", {"variants": VARIANTS[:1]}, "a comparison needs at least two"),
        ("ablate-data", {"variants": [VARIANTS[0], {"name": "x", "without": ["y"]}]}, "no source has such a rule"),
        ("ablate-data", {"variants": [VARIANTS[0], {"name": "x", "changes": {"sources.y.repeat": 2}}]}, "there is no 'y'; there are: web"),
        ("ablate-data", {"seeds": [1, 1]}, "give at least one, each once"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_before_anything_starts(
    tmp_path: Path, flow: str, changes: dict[str, Any], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 1, one line that names part and remedy, nothing in the store."""
    chain = yaml.safe_load(recipes(tmp_path).read_text(encoding="utf-8"))
    ablation = {
        "name": "ab",
        "base": "corpus.yaml",
        "variants": VARIANTS,
        "training": chain["training"],
        "evaluation": "evaluation.yaml",
    }
    file = tmp_path / "wrong.yaml"
    file.write_text(yaml.safe_dump({**(chain if flow == "data-to-model" else ablation), **changes}), encoding="utf-8")
    assert main(["run", flow, str(file), "--store", str(tmp_path / "store")]) == 1
    assert said in capsys.readouterr().err
    assert not (tmp_path / "store").exists()
