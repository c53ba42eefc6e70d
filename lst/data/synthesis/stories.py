"""Short English stories from a small grammar, whose endings a tiny model learns to predict in minutes.

A story has five sentences about one person and one thing. The fifth follows from the first four: it names the same
person and thing and uses words of the same topic. So a tiny model can learn to answer story-cloze questions (which
ending is the true one?). Every word is in the CMU pronouncing dictionary, so speech made from a story can be aligned.

A story is a number in mixed radix, with one digit for each choice: topic, person, thing, place, helper, and the wording
of each sentence. Different numbers give different texts.
"""

from __future__ import annotations

import json
import random
import re
from dataclasses import dataclass
from importlib import resources
from math import prod

from lst.errors import UserError

SENTENCES_PER_STORY = 5


@dataclass(frozen=True)
class Story:
    """Five sentences about one topic.

    Args:
        id: ``story-`` and its index in the generated list.
        sentences: five sentences with their full stops; the last is the ending.
        topic: the name of one of ``TOPICS``.
    """

    id: str
    sentences: tuple[str, ...]
    topic: str

    @property
    def text(self) -> str:
        """The sentences joined by a space."""
        return " ".join(self.sentences)


@dataclass(frozen=True)
class Topic:
    """Wordings of the stories about one topic.

    In every wording, sentences 1 and 5 contain ``{name}`` and ``{thing}``, sentence 2 ``{place}`` and sentence 4
    ``{helper}``. So different choices give different texts, and the ending depends on the first sentence. ``{He}``,
    ``{His}``, ``{his}`` and ``{him}`` agree with the name.
    """

    name: str
    things: tuple[str, str, str]
    places: tuple[str, str, str]
    wordings: tuple[tuple[str, str, str], ...]


HE = {"He": "He", "His": "His", "his": "his", "him": "him"}
SHE = {"He": "She", "His": "Her", "his": "her", "him": "her"}
NAMES = (
    "Anna",
    "Emma",
    "Lucy",
    "Mary",
    "Sarah",
    "Kate",
    "Jane",
    "Helen",
    "Tom",
    "Ben",
    "Jack",
    "Peter",
    "Sam",
    "David",
    "Adam",
    "Paul",
)
NUM_SHE = 8  # The first names of the list are women's.
HELPERS = ("sister", "brother", "mother", "friend")

TOPICS = tuple(
    Topic(topic["name"], tuple(topic["things"]), tuple(topic["places"]), tuple(map(tuple, topic["wordings"])))
    for topic in json.loads(resources.files("lst.data.synthesis").joinpath("topics.json").read_text(encoding="utf-8"))
)
_RADICES = (len(TOPICS), len(NAMES), 3, 3, len(HELPERS), *(3,) * SENTENCES_PER_STORY)
NUM_POSSIBLE_STORIES = prod(_RADICES)


def generate_stories(num_stories: int, seed: int) -> list[Story]:
    """Draws stories with different texts; the same arguments give the same stories on every machine.

    Args:
        num_stories: how many, 0 to ``NUM_POSSIBLE_STORIES``.
        seed: of the draw, 0 or greater.

    Returns:
        Stories with the ids ``story-000000``, ``story-000001`` and so on.

    Raises:
        UserError: ``num_stories`` is out of range, or ``seed`` is negative.

    >>> story = generate_stories(1, seed=0)[0]
    >>> story.id, story.topic, len(story.sentences)
    ('story-000000', 'paint', 5)
    >>> story.sentences[0], story.sentences[-1]
    ('Peter wanted to paint the old fence.', 'The fence was bright, and Peter washed the brush.')
    """
    if not 0 <= num_stories <= NUM_POSSIBLE_STORIES:
        raise UserError(
            f"num_stories={num_stories} is not possible: the grammar has {NUM_POSSIBLE_STORIES} different stories. "
            f"Ask for 0 to {NUM_POSSIBLE_STORIES}, or use your own text."
        )
    if seed < 0:
        # Python's generator uses the absolute value of a seed: -1 would repeat 1.
        raise UserError(f"seed={seed} is negative: use 0 or greater.")
    numbers = random.Random(seed).sample(range(NUM_POSSIBLE_STORIES), num_stories)
    return [_story(f"story-{index:06d}", number) for index, number in enumerate(numbers)]


def _story(story_id: str, number: int) -> Story:
    """The story whose mixed-radix digits are those of ``number``."""
    digits = []
    for radix in _RADICES:
        number, digit = divmod(number, radix)
        digits.append(digit)
    topic_index, name_index, thing_index, place_index, helper_index, *wording_indices = digits
    topic = TOPICS[topic_index]
    words = {
        "name": NAMES[name_index],
        "thing": topic.things[thing_index],
        "place": topic.places[place_index],
        "helper": HELPERS[helper_index],
        **(SHE if name_index < NUM_SHE else HE),
    }
    sentences = tuple(
        wordings[index].format_map(words) for wordings, index in zip(topic.wordings, wording_indices, strict=True)
    )
    return Story(story_id, sentences, topic.name)


# A sentence ends with . ! or ? and closing quotes or brackets, before white space or the end of the text.
_SENTENCE = re.compile(r"""\S.*?(?:[.!?]+["'”’)\]]*(?=\s|$)|$)""", re.DOTALL)


def split_sentences(text: str) -> list[str]:
    """Splits English text after ``.``, ``!`` or ``?`` that white space follows.

    Punctuation and closing quotes stay with their sentence, and white space becomes single spaces. The full stop of an
    abbreviation (``Mr. Brown``) also splits, because it looks like the end of a sentence.

    >>> split_sentences("She asked: “Why?” He  left.")
    ['She asked: “Why?”', 'He left.']
    """
    return [" ".join(match.group().split()) for match in _SENTENCE.finditer(text.rstrip())]
