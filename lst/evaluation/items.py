"""Items of an evaluation: a context, its endings, one of them true, and another context to swap it with.

::

    held-out utterances ──cloze_items──▶ Item      (``lst.evaluation.cloze``)
    questions of prepared data ──question_items──▶ Item
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lst.data.questions import Question
from lst.data.utterance import Utterance
from lst.errors import UserError
from lst.storage import fingerprint


@dataclass(frozen=True)
class Part:
    """Words ``first_word`` … ``last_word`` (exclusive) of an utterance, as speech and as text."""

    utterance: Utterance
    first_word: int
    last_word: int

    @classmethod
    def whole(cls, utterance: Utterance) -> Part:
        """All words of an utterance."""
        return cls(utterance, 0, len(utterance.words))

    @classmethod
    def nothing(cls, utterance: Utterance) -> Part:
        """No word: the context of endings that stand alone."""
        return cls(utterance, 0, 0)

    @property
    def is_nothing(self) -> bool:
        """Whether it has no word."""
        return self.first_word == self.last_word

    @property
    def text(self) -> str:
        """The words, joined by spaces."""
        return " ".join(word.text for word in self.utterance.words[self.first_word : self.last_word])


@dataclass(frozen=True)
class Item:
    """One question to a model: which ending belongs to the context?

    Attributes:
        id: unique in the evaluation.
        stratum: the kind of the false endings; empty where the items have no kinds.
        context: which the true ending follows from; ``Part.nothing`` where endings stand alone.
        other_context: which it does not follow from, or nothing likewise. Under it, an ending shows what it costs
            whatever the context.
        endings: two or more.
        label: index of the true ending.
    """

    id: str
    stratum: str
    context: Part
    other_context: Part
    endings: tuple[Part, ...]
    label: int


def items_fingerprint(items: Sequence[Item]) -> str:
    """Fingerprint of ids and words: equal items are paired, whatever units their speech became."""
    return fingerprint(
        [
            [item.id, item.stratum, item.context.text, [ending.text for ending in item.endings], item.label]
            for item in items
        ]
    )


def question_items(questions: Sequence[Question], utterances: Mapping[str, Utterance]) -> list[Item]:
    """Items of questions whose contexts and endings were spoken separately.

    Args:
        questions: of prepared data.
        utterances: by id.

    Raises:
        UserError: an utterance of a question is missing.
    """
    needed = {name for question in questions for name in question.utterances}
    if missing := sorted(needed - set(utterances)):
        raise UserError(
            f"{len(missing)} utterances of the questions are missing, the first is {missing[0]!r}: prepare again"
        )

    def context(question: Question, name: str) -> Part:
        return Part.whole(utterances[name]) if name else Part.nothing(utterances[question.endings[0]])

    return [
        Item(
            question.id,
            question.stratum,
            context(question, question.context),
            context(question, question.other_context),
            tuple(Part.whole(utterances[name]) for name in question.endings),
            question.label,
        )
        for question in questions
    ]
