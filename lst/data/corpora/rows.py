"""One utterance of a corpus, and why one cannot be used."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from lst.data.audio import format_audio_ref
from lst.data.utterance import UNSTATED, Provenance, TimedWord
from lst.errors import one_line

UNKNOWN_SPEAKER = "unknown"


@dataclass(frozen=True)
class ManifestRow:
    """One utterance of a corpus.

    Attributes:
        id: unique in the corpus; letters, digits, _ and -. Before ``settle_ids``, any name.
        path: the audio file, absolute if read from a manifest; a str for a URL.
        text: the transcript as given.
        speaker: who speaks.
        split: ``"train"``, ``"valid"``, or ``""`` if not yet assigned.
        duration_s: of the file or the segment, as stated; after ``check_rows``, as in the audio's header.
        ending_start_word: index in ``text.split()`` of the ending's first word, for cloze items.
        place: line or file of the row, for messages.
        start_s: where the utterance begins in its file.
        channel: the channel to read, counted from 0; None averages all.
        member: name of the audio file in ``path``, which is then a tar.
        is_segment: whether the utterance is a part of its file; always true for a start above 0.
        words: with times from the utterance's start, if the source gives them.
        unread: columns whose cells could not be read.
        transcript_confidence: of the recogniser that made the text, 0 to 1; None of a text that people wrote.
        has_own_id: whether the id stands in the corpus as an id, and is not made of a name.
        provenance: what is stated of source, licence and consent.
        language: code of the transcript's language; empty where the corpus does not say, and after ``load_corpus`` for
            English.

    >>> row = ManifestRow("utt_1", "a.wav", "hello there", start_s=1.5, duration_s=2.0)
    >>> row.is_segment, row.audio_ref
    (True, 'a.wav#t=1.5,3.5')
    """

    id: str
    path: Path | str
    text: str
    speaker: str = UNKNOWN_SPEAKER
    split: str = ""
    duration_s: float | None = None
    ending_start_word: int | None = None
    place: str = field(default="", compare=False, repr=False)
    start_s: float = 0.0
    channel: int | None = None
    member: str = ""
    is_segment: bool = False
    words: tuple[TimedWord, ...] = ()
    transcript_confidence: float | None = None
    unread: frozenset[str] = field(default=frozenset(), compare=False, repr=False)
    has_own_id: bool = field(default=False, compare=False, repr=False)
    provenance: Provenance = UNSTATED
    language: str = ""

    def __post_init__(self) -> None:
        if self.start_s > 0:
            object.__setattr__(self, "is_segment", True)

    @property
    def audio_ref(self) -> str:
        """Where the audio is, as one text; ``lst.data.audio.read.read_audio_ref`` reads it."""
        return format_audio_ref(self)


@dataclass(frozen=True)
class LongFate:
    """What becomes of a recording by its length.

    Attributes:
        is_long: whether it is as long as those that are cut into utterances.
        why_whole: why a long one stays whole; empty if it is cut.
    """

    is_long: bool = False
    why_whole: str = ""

    @property
    def is_cut(self) -> bool:
        """Whether it is cut into utterances."""
        return self.is_long and not self.why_whole


@dataclass(frozen=True)
class ManifestProblem:
    """Why an utterance cannot be used.

    Attributes:
        place: line or file.
        id: of the utterance, if known.
        message: what is wrong.
        path: the audio file, if known.
        kind: the check that found it, one of ``row_checks.KINDS``; ``"row"`` if there is no row to check.
        row: what could be read of a faulty row, so that it can be checked too; only in its first problem.
    """

    place: str
    id: str
    message: str
    path: Path | str | None = None
    kind: str = "row"
    row: ManifestRow | None = field(default=None, compare=False, repr=False)

    def __str__(self) -> str:
        name = f" (id {self.id!r})" if self.id else ""
        return one_line(f"{self.place}{name}: {self.message}")
