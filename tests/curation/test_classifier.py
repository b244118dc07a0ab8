"""Training a classifier: reading labelled data, preparing text, the same bytes each time, honest metrics."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

import fasttext
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from olmo_core.curation.classifier import ClassifierRecipe, train
from olmo_core.curation.classifier_metrics import average_precision, evaluate, wilson
from olmo_core.curation.classifier_text import prepared, reads_of, span_scores
from olmo_core.curation.content import Classifier, ContentRecipe, tag
from olmo_core.curation.fasttext_model import FastTextModel
from olmo_core.curation.labelled import LabelRecipe, read_labelled
from olmo_core.errors import InputError, RecipeError
from olmo_core.kernels.buffers import text_buffers
from tests.curation.tiny_classifier import RUDE, examples, tiny, words_reference

TWEETS = LabelRecipe(text="tweet", label="class", positive=("0", "1"), negative=("2",))

PIECES = [
    "a",
    "Zed",
    "don't",
    "'",
    "''",
    "\u2019",
    " ",
    "\n",
    "\t",
    "\x00",
    "@you",
    "@",
    "http://x.y/z",
    "www.a",
    "HTTP",
]
PIECES += [
    "&amp;",
    "&#8220;",
    "&",
    ";",
    "é",
    "\u00a0",
    "\u201c",
    "\u3002",
    "日",
    "\u0300",
    "\U0001f600",
    "__label__x",
    "</s>",
]
TEXTS = st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=3)), max_size=12).map("".join)


def large(texts: list[str]) -> pa.LargeStringArray:
    return pa.array(texts, pa.large_string())


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", 'id,class,text\n1,x,"One, ""two"""\n2,y,"Line\nend"\n3,z,left out\n4,w,Fin\n'),
        ("a.csv", '\ufeffid,class,text\r\n1,x,"One, ""two"""\r\n\r\n2,y,"Line\nend"\r\n3,z,left out\r\n4,w,Fin'),
        ("a.jsonl", '{"class":"x","text":"One, \\"two\\""}\n\n{"class":"y","text":"Line\\nend"}\n{"class":"z","text":"-"}\n'
         '{"text":"Fin","class":"w","more":[1]}'),
    ],
)  # fmt: skip
@pytest.mark.parametrize("compressed", [False, True])
def test_labelled_texts(name: str, content: str, compressed: bool, tmp_path: Path) -> None:
    path = tmp_path / (name + ".gz" * compressed)
    path.write_bytes(gzip.compress(content.encode()) if compressed else content.encode())
    found = read_labelled(str(path), LabelRecipe(label="class", positive=("x", "w"), negative=("y",), ignored=("z",)))
    assert found.texts.to_pylist() == ['One, "two"', "Line\nend", "Fin"]
    assert found.positive.tolist() == [True, False, True]
    assert len(found.sha256) == 64


def test_json_classes_may_be_numbers_and_booleans(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text":"a","label":1}\n{"text":"b","label":false}\n{"text":"c","label":"1"}\n')
    found = read_labelled(str(path), LabelRecipe(positive=("1",), negative=("false",)))
    assert found.positive.tolist() == [True, False, True]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"", "no labelled text in it"),
        ("a.csv", b"text,label\n", "no labelled text in it"),
        ("a.jsonl", b"\n\n", "no labelled text in it"),
        ("a.csv", b"tweet,label\na,1\n", "there is no column 'text'; the columns are 'tweet', 'label'"),
        ("a.csv", b"text,label\na,1\nb,7\n", "line 3: 'label' is '7', which the recipe does not name; it names 1, 0"),
        ("a.csv", b"text,label\na,1\nb\n", "line 3: 1 fields, but the header has 2"),
        ("a.csv", b'text,label\n"a,1\n', "line 2 is not CSV: unexpected end of data"),
        ("a.csv", b"text,label\nok,1\n\xff,0\n", "line 3 is not UTF-8"),
        ("a.jsonl", b'{"text":"a","label":1}\n{"text":\n', "line 2 is not JSON"),
        ("a.jsonl", b"[1]\n", "line 1 is a JSON list, not an object"),
        ("a.jsonl", b'{"text":null,"label":1}\n', "line 1: 'text' is None, not a text"),
        ("a.jsonl", b'{"label":1}\n', "line 1: 'text' is missing, not a text"),
        ("a.jsonl", b'{"text":"a"}\n', "line 1: 'label' is missing, which the recipe does not name"),
        ("a.csv.gz", gzip.compress(b"text,label\na,1\n", mtime=0)[:-6], "gzip data is truncated"),
        ("a.txt.gz", gzip.compress(b"", mtime=0), "must be .csv or .jsonl, compressed or not, not '.txt'"),
        ("a.parquet", b"", "not '.parquet'"),
    ],
)
def test_bad_labelled_files(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises((InputError, RecipeError), match=re.escape(message)):
        read_labelled(str(tmp_path / name), LabelRecipe())


def test_missing_labelled_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="it is not there"):
        read_labelled(str(tmp_path / "none.csv"), LabelRecipe())


def test_classes_must_be_on_one_side_each() -> None:
    with pytest.raises(RecipeError, match="at least one class as positive"):
        LabelRecipe(positive=())
    with pytest.raises(RecipeError, match="class '2' is named twice"):
        LabelRecipe(positive=("1", "2"), negative=("0",), ignored=("2",))


@settings(max_examples=300, deadline=None)
@given(st.lists(TEXTS, max_size=4))
def test_words_are_prepared_as_by_regular_expressions(texts: list[str]) -> None:
    got = prepared(large(texts), "words")
    assert [re.sub(" +", " ", line) for line in got] == got
    assert got == [re.sub(" +", " ", words_reference(text)) for text in texts]


def test_words_by_example() -> None:
    text = "RT @user: DON\u2019T \u201cstop\u201d&nbsp;&amp; see http://t.co/x (WWW.y) 'quoted' f*ck_it\u00a0so…"
    assert prepared(large([text]), "words") == ["rt don't stop see www y quoted f ck it so"]


@pytest.mark.parametrize("reads", ["words", "line"])
def test_the_chain_sees_what_training_saw(reads: str, tmp_path: Path) -> None:
    """Scores of raw texts equal the library's for the lines of the training file."""
    path = tmp_path / "model.bin"
    path.write_bytes(tiny("words" if reads == "words" else "line").model)
    model, library = FastTextModel.from_file(path), fasttext.load_model(str(path))
    assert reads_of(model) == reads

    @settings(deadline=None)
    @given(st.lists(TEXTS, max_size=4))
    def check(texts: list[str]) -> None:
        text, offsets = text_buffers(large([*texts, *RUDE]))
        got = span_scores(model, "rude", text, offsets[:-1], offsets[1:])
        for score, raw, line in zip(
            got, [*texts, *RUDE], prepared(large([*texts, *RUDE]), reads_of(model)), strict=True
        ):
            if line if reads == "words" else raw:
                labels, scores = library.predict(line, k=-1)
                assert score == np.float32(dict(zip(labels, scores, strict=True)).get("__label__rude", 0)), raw
            else:
                assert score == 0

    check()


def test_same_data_and_recipe_give_the_same_bytes() -> None:
    texts, positive = examples()
    shuffled = np.random.default_rng(3).permutation(len(texts))
    recipe = ClassifierRecipe(label="rude", buckets=5000)
    first = train(texts, positive, recipe)
    again = train(texts.take(pa.array(shuffled)), positive[shuffled], recipe)
    assert first.model == again.model and first.metrics == again.metrics
    assert train(texts, positive, ClassifierRecipe(label="rude", buckets=5000, seed=2)).model != first.model


def test_quantized_training_is_repeatable_too(tmp_path: Path) -> None:
    first, again = tiny(quantize=True), tiny(quantize=True)
    assert first.model == again.model and first.suffix == ".ftz"
    (tmp_path / "model.ftz").write_bytes(first.model)
    assert FastTextModel.from_file(tmp_path / "model.ftz").labels == ("__label__not-rude@words", "__label__rude")


def test_learns_and_reports_in_json() -> None:
    trained = tiny()
    metrics = json.loads(json.dumps(trained.metrics, allow_nan=False))
    assert metrics["held_out"]["f1"]["value"] == 1
    assert 30 < metrics["held_out"]["examples"] < 110
    assert metrics["held_out"]["examples"] + metrics["training"]["examples"] == 360
    assert metrics["training"]["lines"] > metrics["training"]["examples"]  # the rarer label is repeated
    assert metrics["background"]["flagged"]["0.5"] is None


def test_equal_texts_are_on_one_side() -> None:
    texts, positive = examples(10)
    three = pa.concat_arrays([texts, pa.array([t.upper() + " ?" for t in texts.to_pylist()], pa.large_string()), texts])
    metrics = train(three, np.tile(positive, 3), ClassifierRecipe(buckets=1000, dim=4)).metrics
    assert metrics["held_out"]["examples"] % 3 == 0 < metrics["held_out"]["examples"]


def test_background_becomes_negatives() -> None:
    texts, positive = examples()
    background = large([f"The parser reads option {i}. It returns nothing at line {i}!\n" for i in range(200)])
    recipe = ClassifierRecipe(label="rude", buckets=5000, background_sentences=300)
    plain, taught = train(texts, positive, recipe), train(texts, positive, recipe, background=background)
    assert plain.metrics["training"]["background"] == 0
    assert taught.metrics["training"]["background"] + taught.metrics["background"]["sentences"] == 300
    assert taught.metrics["background"]["flagged"]["0.5"] == 0
    assert taught.model != plain.model


@pytest.mark.parametrize("truth", [[True] * 60, [False] * 60, [True] + [False] * 59])
def test_one_label_only_is_refused(truth: list[bool]) -> None:
    texts = large([f"text number {i}" for i in range(60)])
    with pytest.raises(InputError, match="a classifier needs both labels on both sides"):
        train(texts, np.array(truth), ClassifierRecipe())


def test_empty_data_is_refused() -> None:
    with pytest.raises(InputError, match="of 0 labelled texts"):
        train(large([]), np.zeros(0, bool), ClassifierRecipe())


def test_failing_library_is_a_clear_error() -> None:
    texts, positive = examples()
    with pytest.raises(
        InputError, match=r"fastText could not train on \d+ lines \(exit code 1\): RuntimeError: Encountered NaN"
    ):
        train(texts, positive, ClassifierRecipe(rate=1e30))


@pytest.mark.parametrize(
    "wrong",
    [{"label": "a b"}, {"label": ""}, {"held_out": 0}, {"threshold": 1}, {"dim": 3}, {"buckets": 9}, {"rate": 0.0}],
)
def test_recipe_values_out_of_range(wrong: dict[str, object]) -> None:
    with pytest.raises(RecipeError, match="classifier"):
        ClassifierRecipe(**wrong)  # type: ignore[arg-type]


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_is_scipys(counts: tuple[int, int]) -> None:
    expected = binomtest(*counts).proportion_ci(0.95, method="wilson")
    assert wilson(*counts) == pytest.approx((expected.low, expected.high), abs=1e-9)


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from([0.0, 0.1, 0.3, 0.5, 0.7, 1.0]), st.booleans()), min_size=1, max_size=30))
def test_metrics_by_counting(examples: list[tuple[float, bool]]) -> None:
    scores = np.array([score for score, _ in examples], np.float32)
    truth: npt.NDArray[np.bool_] = np.array([label for _, label in examples])
    metrics = evaluate(scores, truth, threshold=0.5, seed=1)
    tp, fp = sum(s >= 0.5 and t for s, t in examples), sum(s >= 0.5 and not t for s, t in examples)
    fn, tn = sum(s < 0.5 and t for s, t in examples), sum(s < 0.5 and not t for s, t in examples)
    assert list(metrics["confusion"].values()) == [tp, fp, fn, tn]
    assert metrics["precision"]["value"] == (tp / (tp + fp) if tp + fp else 0)
    assert metrics["recall"]["value"] == (tp / (tp + fn) if tp + fn else 0)
    assert metrics["f1"]["value"] == (2 * tp / (2 * tp + fp + fn) if tp + fp + fn else 0)
    assert metrics["f1"]["low"] <= metrics["f1"]["value"] <= metrics["f1"]["high"]
    assert [line["threshold"] for line in metrics["thresholds"]] == pytest.approx(np.arange(0.05, 0.96, 0.05))
    area = 0.0
    for limit in sorted(set(scores.tolist()), reverse=True):
        chosen = scores >= limit
        area += (truth & (scores == limit)).sum() * (truth & chosen).sum() / chosen.sum()
    assert average_precision(scores, truth) == pytest.approx(area / max(1, truth.sum()))


def test_tweets_reach_the_stated_f1_and_run_in_the_chain(shared_data: Path, tmp_path: Path) -> None:
    """F1 of toxic (hate speech or offensive) against neither on 20% held-out tweets: 0.970, interval 0.967 to 0.974."""
    tweets = read_labelled(str(shared_data / "labelled" / "hate_offensive_tweets.csv.gz"), TWEETS)
    assert len(tweets.texts) == 24_783 and tweets.positive.sum() == 1430 + 19_190
    background = large([(shared_data / "wikitext-2" / "valid.txt").read_text(encoding="utf-8")])
    trained = train(tweets.texts, tweets.positive, ClassifierRecipe(), background=background)
    held_out = trained.metrics["held_out"]
    assert held_out["f1"]["low"] > 0.96 > held_out["always_f1"]
    assert held_out["negative_f1"] > 0.85
    path = tmp_path / "toxic.bin"
    path.write_bytes(trained.model)
    model = Classifier(name="toxic", model=str(path), label="toxic", sha256=trained.sha256)
    text = "The committee published its annual report in March.\nYou are all stupid bitches! Nobody else said a word."
    tags = tag(large([text]), ContentRecipe(kind="classifier", classifiers=(model,), record_from=0.4)).to_pylist()[0]
    assert tags["toxic_max"] > 0.9
    assert [text[span["start"] : span["end"]] for span in tags["toxic_spans"]] == ["You are all stupid bitches!"]
