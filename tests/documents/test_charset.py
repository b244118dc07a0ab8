"""Character encodings of pages: declared rightly, wrongly or not at all."""

from __future__ import annotations

import time

import pytest

from olmo_core.documents.charset import codec_of, decode

TEXTS = {
    "fr": "L'élève était très fâché parce que son père ne l'avait pas emmené à la fête. Où êtes-vous allés, ça va ?",
    "de": "Die Würde des Menschen ist unantastbar. Über den Wolken können Vögel fröhlich größere Bögen ziehen.",
    "ru": "Все люди рождаются свободными и равными в своём достоинстве и правах. Они наделены разумом и совестью.",
    "pl": "Wszyscy ludzie rodzą się wolni i równi pod względem swej godności i swych praw. Są oni obdarzeni rozumem i "
    "sumieniem i powinni postępować wobec innych w duchu braterstwa. Każdy człowiek posiada wszystkie prawa i wolności.",
    "el": "Όλοι οι άνθρωποι γεννιούνται ελεύθεροι και ίσοι στην αξιοπρέπεια και τα δικαιώματα. Είναι προικισμένοι με λογική και συνείδηση, και οφείλουν "
    "να συμπεριφέρονται μεταξύ τους με πνεύμα αδελφοσύνης.",
    "he": "כל בני האדם נולדו בני חורין ושווים בערכם ובזכויותיהם. כולם חוננו בתבונה ובמצפון, לפיכך חובה עליהם לנהוג איש ברעהו "
    "ברוח של אחווה. כל אדם זכאי לזכויות ולחרויות שנקבעו בהכרזה זו ללא הפליה כלשהיא.",
    "ar": "يولد جميع الناس أحرارًا متساوين في الكرامة والحقوق. وقد وهبوا عقلاً وضميرًا.",
    "ja": "すべての人間は、生まれながらにして自由であり、かつ、尊厳と権利とについて平等である。",
    "zh": "人人生而自由，在尊严和权利上一律平等。他们赋有理性和良心，并应以兄弟关系的精神相对待。",
    "ko": "모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어 동등하다.",
    "tr": "Bütün insanlar hür, haysiyet ve haklar bakımından eşit doğarlar. Akıl ve vicdana sahiptirler.",
}
ENCODED = [
    ("fr", "cp1252"), ("de", "iso-8859-1"), ("ru", "cp1251"), ("ru", "koi8-r"), ("ru", "iso-8859-5"), ("ru", "cp866"),
    ("pl", "iso-8859-2"), ("pl", "cp1250"), ("el", "cp1253"), ("he", "cp1255"), ("ar", "cp1256"), ("ja", "shift_jis"),
    ("ja", "euc_jp"), ("ja", "iso2022_jp"), ("zh", "gb18030"), ("ko", "cp949"),
]  # fmt: skip


def html(text: str, codec: str, head: str = "") -> bytes:
    script = "<script>var a = 1; // code is no language</script>" * 20
    return f"<html><head>{head}{script}</head><body><p>{text} {text}</p></body></html>".encode(codec)


@pytest.mark.parametrize(("language", "codec"), [*ENCODED, ("tr", "iso-8859-9")])
def test_a_right_label_is_believed(language: str, codec: str) -> None:
    found = decode(html(TEXTS[language], codec), codec, html=True)
    assert found is not None and TEXTS[language] in found.text
    assert (found.found_by, found.declared, found.errors) == ("header", None, 0)
    found = decode(html(TEXTS[language], codec, f'<META content="text/html; charset={codec}">'), None, html=True)
    assert found is not None and TEXTS[language] in found.text
    assert (found.found_by, found.declared, found.errors) == ("meta", None, 0)


@pytest.mark.parametrize(("language", "codec"), ENCODED)
@pytest.mark.parametrize("label", [None, "utf-8", "windows-1251", "iso-8859-1", "no-such-charset"])
def test_no_label_and_a_wrong_one_give_no_mojibake(language: str, codec: str, label: str | None) -> None:
    found = decode(html(TEXTS[language], codec), label, html=True)
    assert found is not None and TEXTS[language] in found.text
    right = label is not None and codec_of(label) == codec_of(codec)
    assert found.found_by == ("header" if right else "detected")
    assert found.declared == (None if right or label in (None, "no-such-charset") else label)


@pytest.mark.parametrize("label", ["iso-8859-1", "windows-1251", "shift_jis", "utf-7", "utf-16", None])
def test_utf8_is_utf8_whatever_the_label_says(label: str | None) -> None:
    found = decode(html(TEXTS["fr"], "utf-8"), label, html=True)
    assert found is not None and TEXTS["fr"] in found.text
    assert (found.charset, found.found_by) == ("utf-8", "valid_utf8")
    assert found.declared == (label if label not in (None, "utf-7") else None)


def test_a_byte_order_mark_beats_all_and_is_no_text() -> None:
    for codec, mark in (("utf-8", b"\xef\xbb\xbf"), ("utf-16-le", b"\xff\xfe"), ("utf-16-be", b"\xfe\xff")):
        found = decode(mark + html(TEXTS["ja"], codec), "iso-8859-1", html=True)
        assert found is not None and found.text.startswith("<html>") and TEXTS["ja"] in found.text
        assert (found.charset, found.found_by) == (codec, "bom")


def test_utf16_without_a_mark_needs_its_label() -> None:
    body = html(TEXTS["ru"], "utf-16-le")
    found = decode(body, "utf-16le", html=True)
    assert found is not None and TEXTS["ru"] in found.text and found.found_by == "header"


def test_a_few_malformed_characters_are_replaced_and_counted() -> None:
    body = html(TEXTS["ru"], "utf-8").replace("свободными".encode(), "свободн".encode() + b"\xd1\xff" + "ми".encode())
    for label in ("utf-8", None):
        found = decode(body, label, html=True)
        assert found is not None and found.charset == "utf-8"
        assert found.text.count("\ufffd") == found.errors > 0
        assert "свободн" in found.text


def test_a_replacement_character_that_the_page_has_itself_is_no_error() -> None:
    found = decode(html("broken \ufffd before", "utf-8"), "utf-8", html=True)
    assert found is not None and found.errors == 0


def test_noise_fits_nothing() -> None:
    noise = b"<html><p>" + bytes(n * n * 7 % 251 for n in range(4000)).replace(b"<", b"\x81") + b"</p></html>"
    assert decode(noise, "utf-8", html=True) is None


def test_labels_as_browsers_understand_them() -> None:
    assert [codec_of(label) for label in ("Latin1", "GB2312", "x-sjis", "EUC-KR", " utf8 ", "hex", "nonsense", "ascii")] == [
        "cp1252", "gb18030", "cp932", "cp949", "utf-8", None, None, "cp1252",
    ]  # fmt: skip


def test_a_large_page_without_a_label_takes_no_time_to_speak_of() -> None:
    """4 MB, 0.1 s of CPU; replacing every malformed UTF-8 sequence first, or detecting on all of it, took 5."""
    body = html(TEXTS["ru"] * 20_000, "koi8-r")
    began = time.process_time()
    found = decode(body, None, html=True)
    assert found is not None and found.charset == "koi8-r"
    assert time.process_time() - began < 2
