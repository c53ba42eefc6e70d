"""Further readings of transcripts: what people say for a number or an abbreviation is among them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lst.data.text import spoken_words, word_readings
from lst.data.text.alternatives import MAX_READINGS
from lst.data.text.normalise import normalise

SAID = [
    (
        "In 1984 he",
        "1984",
        ["nineteen eighty four", "nineteen hundred and eighty four", "one nine eight four"],
    ),
    ("by 1905.", "1905.", ["nineteen oh five", "nineteen hundred and five"]),
    ("In 2012, we", "2012,", ["two thousand twelve", "two thousand and twelve", "twenty twelve"]),
    ("some 1 000 000 people", "1", ["one million", "a million", "one"]),
    ("some 1 000 000 people", "000", ["", "zero zero zero"]),
    ("some 2\u2009105\u2009007 people", "105", ["one hundred five thousand", "a hundred and five thousand"]),
    ("some 2\u2009105\u2009007 people", "007", ["seven", "and seven"]),
    ("for $12\u00a0500 then", "500", ["five hundred dollars", "five hundred"]),
    ("paid $5/$12 000", "$5/$12", ["five dollars twelve thousand"]),
    ("paid $5/$12 000", "000", ["dollars", ""]),
    ("some 12 345–15 000", "345–15", ["three hundred forty five to fifteen thousand"]),
    ("on MAY 12 500 people", "12", ["twelve", "twelfth"]),
    ("some $2tn was", "$2tn", ["two trillion dollars", "two trillion"]),
    ("it is 3.5.", "3.5.", ["three point five"]),
    ("it is $3.5.", "$3.5.", ["three point five dollars"]),
    ("at 221 Baker", "221", ["two twenty one", "two hundred and twenty one", "two two one"]),
    ("the 1,200 people", "1,200", ["twelve hundred", "one thousand two hundred"]),
    ("a 105 b", "105", ["one oh five", "a hundred and five"]),
    ("on May 3 we", "3", ["three", "third", "the third"]),
    ("came 21st out", "21st", ["twenty first", "the twenty first"]),
    ("the 1990s were", "1990s", ["nineteen nineties"]),
    ("the '80s were", "'80s", ["eighties"]),
    ("at 5:30 pm", "5:30", ["five thirty", "half past five"]),
    ("at 5:45 today", "5:45", ["quarter to six", "five forty five"]),
    ("at 7:00 today", "7:00", ["seven o'clock", "seven"]),
    ("at 5:30 pm", "pm", ["pm", "p m"]),
    ("cost $5.50 then", "$5.50", ["five dollars and fifty cents", "five fifty", "five dollars fifty"]),
    ("cost £3", "£3", ["three pounds", "three"]),
    ("a $5 million deal", "million", ["million dollars", "million"]),
    ("about 20% of", "20%", ["twenty percent", "twenty per cent"]),
    ("is 3.14 now", "3.14", ["three point one four", "three fourteen"]),
    ("on 555-0199 now", "555-0199", ["five five five zero one nine nine", "five five five oh one nine nine"]),
    ("to -5 °C now", "-5", ["minus five", "negative five"]),
    ("to -5 °C now", "°C", ["degrees celsius", "degrees"]),
    ("drove 60 mph for", "mph", ["miles an hour", "miles per hour"]),
    ("and 15 min.", "min.", ["minutes"]),
    ("from 3-4 times", "3-4", ["three to four", "three four"]),
    ("on 12/25/2014 we", "12/25/2014", ["december twenty fifth twenty fourteen"]),
    ("on 4.7.2014 we", "4.7.2014", ["the fourth of july twenty fourteen", "april seventh twenty fourteen"]),
    ("on 2014-07-04 we", "2014-07-04", ["july fourth twenty fourteen", "july fourth two thousand fourteen"]),
    ("on 7/4/09 we", "7/4/09", ["july fourth oh nine", "seven four oh nine"]),
    ("on 9/11 we", "9/11", ["nine eleven", "september eleventh"]),
    ("open 24/7 now", "24/7", ["twenty four seven"]),
    ("for 1 1/2 hours", "1/2", ["and a half", "half", "one half"]),
    ("about 3/4 of", "3/4", ["three quarters", "three over four"]),
    ("for 2½ hours", "2½", ["two and a half"]),
    ("a ½ cup", "½", ["half", "a half", "one half"]),
    ("a $2.5 million deal", "$2.5", ["two point five", "two point five dollars"]),
    ("some £3m was", "£3m", ["three million pounds", "three million"]),
    ("over 10k people", "10k", ["ten thousand", "ten k"]),
    ("at -12°C now", "-12°C", ["minus twelve degrees celsius", "minus twelve degrees"]),
    ("in 2019-2020 we", "2019-2020", ["twenty nineteen to twenty twenty"]),
    ("World War I was", "I", ["one", "i"]),
    ("Henry V had", "V", ["the fifth", "five"]),
    ("Dr. Smith", "Dr.", ["doctor", "drive"]),
    ("Baker St. near", "St.", ["street", "saint"]),
    ("the city, no. 4", "no.", ["number", "no"]),
    ("Henry VIII had", "VIII", ["the eighth", "eight"]),
    ("the FBI came", "FBI", ["fbi", "f b i"]),
    ("you & me", "&", ["and", ""]),
    ("we [laughter] sat", "[laughter]", ["", "laughter"]),
    ("on <COMMA> we", "<COMMA>", ["", "comma"]),
    ("{um} we", "{um}", ["", "um"]),
    ("so (they say) it", "(they", ["", "they"]),
    ("and &lt;unk&gt; it", "<unk>", ["", "unk"]),
    ("word[noise] it", "word[noise]", ["word"]),
]


@pytest.mark.parametrize(("text", "piece", "readings"), SAID)
def test_what_people_say_is_among_the_readings(text: str, piece: str, readings: list[str]) -> None:
    found = {one.text: [" ".join(reading) for reading in one.readings] for one in word_readings(text)}
    assert set(readings) <= set(found[piece]), found[piece]


@pytest.mark.parametrize(
    "text",
    [
        *("rooms 101 102 103", "room 101, 102 103", "49 170 123 4567", "Psalm 119 105", "Boeing 747 400", "$3.5"),
        *("1 800 FLOWERS", "chapter 3 100 pages", "12 500 000 of 200 000", "some 12 000–15 000", "12 345-15 000"),
        *(
            "the 3 000th",
            "the 3 500th",
            "the 1 000 000th",
            "for $12 500",
            "$3 000 million",
            "$5 million",
            "£2.5 Billion",
            "$1.5bn",
            "£3m",
            "$5.50",
        ),
    ],
)
def test_the_first_reading_of_numbers_is_that_of_written_text(text: str) -> None:
    plain = [token for piece in word_readings(text) for token in piece.readings[0]]
    assert plain == normalise(text).lower().replace(",", "").split()


def test_plain_words_have_one_reading_and_labels_are_silent_first() -> None:
    for text in ("NO DOCTOR SAID FBI IN THE STREET", "“Well-known!” — it's no doctor I know"):
        assert {len(piece.readings) for piece in word_readings(text)} == {1}
    assert [piece.readings[0] for piece in word_readings("<unk> [a b] {c} (d)")] == 5 * [()]
    assert [piece.readings for piece in word_readings("[a] (b)", ["[]"])] == [((), ("a",)), (("b",),)]
    assert word_readings("a < b > c")[1].readings == ((),)
    assert word_readings("это")[0].readings == ()
    assert [piece.text for piece in word_readings("Tom &amp; AT&T &unknown;")] == ["Tom", "&", "AT&T", "&unknown;"]


@given(st.text(alphabet="aZ0159.,:;-$%&°'/[]<>() é", max_size=30))
@settings(max_examples=150, deadline=None)
def test_any_text_has_a_piece_for_each_word_and_the_plain_reading_first(text: str) -> None:
    pieces = word_readings(text, ())
    assert [piece.text for piece in pieces] == text.split()
    for piece in pieces:
        assert 1 <= len(piece.readings) <= MAX_READINGS
        assert len(set(piece.readings)) == len(piece.readings)
    try:
        plain = [token for word in spoken_words(text) for token in word.tokens]
    except ValueError:
        plain = []
    assert [token for piece in pieces for token in piece.readings[0]] == plain
