"""Short English stories whose endings a small model learns to predict in minutes, and questions about them.

A story is about one person and one thing. Its ending follows from its context: it names the same person and thing, and
uses words of the same topic. Every word is in the packaged pronouncing dictionary, so speech made from a story can be
aligned. ``lst.data.synthesis.grammar`` has the words.

A question gives a context, its true ending, and a false one. How the false one differs is the question's stratum:

========  ================================================================================
stratum   the false ending
========  ================================================================================
topic     is of another topic, about the same person: the words of the topic tell it
name      is the true one with another name, which must be remembered from the context
thing     is the true one with another thing of the topic, which must be remembered as well
story     is that of another story, drawn at random: most often of another topic
========  ================================================================================
"""

from __future__ import annotations

import random
import re
from collections.abc import Collection
from dataclasses import dataclass

from lst.data.synthesis.grammar import StoryGrammar, grammar
from lst.errors import UserError

STRATA = ("topic", "name", "thing", "story")


@dataclass(frozen=True)
class Story:
    """A story of the grammar.

    Args:
        id: ``story-`` and its index in the generated list.
        sentences: with their full stops; the last is the ending.
        topic: name of its topic.
        number: in its grammar.
    """

    id: str
    sentences: tuple[str, ...]
    topic: str
    number: int

    @property
    def text(self) -> str:
        """The sentences joined by a space."""
        return " ".join(self.sentences)

    @property
    def context(self) -> str:
        """All sentences but the ending."""
        return " ".join(self.sentences[:-1])


@dataclass(frozen=True)
class StoryQuestion:
    """A story, and another one that differs from it, in most strata in one respect.

    The false ending of the first is the ending of the second, and the other way round.

    Attributes:
        id: ``STRATUM-`` and a number.
        stratum: one of ``STRATA``, the respect in which they differ.
        true, false: the stories.
    """

    id: str
    stratum: str
    true: Story
    false: Story


def generate_stories(num_stories: int, seed: int, size: str = "standard") -> list[Story]:
    """Draws stories with different texts; the same arguments give the same stories on every machine.

    Args:
        num_stories: how many, 0 to the number of stories of the grammar.
        seed: of the draw, 0 or greater.
        size: of the grammar: mini, standard or wide.

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
    chosen = grammar(size)
    if not 0 <= num_stories <= chosen.num_stories:
        raise UserError(
            f"num_stories={num_stories} is not possible: the grammar has {chosen.num_stories} different stories. "
            f"Ask for 0 to {chosen.num_stories}, or use your own text."
        )
    if seed < 0:
        # Python's generator uses the absolute value of a seed: -1 would repeat 1.
        raise UserError(f"seed={seed} is negative: use 0 or greater.")
    # `sample` takes ranges up to 2^63 only; larger grammars are drawn digit by digit.
    numbers = _sample(chosen.num_stories, num_stories, random.Random(seed))
    return [_story(f"story-{index:06d}", number, chosen) for index, number in enumerate(numbers)]


def _sample(size: int, count: int, draw: random.Random) -> list[int]:
    """Different numbers below ``size``."""
    if size < 1 << 62:
        return draw.sample(range(size), count)
    found: dict[int, None] = {}
    while len(found) < count:
        found.setdefault(draw.randrange(size))
    return list(found)


def _story(story_id: str, number: int, chosen: StoryGrammar) -> Story:
    return Story(story_id, chosen.write(number), chosen.topic(number), number)


def generate_questions(num_a_stratum: int, seed: int, size: str, known: Collection[int]) -> list[StoryQuestion]:
    """Draws questions, ``num_a_stratum`` for each stratum.

    Of the two stories of a question none is ``known``, and none is in another question. Names differ within a gender,
    because pronouns would tell the other one.

    Args:
        num_a_stratum: questions of each stratum.
        seed: of the draw.
        size: of the grammar.
        known: numbers of the stories that a model is trained on.

    Raises:
        UserError: the grammar has too few further stories.

    >>> question = generate_questions(1, 0, "mini", ())[1]
    >>> question.stratum, question.true.sentences[-1], question.false.sentences[-1]
    ('name', 'Anna hugged the little goat behind the bushes.', 'Lucy hugged the little goat behind the bushes.')
    """
    chosen, draw = grammar(size), random.Random(f"questions-{seed}")
    used = set(known)
    questions: list[StoryQuestion] = []
    for stratum in STRATA:
        num_tries = 0
        while len(questions) < num_a_stratum * (STRATA.index(stratum) + 1):
            num_tries += 1
            if num_tries > 100 * num_a_stratum + 1000:
                raise UserError(
                    f"{num_a_stratum} questions a stratum are not possible: the {size} grammar has "
                    f"{chosen.num_stories} stories, of which {len(known)} are trained on; ask for fewer of either, or "
                    "take a larger grammar with data.stories="
                )
            true = draw.randrange(chosen.num_stories)
            false = _changed(true, stratum, chosen, draw)
            if not used.isdisjoint((true, false)) or not _ends_otherwise(true, false, chosen):
                continue
            used |= {true, false}
            name = f"{stratum}-{len(questions) % num_a_stratum:04d}"
            stories = (_story(f"{name}-{kind}", number, chosen) for kind, number in (("true", true), ("false", false)))
            questions.append(StoryQuestion(name, stratum, *stories))
    return questions


def _ends_otherwise(true: int, false: int, chosen: StoryGrammar) -> bool:
    """Whether the ending of the one does not fit the other: it does where topic, name and thing are the same."""
    return chosen.digits(true)[:3] != chosen.digits(false)[:3]


def _changed(number: int, stratum: str, chosen: StoryGrammar, draw: random.Random) -> int:
    """The story with another topic, name or thing, or any story."""
    if stratum == "story":
        return draw.randrange(chosen.num_stories)
    digits = list(chosen.digits(number))
    place = chosen.CHOICES.index(stratum)
    allowed = range(chosen.radices[place])
    if stratum == "name":
        num_she = len(chosen.she)
        allowed = range(num_she) if digits[place] < num_she else range(num_she, len(chosen.names))
    digits[place] = draw.choice([value for value in allowed if value != digits[place]])
    return chosen.number(tuple(digits))


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
