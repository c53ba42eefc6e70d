"""Readings of written English: what a speech engine gets to say."""

from __future__ import annotations

import pytest

from lst.data.text import normalise, spoken_words

READINGS = [
    # whole numbers, decimals, ordinals
    ("he has 3 dogs", "he has three dogs"),
    ("1,000,000 people", "one million people"),
    ("12,345 steps", "twelve thousand three hundred forty five steps"),
    ("1 000 000 people", "one million people"),
    ("1\u202f250\u202f000\u2009km", "one million two hundred fifty thousand kilometers"),
    ("$12\u00a0500 a year", "twelve thousand five hundred dollars a year"),
    ("It cost 1 000.50 then", "It cost one thousand point five zero then"),
    ("on May 12 500 came", "on May twelfth five hundred came"),
    ("rooms 101 102 103", "rooms one hundred one one hundred two one hundred three"),
    ("room 101, 102 103", "room one hundred one, one hundred two one hundred three"),
    ("rooms 5, 12 100", "rooms five, twelve one hundred"),
    ("+49 170 123 456", "plus forty nine one hundred seventy one hundred twenty three four hundred fifty six"),
    ("Psalm 119 105", "Psalm one hundred nineteen one hundred five"),
    ("100 200 300", "one hundred two hundred three hundred"),
    ("Boeing 747 400", "Boeing seven hundred forty seven four hundred"),
    ("1 800 FLOWERS", "one eight hundred FLOWERS"),
    ("1 800 people", "one thousand eight hundred people"),
    ("chapter 3 100 pages", "chapter three one hundred pages"),
    ("no. 3 100", "number three one hundred"),
    ("12 500 000 of 200 000", "twelve million five hundred thousand of two hundred thousand"),
    ("747 12\u202f500 x", "seven hundred forty seven twelve thousand five hundred x"),
    ("100\u202f200\u202f300", "one hundred million two hundred thousand three hundred"),
    ("May 12 500 000", "May twelfth five hundred thousand"),
    ("on MAY 12 500 people", "on May twelfth five hundred people"),
    ("In May 12 000 people", "In May twelve thousand people"),
    ("In 1918 200 000 people died", "In nineteen eighteen two hundred thousand people died"),
    ("he (1918) 200 000", "he, one thousand nine hundred eighteen, two hundred thousand"),
    ("call (030) 12 345 678", "call, zero three zero, twelve three hundred forty five six hundred seventy eight"),
    ("In 1990 12 500 people", "In nineteen ninety twelve thousand five hundred people"),
    ("12 000–15 000", "twelve thousand to fifteen thousand"),
    ("345 000-1 250 000", "three hundred forty five thousand to one million two hundred fifty thousand"),
    ("3 000 1/2", "three thousand and a half"),
    ("the 3 500th", "the three thousand five hundredth"),
    ("$1.5bn, £3m and $2tn", "one point five billion dollars, three million pounds and two trillion dollars"),
    ("$10k, $5mn", "ten thousand dollars, five million dollars"),
    ("ring 020 123 456", "ring zero two zero one hundred twenty three four hundred fifty six"),
    ("It is 3.5.", "It is three point five."),
    ("He rose 3.5%. It fell.", "He rose three point five percent. It fell."),
    ("It is $3.5. Then", "It is three point five dollars. Then"),
    ("0.5 of it", "zero point five of it"),
    (".25 of it", "point two five of it"),
    ("007", "zero zero seven"),
    ("the 1st, 2nd, 3rd and 21st", "the first, second, third and twenty first"),
    ("the 30th time", "the thirtieth time"),
    ("-5 degrees", "minus five degrees"),
    ("#1 fan", "number one fan"),
    ("version 1.2.3", "version one point two point three"),
    ("an mp3 player", "an mp three player"),
    # years and decades
    ("in 1984, we", "in nineteen eighty four, we"),
    ("since 1905", "since nineteen oh five"),
    ("in 2004", "in two thousand four"),
    ("by 2010", "by twenty ten"),
    ("in 1900", "in nineteen hundred"),
    ("the 1990s", "the nineteen nineties"),
    ("the '80s", "the eighties"),
    ("50's music", "fifties music"),
    # dates and times
    ("on July 4, 1776", "on July fourth, seventeen seventy six"),
    ("on the 3rd of May 2010", "on the third of May, twenty ten"),
    ("12/25/2014", "December twenty fifth twenty fourteen"),
    ("2014-12-25", "December twenty fifth twenty fourteen"),
    ("at 5:30 pm", "at five thirty P M"),
    ("at 4:00", "at four o'clock"),
    ("at 7:05", "at seven oh five"),
    ("at 10 a.m. he", "at ten A M he"),
    ("a 3:70 split", "a three to seventy split"),
    # prices
    ("$729, all", "seven hundred twenty nine dollars, all"),
    ("$5.50", "five dollars and fifty cents"),
    ("$0.99", "ninety nine cents"),
    ("£1", "one pound"),
    ("$700 million", "seven hundred million dollars"),
    ("$10-20 a day", "ten to twenty dollars a day"),
    # fractions
    ("1/2 mile", "one half mile"),
    ("3/4 cup", "three quarters cup"),
    ("1 1/2 cups", "one and a half cups"),
    ("2-2/3 cups", "two and two thirds cups"),
    ("1¾ cups", "one and three quarters cups"),
    ("½ cup", "one half cup"),
    ("24/7", "twenty four seven"),
    # ranges
    ("20-30 minutes", "twenty to thirty minutes"),
    ("3-4 times", "three to four times"),
    # units
    ("350°F oven", "three hundred fifty degrees Fahrenheit oven"),
    ("36ºf to 40ºf", "thirty six degrees Fahrenheit to forty degrees Fahrenheit"),
    ("70 ° is warm", "seventy degrees is warm"),
    ("32 oz. of milk", "thirty two ounces of milk"),
    ("an 8-oz glass", "an eight ounce glass"),
    ("1 lb. of", "one pound of"),
    ("(45ml) honey", "forty five milliliters, honey"),
    ("2-inch (5.08 cm) strips", "two-inch, five point zero eight centimeters, strips"),
    ("2 tbsp of oil, 1/2 tsp. of salt", "two tablespoons of oil, one half teaspoon of salt"),
    ("1 1/2 hrs. later", "one and a half hours later"),
    ("60 mph", "sixty miles an hour"),
    ("100% sure", "one hundred percent sure"),
    ("5'10\" high", "five foot ten high"),
    ("5 in.", "five inches"),
    ("the 5 in the room", "the five in the room"),
    ("a 60-year-old woman", "a sixty-year-old woman"),
    # abbreviations
    ("Dr. Smith vs. Mr. Jones, etc.", "Doctor Smith versus Mister Jones, et cetera"),
    ("e.g. a dog", "for example a dog"),
    ("w/o milk, w/ sugar", "without milk, with sugar"),
    ("and/or", "and or"),
    # marks, brackets, symbols, addresses
    ("[header] How to bake [title] Warm up. [step] Heat it.", "How to bake. Warm up. Heat it."),
    ("[substeps] Use oil.", "Use oil."),
    ("add oil (a little), then stir", "add oil, a little, then stir"),
    ("salt & pepper", "salt and pepper"),
    ("2 + 2 = 4", "two plus two equals four"),
    ("visit www.kiddio.org/a now", "visit w w w dot kiddio dot org slash a now"),
    ("see https://example.com/", "see example dot com"),
    ("a@b.com", "a at b dot com"),
    ("call 911-555-0123", "call nine one one, five five five, zero one two three"),
    ("1-800-salik", "one, eight hundred, salik"),
    ("it’s “fine”", 'it\'s "fine"'),
    ("Plain words stay, don't they?", "Plain words stay, don't they?"),
]


@pytest.mark.parametrize(("written", "said"), READINGS)
def test_written_text_is_read_aloud(written: str, said: str) -> None:
    assert normalise(written) == said


@pytest.mark.parametrize("written", [written for written, _ in READINGS])
def test_a_reading_is_words_alone_and_is_read_the_same_again(written: str) -> None:
    said = normalise(written)
    assert not any(char.isdigit() for char in said)
    assert not set("[]{}&%$#@/=+°") & set(said)
    assert normalise(said) == said
    assert spoken_words(said)
