"""Items of a benchmark to read and hear, with the clips of its folder inside the page."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from lst.data.audio import read_audio
from lst.errors import LstError
from lst.evaluation.benchmark import Benchmark
from lst.recipes.report.audio import SAMPLE_RATE_HZ, audio_address
from lst.recipes.report.questions import Answer, BrowsedQuestion, ShownModel, SpokenPart, drawn_questions

Answers = Sequence[tuple[ShownModel, Sequence[Answer | None]]]


def browsed_items(
    benchmark: Benchmark, count: int, seed: int, answers_of: Callable[[str], Answers]
) -> tuple[list[BrowsedQuestion], str]:
    """Some items, drawn from the seed and from all strata alike, and why a part has no sound; empty if all have.

    Args:
        benchmark: whose folder holds the clips.
        count: items at most.
        seed: of the draw.
        answers_of: what each model chose, by the item's id.
    """
    sounds = _Clips(benchmark)
    found = [
        BrowsedQuestion(
            question.id,
            question.stratum or benchmark.card["name"],
            sounds.part(question.context),
            [sounds.part(name, number == question.label) for number, name in enumerate(question.endings)],
            answers_of(question.id),
        )
        for question in drawn_questions(benchmark.questions, count, seed)
    ]
    return found, sounds.problem


class _Clips:
    """Texts and sounds of a benchmark; ``problem`` says why one has no sound."""

    def __init__(self, benchmark: Benchmark) -> None:
        self._benchmark = benchmark
        self.problem = "the benchmark is text alone" if benchmark.is_written else ""

    def part(self, name: str, is_true: bool = False) -> SpokenPart:
        """The text and sound of this id; nothing without one."""
        if not name:
            return SpokenPart("", "")
        address = ""
        if (clip := self._benchmark.clips.get(name)) is not None:
            try:
                address = audio_address(read_audio(self._benchmark.folder / clip["path"]), SAMPLE_RATE_HZ)
            except LstError as error:
                self.problem = str(error)
        return SpokenPart(self._benchmark.texts[name]["text"], address, is_true)
