"""Texts of other languages than English: codes, numbers, letters of any script, words without spaces, phones."""

from __future__ import annotations

import shutil
import subprocess
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lst.data.languages import LANGUAGES, UNSPACED, iso3_of, language_of
from lst.data.text import espeak_problem, folded, foreign_phones, letter_tokens, spaced, word_readings
from lst.data.text.espeak import nearest_phones
from lst.data.text.number_words import french, german, german_ordinal, spanish
from lst.errors import UserError

needs_espeak = pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="espeak-ng is not installed")


def readings(text: str, language: str) -> list[list[str]]:
    return [[" ".join(reading) for reading in piece.readings] for piece in word_readings(text, language=language)]


@pytest.mark.parametrize(
    ("written", "code"),
    [
        *(("de", "de"), ("DE", "de"), ("de_AT", "de"), ("ger", "de"), ("deu", "de"), ("German", "de"), ("zh-CN", "zh")),
        *(("cmn", "zh"), ("zho_Hant", "zh"), ("yue", "yue"), ("qab", "qab"), ("und", ""), ("", ""), ("nan", "")),
    ],
)
def test_a_language_has_one_code_however_it_is_written(written: str, code: str) -> None:
    assert language_of(written) == code
    assert not code or language_of(iso3_of(code)) == code


def test_an_unknown_language_lists_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"'dee' is no language; the nearest are de \(German\)"):
        language_of("dee")
    with pytest.raises(ValueError, match="no language"):
        language_of("12")


def test_the_table_of_languages_has_no_spelling_twice() -> None:
    spellings = [spelling for one in LANGUAGES.values() for spelling in {one.code, one.iso3, one.name.lower()}]
    assert len(spellings) == len(set(spellings))


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (1, ("eins", "un", "uno")),
        (16, ("sechzehn", "seize", "dieciséis")),
        (71, ("einundsiebzig", "soixante et onze", "setenta y uno")),
        (80, ("achtzig", "quatre vingts", "ochenta")),
        (81, ("einundachtzig", "quatre vingt un", "ochenta y uno")),
        (99, ("neunundneunzig", "quatre vingt dix neuf", "noventa y nueve")),
        (100, ("einhundert", "cent", "cien")),
        (200, ("zweihundert", "deux cents", "doscientos")),
        (580, ("fünfhundertachtzig", "cinq cent quatre vingts", "quinientos ochenta")),
        (1000, ("eintausend", "mille", "mil")),
        (21_000, ("einundzwanzigtausend", "vingt et un mille", "veintiún mil")),
        (80_000, ("achtzigtausend", "quatre vingt mille", "ochenta mil")),
        (1_000_000, ("eine million", "un million", "un millón")),
        (
            2_300_017,
            (
                "zwei millionen dreihunderttausendsiebzehn",
                "deux millions trois cent mille dix sept",
                "dos millones trescientos mil diecisiete",
            ),
        ),
    ],
)
def test_whole_numbers(value: int, words: tuple[str, ...]) -> None:
    found = (german(value), french(value), spanish(value))
    assert found == tuple(words)
    assert german_ordinal(8) == "achte"


@pytest.mark.parametrize(
    ("language", "text", "wanted"),
    [
        ("de", "am 3. Mai", ["am", "dritten", "mai"]),
        ("de", "es waren 3.", ["es", "waren", "drei"]),
        ("de", "1987", ["neunzehnhundertsiebenundachtzig"]),
        ("de", "2024", ["zweitausendvierundzwanzig"]),
        ("de", "2,50 €", ["zwei euro fünfzig", ""]),
        ("de", "€2,50", ["zwei euro fünfzig"]),
        ("de", "1.250,5", ["eintausendzweihundertfünfzig komma fünf"]),
        ("de", "um 12:30", ["um", "zwölf uhr dreißig"]),
        ("de", "um 12:30", ["um", "halb eins"]),
        ("de", "20%", ["zwanzig prozent"]),
        ("de", "20 %", ["zwanzig", "prozent"]),
        ("de", "3.5.2020", ["dritten mai zweitausendzwanzig"]),
        ("de", "z.B. Dr. Lee", ["zum beispiel", "doktor", "lee"]),
        ("de", "7", ["sieben"]),
        ("de", "0171", ["null eins sieben eins"]),
        ("fr", "1er mai", ["premier", "mai"]),
        ("fr", "17h30", ["dix sept heures trente"]),
        ("fr", "2,50€", ["deux euros cinquante"]),
        ("fr", "1 234", ["mille", "deux cent trente quatre"]),
        ("fr", "le 3/5/2020", ["le", "trois mai deux mille vingt"]),
        ("fr", "21e", ["vingt et unième"]),
        ("fr", "l’eau, aujourd’hui", ["l'eau", "aujourd'hui"]),
        ("fr", "-3,5°", ["moins trois virgule cinq degrés"]),
        ("de", "1 000 000 Leute", ["eine million", "", "", "leute"]),
        (
            "de",
            "12\u202f345\u202f678",
            ["zwölf millionen", "dreihundertfünfundvierzigtausend", "sechshundertachtundsiebzig"],
        ),
        ("de", "1 234,56 €", ["eintausend", "zweihundertvierunddreißig komma fünf sechs", "euro"]),
        ("de", "am 3.5. kam", ["am", "dritten fünften", "kam"]),
        ("de", "es wog 3.5.", ["es", "wog", "drei punkt fünf"]),
        ("de", "um 3.5%.", ["um", "drei komma fünf prozent"]),
        ("de", "5€/12 000 zu 1 000.50", ["fünf euro zwölftausend", "", "zu", "eintausend", ""]),
        ("de", "12 005–15 000", ["zwölftausend", "fünf bis fünfzehntausend", ""]),
        ("de", "x5–12\u202f000", ["x fünf bis zwölftausend", ""]),
        ("fr", "1 000 000€", ["un million", "", "euros"]),
        ("fr", "il y a 3.5.", ["il", "y", "a", "trois point cinq"]),
        ("es", "pesa 3.5.", ["pesa", "tres punto cinco"]),
        ("es", "21 000 casas", ["veintiún mil", "", "casas"]),
        ("es", "el 3º", ["el", "tercero"]),
        ("es", "$5,50", ["cinco dólares con cincuenta centavos"]),
        ("es", "la 1:30", ["la", "una y media"]),
        ("es", "3/5/2020", ["tres de mayo de dos mil veinte"]),
        ("es", "21 casas", ["veintiuna", "casas"]),
        ("es", "1990-1995", ["mil novecientos noventa a mil novecientos noventa y cinco"]),
        ("ru", "12 яблок", ["12", "яблок"]),
    ],
)
def test_readings_have_what_people_say(language: str, text: str, wanted: list[str]) -> None:
    found = readings(text, language)
    assert len(found) == len(wanted)
    for own, said in zip(found, wanted, strict=True):
        assert said in own


def test_english_readings_are_as_they_were() -> None:
    assert word_readings("2,50 die [laughs]") == word_readings("2,50 die [laughs]", language="")
    assert readings("die", "")[0] == readings("die", "de")[0] == ["die"]


@settings(deadline=None, max_examples=150)
@given(st.text(max_size=30), st.sampled_from([*sorted(UNSPACED), "de", "fr", "es", "tr", "ar", "qaa"]))
def test_any_text_has_readings_and_keeps_its_characters(text: str, language: str) -> None:
    divided = spaced(text, language)
    assert "".join(divided.split()) == "".join(text.split())
    assert spaced(divided, language) == divided or language not in UNSPACED
    pieces = word_readings(text, language=language)
    assert all(piece.readings for piece in pieces)


@pytest.mark.parametrize(
    ("language", "text", "words"),
    [
        ("zh", "他说：“你好！”（笑）", "他 说： “你 好！” （笑）"),
        ("zh", "2024年我买了iPhone。", "2024 年 我 买 了 iPhone。"),
        ("ja", "スーパーで「お茶」を。", "スー パー で 「お 茶」 を。"),
        ("th", "น้ำเด็ก", "น้ำ เด็ ก"),
        ("ko", "안녕 하세요", "안녕 하세요"),
        ("hi", "नमस्ते दुनिया", "नमस्ते दुनिया"),
        ("ar", "مرحبا، بالعالم", "مرحبا، بالعالم"),
    ],
)
def test_words_of_scripts_without_spaces(language: str, text: str, words: str) -> None:
    assert spaced(text, language) == words


def test_letters_are_folded_by_language() -> None:
    assert folded("DIŞI", "tr") == "dışı"
    assert folded("DIŞI", "de") == "dişi"
    assert folded("GROSSE STRAßE", "de") == "grosse straße"
    assert folded(unicodedata.normalize("NFD", "ÉTÉ"), "fr") == "été"
    assert letter_tokens("‘peut-être’ हिन्दी!", "fr") == ["peut", "être", "हिन्दी"]


def test_every_phone_of_a_word_has_a_near_one() -> None:
    assert nearest_phones("ʃtɾˈɑːsə") == ("SH", "T", "R", "AA", "S", "AH")
    assert nearest_phones("(en)ɹˈɒk(de)") == ("R", "AO", "K")
    assert nearest_phones("?") == ("AH",)


@needs_espeak
def test_words_are_said_by_espeak_each_by_itself() -> None:
    found = foreign_phones(["die", "straße", "12", "katze"], "de")
    assert found["die"] == ("D", "IY")
    assert found["12"] == ("T", "S", "V", "ER", "L", "F")
    assert found["katze"] == ("K", "AA", "T", "S", "AH")
    assert list(found) == ["die", "straße", "12", "katze"]


@needs_espeak
def test_a_language_that_espeak_lacks_is_told() -> None:
    assert espeak_problem("de") == ""
    assert "no voice or no dictionary" in espeak_problem("qaa")
    with pytest.raises(UserError, match="words in Japanese: espeak-ng does not know the readings"):
        foreign_phones(["東"], "ja")


def test_without_espeak_its_installation_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    espeak_problem.cache_clear()
    with pytest.raises(UserError, match=r"words in German: .*apt-get install espeak-ng"):
        foreign_phones(["katze"], "de")
    espeak_problem.cache_clear()


@pytest.mark.parametrize("language", ["de", "fr", "es"])
def test_every_day_of_the_year_is_read(language: str) -> None:
    """The first of a month has an ordinal that others lack."""
    for day in range(1, 32):
        for month in range(1, 13):
            for written in (f"{day}/{month}/2020", f"{day:02d}.{month:02d}.1999", f"2020-{month:02d}-{day:02d}"):
                assert readings(written, language)[0], written
    first = {"de": "ersten mai", "fr": "premier mai", "es": "primero de mayo"}[language]
    assert readings("1/5/2020", language)[0][0].startswith(first)


def test_a_space_divides_thousands() -> None:
    assert [found[0] for found in readings("12 000 livres", "fr")] == ["douze mille", "", "livres"]
    assert [found[0] for found in readings("12 005", "fr")] == ["douze mille", "cinq"]
    assert [found[0] for found in readings("12 500", "es")] == ["doce mil", "quinientos"]
    assert readings("500", "fr")[0][0] == "cinq cents"
    said = {
        "de": "eine billion zwei billionen zwölftausend bis fünfzehntausend",
        "fr": "un billion deux billions douze mille à quinze mille",
        "es": "un billón dos billones doce mil a quince mil",
    }
    years = {
        "de": "neunzehnhundertneunzig zwölftausend fünfhundert",
        "fr": "mille neuf cent quatre vingt dix douze mille cinq cents",
        "es": "mil novecientos noventa doce mil quinientos",
    }
    for language in said:
        large = [found[0] for found in readings("1 000 000 000 000, 2 000 000 000 000, 12 000–15 000", language)]
        assert " ".join(filter(None, large)) == said[language]
        assert " ".join(found[0] for found in readings("1990 12 500", language)) == years[language]


def test_what_espeak_did_not_say_is_no_phone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that was killed says nothing."""
    monkeypatch.setattr("lst.data.text.espeak.espeak_problem", lambda language: "")
    killed = subprocess.CompletedProcess([], -9, "", "")
    monkeypatch.setattr("lst.data.text.espeak._answer", lambda language, text: killed)
    with pytest.raises(UserError, match="words in German: espeak-ng ended with status -9"):
        foreign_phones(["Hund"], "de")


@needs_espeak
def test_a_language_without_a_voice_is_said_by_no_other() -> None:
    assert "no voice" in espeak_problem("tl")


@pytest.mark.parametrize(
    ("written", "language", "told"),
    [
        ("15:15", "de", "viertel nach drei"),
        ("12:30", "de", "halb eins"),
        ("12:45", "fr", "une heure moins le quart"),
        ("15h15", "fr", "trois heures et quart"),
        ("12:45", "es", "una menos cuarto"),
        ("13:30", "es", "una y media"),
    ],
)
def test_a_clock_has_twelve_hours(written: str, language: str, told: str) -> None:
    assert told in readings(written, language)[0]
