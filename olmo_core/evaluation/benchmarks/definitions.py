"""Every benchmark in each of its formats: template, version, primary metric, files.

`version` counts up whenever what a template makes of the same rows changes; `digests.json` holds the digest of all items
that each version makes of the known files, and tests hold more. So a change of a template without a new version fails.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from olmo_core.errors import RecipeError
from olmo_core.evaluation.benchmarks import core, gsm8k, mmlu, truthfulqa
from olmo_core.evaluation.items import Benchmark, Format, Item, Metric, Row

Template = Callable[[Row, int, Format], Item]


@dataclass(frozen=True, kw_only=True)
class Table:
    """One file of rows: the whole benchmark, or one cluster of it."""

    assets: tuple[str, ...]
    """Assets that hold these rows, any one of them, tried in order."""
    examples: str | None = None
    """Asset with the rows that worked examples are made of."""
    cluster: str | None = None
    """Cluster that all rows belong to."""


@dataclass(frozen=True, kw_only=True)
class Definition:
    """How a benchmark is made."""

    benchmark: Benchmark
    template: Template
    tables: tuple[Table, ...]
    columns: tuple[str, ...]
    """Columns that the template reads; a file without them is another one."""
    most_shots: int | None = None
    """Worked examples there are; None: any number, drawn from the benchmark's own items."""

    def shots(self, asked: int | None) -> int:
        """Return how many worked examples stand before each question, `asked` None for its own number. RecipeError for more than there are."""
        wanted = self.benchmark.shots if asked is None else asked
        where = f"benchmark {self.benchmark.name}"
        if self.most_shots is not None and wanted > self.most_shots:
            raise RecipeError(f"{where} has {self.most_shots} worked examples; {wanted} were asked for")
        if self.benchmark.name == "truthfulqa_mc2" and wanted != self.benchmark.shots:
            raise RecipeError(f"{where} always has its {self.benchmark.shots} examples; {wanted} were asked for")
        return wanted


CORE: tuple[str, ...] = (
    "arc_challenge",
    "arc_easy",
    "boolq",
    "copa",
    "hellaswag",
    "openbookqa",
    "piqa",
    "sciq",
    "winogrande",
)
"""The nine core benchmarks, in the paper's order."""

_ARC = (core.arc, ("id", "question", "choices", "answerKey"))
_TEMPLATES: Mapping[str, tuple[Template, tuple[str, ...]]] = {
    "arc_challenge": _ARC,
    "arc_easy": _ARC,
    "boolq": (core.boolq, ("question", "passage")),
    "copa": (core.copa, ("idx", "premise", "question", "choice1", "choice2", "label")),
    "hellaswag": (core.hellaswag, ("activity_label", "ctx_a", "ctx_b", "endings", "label")),
    "openbookqa": (core.openbookqa, ("id", "question_stem", "choices", "answerKey")),
    "piqa": (core.piqa, ("goal", "sol1", "sol2", "label")),
    "sciq": (core.sciq, ("question", "support", "distractor1", "distractor2", "distractor3", "correct_answer")),
    "winogrande": (core.winogrande, ("sentence", "option1", "option2", "answer")),
}
_DOCUMENTS = {
    "arc_challenge": 299,
    "arc_easy": 570,
    "boolq": 3270,
    "copa": 100,
    "hellaswag": 10042,
    "openbookqa": 500,
    "piqa": 1838,
    "sciq": 1000,
    "winogrande": 1267,
}
_PRIMARY: Mapping[Format, Mapping[str, Metric]] = {
    "catwalk": {
        "arc_challenge": "acc_uncond",
        "arc_easy": "acc_uncond",
        "boolq": "acc_raw",
        "copa": "acc_raw",
        "hellaswag": "acc_per_token",
        "openbookqa": "acc_uncond",
        "piqa": "acc_per_token",
        "sciq": "acc_raw",
        "winogrande": "acc_per_token",
    },
    "in_loop": {
        "arc_challenge": "acc_per_char",
        "arc_easy": "acc_raw",
        "boolq": "acc_raw",
        "copa": "acc_raw",
        "hellaswag": "acc_per_char",
        "openbookqa": "acc_per_char",
        "piqa": "acc_per_char",
        "sciq": "acc_raw",
        "winogrande": "acc_raw",
    },
}
"""Catwalk c3eb82e `tasks_lm.py`; ai2-olmo 0.6.0 `metric_type`, where `len_norm` counts characters without the space."""


def _core(name: str, format: Format) -> Definition:
    template, columns = _TEMPLATES[name]
    asset = "benchmark-boolq-superglue" if (name, format) == ("boolq", "catwalk") else f"benchmark-{name}"
    return Definition(
        benchmark=Benchmark(
            name=name,
            version=1,
            format=format,
            primary=_PRIMARY[format][name],
            split="validation",
            documents=_DOCUMENTS[name],
            count_leading_space=format == "catwalk",
        ),
        template=template,
        tables=(Table(assets=(asset,)),),
        columns=(*columns, *({"catwalk": ("label",), "in_loop": ("answer",)}[format] if name == "boolq" else ())),
    )


def _mmlu(format: Format) -> Definition:
    split, documents = {"catwalk": ("test", 14042), "in_loop": ("validation", 1531)}[format]
    tables = tuple(
        Table(assets=(f"benchmark-mmlu-{subject}-{split}",), examples=f"benchmark-mmlu-{subject}-dev", cluster=subject)
        for subject in mmlu.SUBJECTS
    )
    return Definition(
        benchmark=Benchmark(
            name="mmlu",
            version=1,
            format=format,
            primary="acc_raw",
            split=split,
            documents=documents,
            shots=5,
            average="clusters" if format == "catwalk" else "items",
            count_leading_space=format == "catwalk",
        ),
        template=mmlu.mmlu,
        tables=tables,
        columns=("question", "choices", "answer"),
        most_shots=5,
    )


_TRUTHFULQA = Definition(
    benchmark=Benchmark(
        name="truthfulqa_mc2",
        version=1,
        format="catwalk",
        primary="mc2",
        split="validation",
        documents=817,
        shots=6,
    ),
    template=truthfulqa.truthfulqa,
    tables=(Table(assets=("benchmark-truthfulqa", "benchmark-truthfulqa-hub")),),
    columns=("question", "mc2_targets"),
    most_shots=6,
)


def _gsm8k(format: Format) -> Definition:
    return Definition(
        benchmark=Benchmark(
            name="gsm8k",
            version=1,
            format=format,
            primary="exact_match",
            split="test",
            documents=1319,
            shots=8,
            generation=gsm8k.RULES[format],
        ),
        template=gsm8k.gsm8k,
        tables=(Table(assets=("benchmark-gsm8k", "benchmark-gsm8k-requests")),),
        columns=("question", "answer"),
        most_shots=8,
    )


_FORMATS: tuple[Format, ...] = ("catwalk", "in_loop")
DEFINITIONS: Mapping[tuple[str, Format], Definition] = {
    (d.benchmark.name, d.benchmark.format): d
    for d in (
        *(_core(name, format) for format in _FORMATS for name in CORE),
        *(_mmlu(format) for format in _FORMATS),
        *(_gsm8k(format) for format in _FORMATS),
        _TRUTHFULQA,
    )
}
"""By name and format; TruthfulQA has no in-loop format."""

SUITES: Mapping[str, tuple[str, ...]] = {
    "core": CORE,
    "all": (*CORE, "mmlu", "truthfulqa_mc2", "gsm8k"),
}
"""Names that stand for several benchmarks."""


def names() -> tuple[str, ...]:
    """The names of all benchmarks."""
    return SUITES["all"]


def find(name: str, format: Format = "catwalk") -> Benchmark:
    """The benchmark of that name in that format. RecipeError where there is none."""
    return definition(name, format).benchmark


def suite(name: str, format: Format = "catwalk") -> tuple[Benchmark, ...]:
    """The benchmarks of a suite, or the one of that name; in a suite, those that the format has."""
    if name not in SUITES:
        return (find(name, format),)
    return tuple(DEFINITIONS[one, format].benchmark for one in SUITES[name] if (one, format) in DEFINITIONS)


def definition(name: str, format: Format) -> Definition:
    """How that benchmark is made. RecipeError where there is none."""
    if (name, format) in DEFINITIONS:
        return DEFINITIONS[name, format]
    formats = [other for one, other in DEFINITIONS if one == name]
    if formats:
        raise RecipeError(f"benchmark {name} has no format {format!r}; it has {', '.join(formats)}")
    raise RecipeError(
        f"there is no benchmark {name!r}; there are {', '.join(names())}, and the suites {', '.join(SUITES)}"
    )
