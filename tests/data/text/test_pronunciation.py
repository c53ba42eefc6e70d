"""How transcripts become words that can be looked up: numbers, signs, accents, and a pronunciation for any word."""

from __future__ import annotations

import re
import string

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from lst.data.corpora.row_checks import text_faults
from lst.data.text.pronounce import pronouncing_dictionary
from lst.data.text.spoken import is_by_rule, pronounce_by_rule, spell_number, spoken_words

# The 39 phones of the CMU dictionary, which the packaged acoustic model knows.
PHONES = "AA AE AH AO AW AY B CH D DH EH ER EY F G HH IH IY JH K L M N NG OW OY P R S SH T TH UH UW V W Y Z ZH"
ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
)
TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
VALUES = {word: value for value, word in enumerate(ONES.split())}
VALUES |= {word: 10 * tens for tens, word in enumerate(TENS.split(), 2)}


def value_of(words: str) -> int:
    """The number that English words below a million say."""
    total = below_thousand = 0
    for word in words.split():
        if word == "thousand":
            total, below_thousand = below_thousand * 1000, 0
        elif word == "hundred":
            below_thousand *= 100
        else:
            below_thousand += VALUES[word]
    return total + below_thousand


def tokens_of(text: str) -> list[tuple[str, ...]]:
    return [word.tokens for word in spoken_words(text)]


@given(st.integers(0, 999_999))
@example(0)
@example(10)
@example(100)
@example(1_000)
@example(19_019)
@example(999_999)
def test_numbers_below_a_million_are_said_as_they_are_valued(value: int) -> None:
    assert value_of(spell_number(str(value))) == value


@pytest.mark.parametrize(
    ("digits", "spoken"),
    [
        ("1066", "one thousand sixty six"),
        ("1000000", "one zero zero zero zero zero zero"),
        ("007", "zero zero seven"),
        ("0", "zero"),
        ("00", "zero zero"),
    ],
)
def test_long_numbers_and_leading_zeros_are_said_digit_by_digit(digits: str, spoken: str) -> None:
    assert spell_number(digits) == spoken


@pytest.mark.parametrize(
    ("written", "tokens"),
    [
        ("Hello,", ["hello"]),
        ("DON’T", ["don't"]),
        ("'tis", ["tis"]),
        ("“dogs'”", ["dogs"]),
        ("well-known", ["well", "known"]),
        ("naïve", ["naive"]),
        ("Œuvre", ["oeuvre"]),
        ("Straße", ["strasse"]),
        ("Łódź", ["lodz"]),
        ("ﬁne", ["fine"]),
        ("5%", ["five", "percent"]),
        ("R&B", ["r", "and", "b"]),
        ("3.14", ["three", "point", "one", "four"]),
        ("1,000", ["one", "thousand"]),
        ("1,2", ["one", "two"]),
        ("10:30", ["ten", "thirty"]),
        ("2nd", ["two", "nd"]),
        ("x²", ["x", "two"]),
        ("٣", ["three"]),
    ],
)
def test_words_as_they_are_said(written: str, tokens: list[str]) -> None:
    assert tokens_of(written) == [tuple(tokens)]


@pytest.mark.parametrize(
    ("written", "tokens"), [("Acme™", ["acmetm"]), ("25℃", ["twenty", "five", "c"]), ("№", ["no"]), ("Ǽon", ["aeon"])]
)
def test_letters_inside_compatibility_characters_are_english(written: str, tokens: list[str]) -> None:
    assert text_faults(f"{written} and") == []
    assert tokens_of(written) == [tuple(tokens)]


def test_what_is_not_said_joins_the_word_before_it_or_the_first() -> None:
    words = spoken_words("— “Well … yes” - - no —")
    assert [word.text for word in words] == ["— “Well …", "yes” - -", "no —"]
    assert [word.tokens for word in words] == [("well",), ("yes",), ("no",)]


@settings(max_examples=200)
@given(st.text(st.sampled_from("aBcz'’é-–.,;!?\"  \n\t0129%&½") | st.characters(max_codepoint=0x24F)))
def test_every_mark_of_the_text_is_kept_and_every_token_can_be_looked_up(text: str) -> None:
    try:
        words = spoken_words(text)
    except ValueError:
        assume(False)
    assert " ".join(word.text for word in words) == " ".join(text.split())
    for word in words:
        assert word.tokens
        assert all(re.fullmatch(r"[a-z]([a-z']*[a-z])?", token) for token in word.tokens)


@pytest.mark.parametrize("text", ["", "  ", "—", "...!", "' ’ '"])
def test_nothing_to_say_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="can be said"):
        spoken_words(text)


@pytest.mark.parametrize(("text", "letters"), [("the word мир here", "и м р"), ("你好", "你 好"), ("a αβ b", "α β")])
def test_letters_of_other_scripts_are_named(text: str, letters: str) -> None:
    with pytest.raises(ValueError, match=rf"not English: {letters}"):
        spoken_words(text)


@settings(max_examples=300)
@given(st.text(string.ascii_lowercase + "'", min_size=1, max_size=20))
@example("'")
@example("e")
@example("eee")
@example("cheque")
@example("oughe")
def test_any_word_gets_phones_that_the_model_knows(token: str) -> None:
    phones = pronounce_by_rule(token).split()
    assert phones
    assert set(phones) <= set(PHONES.split())
    assert len(phones) <= 2 * max(len(token.replace("'", "")), 1)


@pytest.mark.parametrize(
    ("token", "phones"),
    [
        ("blick", "B L IH K"),
        ("gake", "G EY K"),
        ("thrine", "TH R AY N"),
        ("quibbly", "K W IH B L IY"),
        ("yost", "Y AA S T"),
        ("nation", "N AE SH AH N"),
        ("o'blick", "AA B L IH K"),
    ],
)
def test_regular_spellings_sound_regular(token: str, phones: str) -> None:
    assert pronounce_by_rule(token) == phones


def test_longer_words_get_no_fewer_phones_from_a_repeated_syllable() -> None:
    assert pronounce_by_rule("banaba" * 3).split() == pronounce_by_rule("banaba").split() * 3


def test_what_a_dictionary_lacks_is_pronounced_by_rule() -> None:
    assert not is_by_rule("Bread,", pronouncing_dictionary())
    assert is_by_rule("zorblax", pronouncing_dictionary())
    assert is_by_rule("bread-zorblax", {"bread"})
    assert is_by_rule("中", pronouncing_dictionary())
