"""MMLU: 57 subjects, five worked examples, the letter of the right choice.

Sources: Catwalk's `hendrycks_test.py` and the in-loop `MMLU` with `mc_labels` (tasks `mmlu_*_mc_5shot`). Both put the
first examples of the subject's dev split first, in their order. They differ in three places: Catwalk sets a space
before each letter, which makes it the token that is scored; ends the instruction with a full stop, in-loop with a colon;
and Catwalk asks the test split, in-loop during training the validation split.

hails/mmlu_no_train is cais/mmlu without its training data.
"""

from __future__ import annotations

from collections.abc import Mapping

from olmo_core.evaluation.benchmarks.core import ANSWER, ranked
from olmo_core.evaluation.items import Format, Item, Row

KEYS = ("A", "B", "C", "D")

_CATEGORIES = {
    "stem": (
        "abstract_algebra astronomy college_biology college_chemistry college_computer_science college_mathematics"
        " college_physics computer_security conceptual_physics electrical_engineering elementary_mathematics"
        " high_school_biology high_school_chemistry high_school_computer_science high_school_mathematics"
        " high_school_physics high_school_statistics machine_learning"
    ),
    "humanities": (
        "formal_logic high_school_european_history high_school_us_history high_school_world_history international_law"
        " jurisprudence logical_fallacies moral_disputes moral_scenarios philosophy prehistory professional_law"
        " world_religions"
    ),
    "social_sciences": (
        "econometrics high_school_geography high_school_government_and_politics high_school_macroeconomics"
        " high_school_microeconomics high_school_psychology human_sexuality professional_psychology public_relations"
        " security_studies sociology us_foreign_policy"
    ),
    "other": (
        "anatomy business_ethics clinical_knowledge college_medicine global_facts human_aging management marketing"
        " medical_genetics miscellaneous nutrition professional_accounting professional_medicine virology"
    ),
}
CATEGORIES: Mapping[str, tuple[str, ...]] = {name: tuple(subjects.split()) for name, subjects in _CATEGORIES.items()}
"""The four groups of subjects whose accuracies the in-loop evaluation reports, each over its items together."""

SUBJECTS = tuple(sorted(subject for subjects in CATEGORIES.values() for subject in subjects))


def _question(row: Row, format: Format) -> str:
    space = " " if format == "catwalk" else ""
    choices = "".join(f"{space}{key}. {choice}\n" for key, choice in zip(KEYS, row["choices"], strict=True))
    return f"{row['question'].strip()}\n{choices}{ANSWER}"


def instruction(subject: str, format: Format) -> str:
    """The line before the examples."""
    end = "." if format == "catwalk" else ":"
    return f"The following are multiple choice questions (with answers) about {subject.replace('_', ' ')}{end}\n\n"


def example(row: Row, format: Format) -> str:
    """A worked example, with the blank line after it."""
    return f"{_question(row, format)} {KEYS[row['answer']]}\n\n"


def mmlu(row: Row, index: int, format: Format) -> Item:
    """The question with its choices; `row` also has its `subject`. Instruction and examples are put before it."""
    return ranked(
        id=f"{row['subject']}/{index}",
        contexts=[_question(row, format)],
        choices=KEYS,
        gold=int(row["answer"]),
        unconditional=ANSWER if format == "in_loop" else None,
        cluster=row["subject"],
    )
