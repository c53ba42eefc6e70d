"""Languages of transcripts: their codes, their names, and how their words are divided. Imports nothing heavy."""

from __future__ import annotations

import contextlib
import difflib
import re
from typing import NamedTuple

ENGLISH = "en"
# Codes that ISO 639 leaves free: a language that the table lacks goes by one of them.
_PRIVATE = re.compile(r"q[a-t][a-z]")
# Folders of corpora that have one for each language; below them, or in their own name, it is named.
_PUBLISHED = re.compile(
    r"(?:^|[-_])(?:mls|multilingual_librispeech|voxpopuli|fleurs|common_voice|cv-corpus)(?=$|[-_.])"
)
_MOST_FOLDERS = 8
# What corpora write where they do not know the language.
_UNKNOWN = frozenset(("", "und", "unknown", "unk", "none", "null", "nan", "na", "n/a", "<na>", "\\n"))
# Written without spaces between words: a word is a character, or a cluster of letters with its marks.
UNSPACED = frozenset(("zh", "yue", "ja", "th", "lo", "km", "my", "bo"))
_TABLE = """
af afr Afrikaans|am amh Amharic|ar ara Arabic|as asm Assamese|az aze Azerbaijani|ba bak Bashkir|be bel Belarusian
bg bul Bulgarian|bn ben Bengali|bo bod Tibetan|br bre Breton|bs bos Bosnian|ca cat Catalan|cs ces Czech|cv chv Chuvash
cy cym Welsh|da dan Danish|de deu German|el ell Greek|en eng English|eo epo Esperanto|es spa Spanish|et est Estonian
eu eus Basque|fa fas Persian|fi fin Finnish|fo fao Faroese|fr fra French|fy fry Frisian|ga gle Irish|gl glg Galician
gn grn Guarani|gu guj Gujarati|ha hau Hausa|he heb Hebrew|hi hin Hindi|hr hrv Croatian|hu hun Hungarian|hy hye Armenian
ia ina Interlingua|id ind Indonesian|ig ibo Igbo|is isl Icelandic|it ita Italian|ja jpn Japanese|jv jav Javanese
ka kat Georgian|kk kaz Kazakh|km khm Khmer|kn kan Kannada|ko kor Korean|ku kur Kurdish|ky kir Kyrgyz|la lat Latin
lb ltz Luxembourgish|lg lug Ganda|ln lin Lingala|lo lao Lao|lt lit Lithuanian|lv lav Latvian|mg mlg Malagasy
mi mri Maori|mk mkd Macedonian|ml mal Malayalam|mn mon Mongolian|mr mar Marathi|ms msa Malay|mt mlt Maltese
my mya Burmese|nb nob Norwegian|ne nep Nepali|nl nld Dutch|nn nno Nynorsk|oc oci Occitan|or ori Odia|pa pan Punjabi
pl pol Polish|ps pus Pashto|pt por Portuguese|qu que Quechua|rm roh Romansh|ro ron Romanian|ru rus Russian
rw kin Kinyarwanda|sa san Sanskrit|sd snd Sindhi|si sin Sinhala|sk slk Slovak|sl slv Slovenian|sn sna Shona
so som Somali|sq sqi Albanian|sr srp Serbian|sv swe Swedish|sw swa Swahili|ta tam Tamil|te tel Telugu|tg tgk Tajik
th tha Thai|ti tir Tigrinya|tk tuk Turkmen|tl tgl Tagalog|tr tur Turkish|tt tat Tatar|ug uig Uyghur|uk ukr Ukrainian
ur urd Urdu|uz uzb Uzbek|vi vie Vietnamese|wo wol Wolof|xh xho Xhosa|yi yid Yiddish|yo yor Yoruba|yue yue Cantonese
zh zho Chinese|zu zul Zulu
"""


class Language(NamedTuple):
    """A language.

    Attributes:
        code: of ISO 639-1 where there is one.
        iso3: of ISO 639-3.
        name: in English.
    """

    code: str
    iso3: str
    name: str


LANGUAGES = {
    found.code: found for found in (Language(*entry.split(" ", 2)) for entry in re.split(r"[|\n]", _TABLE.strip()))
}
_OTHERS = """
ger:de fre:fr chi:zh cmn:zh mandarin:zh cn:zh gre:el dut:nl cze:cs per:fa pes:fa farsi:fa rum:ro slo:sk no:nb nor:nb
iw:he in:id castilian:es filipino:tl fil:tl arb:ar swh:sw zsm:ms jp:ja
"""
# All spellings of a language, in lower case.
_SPELLINGS = {spelling.lower(): one.code for one in LANGUAGES.values() for spelling in one}
_SPELLINGS.update(pair.split(":") for pair in _OTHERS.split())  # type: ignore[misc]


def language_of(written: str) -> str:
    """The code of a language that is written as a code, with or without a region, or as its English name.

    Args:
        written: as an option or a corpus has it; empty, ``und`` and the like give no code.

    Raises:
        ValueError: there is no such language; the message lists the nearest codes.

    >>> language_of("de-AT"), language_of("German"), language_of("Mandarin Chinese"), language_of("und")
    ('de', 'de', 'zh', '')
    """
    key = written.strip().lower()[:40]  # no name is longer
    if key in _UNKNOWN:
        return ""
    first = re.split(r"[-_ ]", key)[0]
    for spelling in (key, first):
        if spelling in _SPELLINGS:
            return _SPELLINGS[spelling]
    if _PRIVATE.fullmatch(first):
        return first
    near = difflib.get_close_matches(first, _SPELLINGS, 4, 0.5)
    near += [code for code in LANGUAGES if first and code[0] == first[0]]
    codes = list(dict.fromkeys(_SPELLINGS[one] for one in near))[:6]
    shown = ", ".join(f"{code} ({LANGUAGES[code].name})" for code in codes)
    nearest = f"the nearest are {shown}; " if codes else ""
    raise ValueError(
        f"{written.strip()[:40]!r} is no language; {nearest}codes are those of ISO 639 (de, fra), qaa to qtz stand for "
        "one that has none here"
    )


def language_in_path(folder: str) -> str:
    """The code of the language that the folders of a published corpus name; empty where none does.

    >>> language_in_path("/data/mls_german/train/audio/1/2"), language_in_path("hub/voxpopuli/fr")
    ('de', 'fr')
    >>> language_in_path("cv-corpus-17.0-2024-03-15/en/clips"), language_in_path("fleurs/data/fr_fr")
    ('en', 'fr')
    >>> language_in_path("/data/fleurs/test"), language_in_path("/data/de")
    ('', '')
    """
    parts = folder.lower().split("/")[-_MOST_FOLDERS:]
    for number, part in enumerate(parts):
        if (match := _PUBLISHED.search(part)) is None:
            continue
        for named in (part[match.end() :].strip("-_.0123456789"), *parts[number + 1 : number + 4]):
            with contextlib.suppress(ValueError):
                if code := language_of(named):
                    return code
    return ""


def language_name(code: str) -> str:
    """The English name of a language; that of English for no code.

    >>> language_name("de"), language_name(""), language_name("qaa")
    ('German', 'English', 'qaa')
    """
    return LANGUAGES[code or ENGLISH].name if (code or ENGLISH) in LANGUAGES else code


def iso3_of(code: str) -> str:
    """The ISO 639-3 code of a language; a private one is its own."""
    return LANGUAGES[code].iso3 if code in LANGUAGES else code
