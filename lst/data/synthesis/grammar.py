"""The words of the stories, in three sizes: ``mini``, ``standard`` and ``wide``.

=========  ======  =====  ======  =========  ===========
size       topics  names  things  sentences  word types
=========  ======  =====  ======  =========  ===========
mini       6       6      3       3          about 150
standard   14      16     3       5          about 350
wide       14      506    25      6          about 1,900
=========  ======  =====  ======  =========  ===========

Things are counted a topic. A story is a number in mixed radix, with one digit for each choice
(``StoryGrammar.CHOICES``) and one for the wording of each sentence. Different numbers give different texts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from itertools import product
from math import prod
from typing import Any, NamedTuple

from lst.data.synthesis.phone_lattice import Text

SIZES = ("mini", "standard", "wide")
HE = {"He": "He", "His": "His", "his": "his", "him": "him"}
SHE = {"He": "She", "His": "Her", "his": "her", "him": "her"}
WORDINGS_A_SENTENCE = 3


@dataclass(frozen=True)
class Topic:
    """Wordings of the stories about one topic.

    In every wording, sentences 1 and 5 contain ``{name}`` and ``{thing}``, sentence 2 ``{place}`` and sentence 4
    ``{helper}``. So different choices give different texts, and the ending depends on the first sentence. ``{He}``,
    ``{His}``, ``{his}`` and ``{him}`` agree with the name.
    """

    name: str
    things: tuple[str, ...]
    places: tuple[str, ...]
    wordings: tuple[tuple[str, ...], ...]


class Plot(NamedTuple):
    """Topic, name and thing of a story: all that two of its sentences share. Indices, the last within the topic."""

    topic: int
    name: int
    thing: int


@dataclass(frozen=True)
class StoryGrammar:
    """All stories of one size.

    Attributes:
        topics: with as many things and places each.
        she, he: names that these pronouns stand for.
        helpers: who helps.
        openings: words of a first sentence about the day, by slot; empty for stories without one.
        sentences: which of a topic's sentences a story has; the last of them is the ending.
    """

    topics: tuple[Topic, ...]
    she: tuple[str, ...]
    he: tuple[str, ...]
    helpers: tuple[str, ...]
    openings: dict[str, tuple[str, ...]]
    sentences: tuple[int, ...]

    CHOICES = ("topic", "name", "thing", "place", "helper")

    @property
    def names(self) -> tuple[str, ...]:
        """All names, those of women first."""
        return self.she + self.he

    @property
    def radices(self) -> tuple[int, ...]:
        """Number of values of each digit of a story: ``CHOICES``, wordings, words of the opening."""
        first = self.topics[0]
        choices = (len(self.topics), len(self.names), len(first.things), len(first.places), len(self.helpers))
        wordings = (WORDINGS_A_SENTENCE,) * len(self.sentences)
        return (*choices, *wordings, *(len(words) for words in self.openings.values()))

    @property
    def num_stories(self) -> int:
        """Number of different stories."""
        return prod(self.radices)

    def digits(self, number: int) -> tuple[int, ...]:
        """The choices of a story; the inverse of ``number``."""
        found = []
        for radix in self.radices:
            number, digit = divmod(number, radix)
            found.append(digit)
        return tuple(found)

    def number(self, digits: tuple[int, ...]) -> int:
        """The story with these choices."""
        number = 0
        for digit, radix in zip(reversed(digits), reversed(self.radices), strict=True):
            number = number * radix + digit
        return number

    def topic(self, number: int) -> str:
        """The topic of a story."""
        return self.topics[self.digits(number)[0]].name

    def write(self, number: int) -> tuple[str, ...]:
        """The sentences of a story; the last is the ending.

        >>> grammar("mini").write(0)[::2]
        ('Anna wanted to bake some bread.', 'Anna ate the warm bread with butter.')
        """
        digits = self.digits(number)
        topic, name = self.topics[digits[0]], digits[1]
        words = {
            "name": self.names[name],
            "thing": topic.things[digits[2]],
            "place": topic.places[digits[3]],
            "helper": self.helpers[digits[4]],
            **(SHE if name < len(self.she) else HE),
        }
        first = len(self.CHOICES)
        wordings, opening = digits[first : first + len(self.sentences)], digits[first + len(self.sentences) :]
        written = [
            topic.wordings[sentence][wording].format_map(words)
            for sentence, wording in zip(self.sentences, wordings, strict=True)
        ]
        if opening:
            mood, day, town = (own[digit] for own, digit in zip(self.openings.values(), opening, strict=True))
            written.insert(0, f"It was {_article(mood)} {mood} {day} in {town}.")
        return tuple(written)

    @property
    def plots(self) -> list[Plot]:
        """What sentences of one story share: all combinations of topic, name and thing."""
        sizes = (len(self.topics), len(self.names), len(self.topics[0].things))
        return [Plot(*digits) for digits in product(*map(range, sizes))]

    def texts(self, topic: int, names: Sequence[int], things: Sequence[int]) -> Text:
        """All texts of a topic, as choices: each sentence has any of these names and things, places and helpers.

        With one name and one thing, these are stories. With several, sentences need not agree about the person.

        Args:
            topic: index in ``topics``.
            names: indices in ``names``, of one gender, which the pronouns have.
            things: indices in the topic's things.
        """
        own = self.topics[topic]
        words = {
            "name": [self.names[name] for name in names],
            "thing": [own.things[thing] for thing in things],
            "place": own.places,
            "helper": self.helpers,
            **{key: (word,) for key, word in (SHE if names[0] < len(self.she) else HE).items()},
        }
        found: list[list[list[tuple[str, ...]]]] = [
            [[_filled(word, words) for word in wording.split()] for wording in own.wordings[sentence]]
            for sentence in self.sentences
        ]
        if self.openings:
            moods, days, towns = self.openings.values()
            by_article = {article: [mood for mood in moods if _article(mood) == article] for article in ("a", "an")}
            opening = [
                [
                    *((word,) for word in ("It", "was", article)),
                    tuple(own),
                    days,
                    ("in",),
                    tuple(f"{t}." for t in towns),
                ]
                for article, own in by_article.items()
            ]
            found.insert(0, opening)
        return found

    def plots_of(self, sentence: str, place: int) -> list[Plot]:
        """The topics, names and things with which a story can have this sentence.

        Args:
            sentence: with its full stop.
            place: of the sentence among ``sentences``, from 0; -1 is the ending.
        """
        found = []
        for number, topic in enumerate(self.topics):
            for wording in topic.wordings[self.sentences[place]]:
                pattern = re.escape(wording).replace(r"\{name\}", "(?P<name>.+)").replace(r"\{thing\}", "(?P<thing>.+)")
                told = re.fullmatch(pattern, sentence)
                if told and told["name"] in self.names and told["thing"] in topic.things:
                    found.append(Plot(number, self.names.index(told["name"]), topic.things.index(told["thing"])))
        return found


def _article(word: str) -> str:
    return "an" if word[0] in "aeiou" else "a"


def _filled(word: str, words: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """A word of a wording, such as ``{name}`` or ``{thing}.``, with each of the words that it stands for."""
    key = re.search(r"{(\w+)}", word)
    return (word,) if key is None else tuple(word.replace(key[0], filling) for filling in words[key[1]])


@cache
def grammar(size: str) -> StoryGrammar:
    """The grammar of a size of ``SIZES``."""
    topics = tuple(
        Topic(topic["name"], tuple(topic["things"]), tuple(topic["places"]), tuple(map(tuple, topic["wordings"])))
        for topic in _packaged("topics.json")
    )
    standard = StoryGrammar(
        topics=topics,
        she=("Anna", "Emma", "Lucy", "Mary", "Sarah", "Kate", "Jane", "Helen"),
        he=("Tom", "Ben", "Jack", "Peter", "Sam", "David", "Adam", "Paul"),
        helpers=("sister", "brother", "mother", "friend"),
        openings={},
        sentences=(0, 1, 2, 3, 4),
    )
    if size == "standard":
        return standard
    if size == "mini":
        return replace(
            standard,
            topics=topics[:6],
            she=standard.she[:3],
            he=standard.he[:3],
            helpers=("sister",),
            sentences=(0, 1, 4),
        )
    lists = _packaged("wide.json")
    own = {key: tuple(lists[key].split()) for key in ("she", "he", "helpers", "moods", "days", "towns")}
    return replace(
        standard,
        topics=tuple(
            replace(topic, things=tuple(own["things"].split()), places=tuple(own["places"].split()))
            for topic, own in ((topic, lists["topics"][topic.name]) for topic in topics)
        ),
        she=tuple(map(str.capitalize, own["she"])),
        he=tuple(map(str.capitalize, own["he"])),
        helpers=own["helpers"],
        openings={key: own[key] for key in ("moods", "days", "towns")},
    )


def _packaged(name: str) -> Any:
    return json.loads(resources.files("lst.data.synthesis").joinpath(name).read_text(encoding="utf-8"))
