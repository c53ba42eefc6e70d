"""The report's questions: accuracies in strata, models compared, controls, and single questions to read and hear."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from typing import NamedTuple, Protocol, TypedDict

import numpy as np
import numpy.typing as npt

from lst.data.documents import span_frames
from lst.data.prepared import PreparedData
from lst.data.questions import Question
from lst.data.utterance import Utterance
from lst.errors import LstError
from lst.evaluation.accuracy import HEADLINE, SIGNIFICANT, ending_scores, headline_accuracy
from lst.evaluation.ceilings import ceilings_of, floors_as_text
from lst.evaluation.items import Part
from lst.evaluation.results import (
    DIRECTIONS,
    Accuracy,
    ControlScore,
    ItemRow,
    RunResults,
    StratumSummary,
)
from lst.recipes.report.audio import SAMPLE_RATE_HZ, audio_address
from lst.recipes.report.page import Section
from lst.recipes.report.plots import DIRECTION_NAMES
from lst.recipes.report.record import ModelRecord, RunRecord
from lst.tokenizers.neural_codec import CODEC_RATE_HZ, CodecTokenizer

STRATUM_NAMES = {"topic": "another topic", "name": "another name", "thing": "another thing", "story": "another story"}
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


class AnswersRow(NamedTuple):
    """Accuracies of a model in one direction, by stratum, and the name of the headline score."""

    model: ModelRecord
    direction: str
    score: str
    cells: Sequence[StratumSummary]


class CeilingsRow(NamedTuple):
    """Accuracies of an oracle in one direction, by stratum; ``knows`` is one line about it."""

    name: str
    knows: str
    direction: str
    cells: Sequence[Accuracy]


@dataclass(frozen=True, kw_only=True)
class QuestionsSection(Section):
    """Accuracies by model, direction and stratum; models compared; and controls.

    Attributes:
        found: what ``results.json`` says.
        controls: by name, of the first model's evaluation.
        strata: heads of the columns, by stratum.
        num_items: questions of each stratum.
        rows: of the table of models.
        directions: names of the directions, by sign.
        ceilings: what the best listener and readers answer; none where the data has no oracles.
        floors: lines about the entropy of the held-out stories.
        significant: p-values below it tell apart.
    """

    found: RunResults
    controls: Mapping[str, ControlScore]
    strata: Mapping[str, str]
    num_items: Sequence[int]
    rows: Sequence[AnswersRow]
    directions: Mapping[str, str]
    ceilings: Sequence[CeilingsRow] = ()
    floors: Sequence[str] = ()
    significant: float = SIGNIFICANT


def questions_section(run: RunRecord) -> QuestionsSection:
    """The questions in numbers; the models were asked some."""
    found, result = run.summary, run.evaluated[0].result
    assert found is not None
    assert result is not None
    models = {model.name: model for model in run.models}
    first = found["models"][0]["directions"]["S→S"]
    rows = [
        AnswersRow(models[model["name"]], direction, own["score"], [own, *own["strata"].values()])
        for model in found["models"]
        for direction, own in model["directions"].items()
    ]
    return QuestionsSection(
        "questions",
        "Questions",
        run.badge,
        found=found,
        controls=result.get("controls", {}).get("questions", {}),
        strata={stratum: STRATUM_NAMES.get(stratum, stratum) for stratum in (first["stratum"], *first["strata"])},
        num_items=[first["num_items"], *(own["num_items"] for own in first["strata"].values())],
        rows=rows,
        directions=DIRECTION_NAMES,
        **_ceilings(run, (first["stratum"], *first["strata"])),
    )


class _Ceilings(TypedDict):
    ceilings: Sequence[CeilingsRow]
    floors: Sequence[str]


def _ceilings(run: RunRecord, strata: Sequence[str]) -> _Ceilings:
    found = ceilings_of(run.folder, run.data.fingerprint)
    if found is None:
        return {"ceilings": (), "floors": ()}
    rows = [
        CeilingsRow(
            oracle["name"],
            oracle["knows"],
            direction,
            [headline_accuracy(score, stratum) for stratum in strata],
        )
        for oracle in found["oracles"]
        for direction, score in oracle["questions"].items()
    ]
    return {"ceilings": rows, "floors": [line for line in floors_as_text(found) if line]}


class Answer(NamedTuple):
    """What a model chose in one direction.

    Attributes:
        chosen: letter of the ending; empty in a tie.
        is_right: whether it is the true one.
        margin: by how much the true ending scores higher than the best other one, in nats (a token, for ``mean``).
    """

    chosen: str
    is_right: bool
    margin: float


class ShownModel(Protocol):
    """A model as rows of tables show it."""

    @property
    def name(self) -> str:
        """For people."""

    @property
    def colour(self) -> int:
        """Index of its colour."""


class SpokenPart(NamedTuple):
    """A context or an ending: its text, a ``data:`` URL of its sound (or nothing), and whether it is the true one."""

    text: str
    address: str
    is_true: bool = False


@dataclass(frozen=True)
class BrowsedQuestion:
    """A question, and what each model chose, by direction; None where the model was not asked."""

    id: str
    stratum: str
    context: SpokenPart
    endings: Sequence[SpokenPart]
    answers: Sequence[tuple[ShownModel, Sequence[Answer | None]]]


@dataclass(frozen=True, kw_only=True)
class BrowserSection(Section):
    """Single questions of ``num_all``, in directions; ``silence`` says why some or all have no sound."""

    questions: Sequence[BrowsedQuestion]
    num_all: int
    directions: Sequence[str] = DIRECTIONS
    silence: str
    is_decoded: bool
    letters: str = LETTERS


def browser_section(run: RunRecord) -> BrowserSection:
    """A few questions, drawn from the seed and from all strata alike, with what each model chose."""
    chosen = drawn_questions(run.data.questions, run.config.report.num_questions, run.config.seed)
    wanted = {name for question in chosen for name in (question.context, *question.endings)}
    parts = {part.id: part for part in run.data.question_parts if part.id in wanted} if wanted else {}
    asked = {model.name: rows_by_item(model.questions) for model in run.evaluated}
    sounds = SpokenParts(run)
    questions = [
        BrowsedQuestion(
            question.id,
            STRATUM_NAMES.get(question.stratum, question.stratum),
            sounds.part(Part.whole(parts[question.context])),
            [
                sounds.part(Part.whole(parts[name]), number == question.label)
                for number, name in enumerate(question.endings)
            ],
            [
                (
                    model,
                    [
                        answer_of(asked[model.name][question.id, direction], HEADLINE[direction])
                        for direction in DIRECTIONS
                    ],
                )
                for model in run.evaluated
            ],
        )
        for question in chosen
    ]
    return BrowserSection(
        "browser",
        "Questions, one by one",
        run.badge,
        questions=questions,
        num_all=len(run.data.questions),
        silence=sounds.problem,
        is_decoded=sounds.is_decoded,
    )


def drawn_questions(questions: Sequence[Question], count: int, seed: int) -> list[Question]:
    """Some questions, of all strata in turn; the same ones for the same seed."""
    order = np.random.default_rng([0xB0A, seed]).permutation(len(questions))
    by_stratum: dict[str, list[Question]] = defaultdict(list)
    for place in order:
        by_stratum[questions[place].stratum].append(questions[place])
    in_turn = chain.from_iterable(zip_longest(*(by_stratum[stratum] for stratum in sorted(by_stratum))))
    return [question for question in in_turn if question is not None][:count]


def rows_by_item(rows: Sequence[ItemRow]) -> dict[tuple[str, str], list[ItemRow]]:
    """The rows of each item in each direction; none for what was not asked."""
    found: dict[tuple[str, str], list[ItemRow]] = defaultdict(list)
    for row in rows:
        found[row["item"], row["direction"]].append(row)
    return found


def answer_of(rows: Sequence[ItemRow], score: str) -> Answer | None:
    """What a model chose by a score, of the rows of an item's endings in one direction."""
    if not rows:
        return None
    scores = ending_scores(rows, score)
    true = np.array([row["is_true"] for row in rows])
    margin = float(scores[true].max() - scores[~true].max())
    chosen = "" if margin == 0 else LETTERS[rows[int(scores.argmax())]["ending"]]
    return Answer(chosen, margin > 0, margin)


class SpeechSource(Protocol):
    """Prepared data, and the audio of its utterances."""

    @property
    def data(self) -> PreparedData:
        """The data."""

    @property
    def speech(self) -> str:
        """What its speech is called."""

    def has_audio(self, utterance: Utterance) -> bool:
        """Whether the audio of an utterance is there."""

    def waveform_of(self, utterance: Utterance) -> npt.NDArray[np.float32]:
        """The audio of an utterance, float32 [num_samples] at 16 kHz."""


class SpokenParts:
    """Texts and sounds of parts of items: recorded, or decoded of their units.

    Attributes:
        problem: why a part has none; empty if all have.
        is_decoded: whether some were decoded.
    """

    def __init__(self, source: SpeechSource) -> None:
        self._source = source
        self.problem, self.is_decoded = "", False

    def part(self, part: Part, is_true: bool = False) -> SpokenPart:
        """The text and sound of a part."""
        utterance = part.utterance
        is_whole = part == Part.whole(utterance)
        vocabulary = self._source.data.vocabulary
        units = slice(0, utterance.num_frames)
        if not is_whole:
            units = slice(*span_frames(utterance, part.first_word, part.last_word, vocabulary.units_a_frame))
        try:
            address = "" if part.is_nothing else self._address(utterance, units, is_whole)
        except LstError as error:
            address, self.problem = "", str(error)
        return SpokenPart(utterance.text if is_whole else part.text, address, is_true)

    def _address(self, utterance: Utterance, units: slice, is_whole: bool) -> str:
        data = self._source.data
        if self._source.has_audio(utterance):
            waveform, rate_hz = self._source.waveform_of(utterance), data.vocabulary.unit_rate_hz
            if not is_whole:
                waveform = waveform[units.start * SAMPLE_RATE_HZ // rate_hz : units.stop * SAMPLE_RATE_HZ // rate_hz]
            return audio_address(waveform, SAMPLE_RATE_HZ)
        if isinstance(data.codec, CodecTokenizer):
            self.is_decoded = True
            return audio_address(data.codec.decode(utterance.units[units]), CODEC_RATE_HZ)
        is_gone = utterance.id in data.manifest
        gone, silent = (
            f"the audio of {utterance.id} is not where the manifest says",
            f"{self._source.speech} without sound",
        )
        self.problem = gone if is_gone else f"the data is units of {silent}"
        return ""
