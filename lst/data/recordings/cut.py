"""Long recordings become utterances: segments of their file, each with its part of the transcript.

::

    rows ──listen──▶ pauses, heard words ──match_tokens──▶ where each word was heard ──cut_pieces──▶ rows, what is lost
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

from lst.data.alignment.imported import GivenTimesAligner, given_times_aligner, timed_words
from lst.data.config import DataConfig
from lst.data.corpora import ManifestProblem, ManifestRow
from lst.data.corpora.ids import piece_id
from lst.data.corpora.row_table import RowTable
from lst.data.corpora.rows import LongFate
from lst.data.languages import language_name
from lst.data.recordings.activity import detector_of, load_silero, stretches
from lst.data.recordings.anchors import match_tokens, to_the_nearer
from lst.data.recordings.listen import HeardPart, PartJob, listen, parts_of, tokens_of
from lst.data.recordings.pieces import FoundWord, Piece, Pieces, cut_pieces
from lst.data.shards import LeftOut
from lst.data.text import resolve_entities
from lst.data.utterance import TimedWord
from lst.errors import UserError
from lst.parallel import ordered_map
from lst.progress import Progress, say

# Of a word's tokens: with fewer of them it was not heard.
HEARD_SHARE = 0.6
# Of the words, or of what was heard: with fewer of both the transcript is another recording's.
FITTING_SHARE = 0.4
TOO_SHORT = "shorter than data.min_duration_s"


@dataclass
class CutRows:
    """What became of the rows of a corpus.

    Attributes:
        rows: in their order; each long recording is replaced by its pieces.
        problems: of recordings that could not be cut.
        left_out: stretches of recordings that are no utterance.
    """

    rows: RowTable = field(default_factory=RowTable)
    problems: list[ManifestProblem] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)


def fate_of_long(row: ManifestRow, config: DataConfig) -> LongFate:
    """Whether a recording is so long that it is cut, and there is a way to place its words."""
    is_long = (row.duration_s or 0.0) > config.longest_whole_s
    return LongFate(is_long, _uncuttable(row, config) if is_long else "")


def _uncuttable(row: ManifestRow, config: DataConfig) -> str:
    """Why there is no way to place the words of a long recording; empty if there is one."""
    method = config.align.method
    if not row.text.strip() or method == "import":
        return ""
    if method == "manifest":
        return "" if row.words else "the corpus gives no times of its words"
    if row.language and method != "ctc":
        return f"data.align.method={method} hears English alone, not {language_name(row.language)}"
    return ""


def whole_notes(reasons: Counter[str]) -> list[str]:
    """A sentence for each reason of ``LongFate.why_whole``, by how many recordings have it."""
    return [
        f"{count:,} long recordings are not cut, as {reason}: data.align.method=ctc cuts them."
        for reason, count in sorted(reasons.items())
    ]


def cut_recordings(
    rows: Sequence[ManifestRow], config: DataConfig, hashes: Mapping[str, str], num_workers: int
) -> CutRows:
    """Cuts those rows that ``fate_of_long`` names into utterances; the others stay as they are.

    Args:
        rows: checked, with their durations.
        config: lengths, aligner, detector.
        hashes: SHA-256 of the audio file of each of these rows, by its path and member.
        num_workers: processes that listen.

    Raises:
        UserError: the detector's package is missing.
    """
    detector = detector_of(config.vad)
    long = [row for row in rows if fate_of_long(row, config).is_cut]
    given = given_times_aligner(config.align) if long else None
    if long and detector == "silero":
        load_silero()  # What is missing is no fault of a recording.
    jobs = {
        row.id: parts_of(
            replace(row, text="", words=()) if given is not None else row,
            hashes[f"{row.path}\0{row.member}"],
            config.align,
            detector,
        )
        for row in long
    }
    result = CutRows()
    num_parts = sum(map(len, jobs.values()))
    with Progress(num_parts, "listening to long recordings", unit="part") as progress:
        heard = _counted(ordered_map(_listen, (job for own in jobs.values() for job in own), num_workers), progress)
        silence_s = 0.0
        for row in rows:
            if row.id not in jobs:
                result.rows.append(row)
                continue
            parts = list(islice(heard, len(jobs[row.id])))
            try:
                words = None if given is None or not row.text.strip() else _given_words(given, row)
                pieces = _pieces(row, parts, config, words)
            except UserError as error:
                place = row.place or str(row.path)
                result.problems.append(ManifestProblem(place, row.id, str(error), row.path, "alignment"))
                continue
            silence_s += pieces.silence_s
            result.rows += [_row(row, piece, words or ()) for piece in pieces.kept if not _is_short(piece, config)]
            short = [
                piece._replace(text=f"{TOO_SHORT}: {piece.text}") for piece in pieces.kept if _is_short(piece, config)
            ]
            result.left_out += [_lost(row, piece) for piece in sorted([*pieces.lost, *short])]
    if long:
        _say_what_became(long, result, silence_s, detector)
    return result


def _listen(job: PartJob) -> HeardPart | str:
    """The part, or why it cannot be heard, as not every error can be sent by a process."""
    try:
        return listen(job)
    except UserError as error:
        return str(error)


def _counted(heard: Iterator[HeardPart | str], progress: Progress) -> Iterator[HeardPart | str]:
    for one in heard:
        progress.advance()
        yield one


def _pieces(
    row: ManifestRow, parts: Sequence[HeardPart | str], config: DataConfig, given: Sequence[TimedWord] | None
) -> Pieces:
    """The pieces of one recording, with the given times of its words if there are any.

    Raises:
        UserError: its text does not fit at all.
    """
    heard = [part for part in parts if not isinstance(part, str)]
    if len(heard) < len(parts):
        raise UserError(next(part for part in parts if isinstance(part, str)))
    pauses = [(first_s, last_s) for part in heard for first_s, last_s in part["pauses"]]
    duration_s = row.duration_s or 0.0
    if not row.text.strip():
        found = [
            Piece(round(start_s, 3), round(end_s, 3), "")
            for start_s, end_s in stretches(pauses, duration_s, config.longest_piece_s)
        ]
        return Pieces(found, silence_s=max(0.0, duration_s - sum(piece.end_s - piece.start_s for piece in found)))
    if given is None:
        return cut_pieces(_heard_words(row, heard, config), pauses, duration_s, config.longest_piece_s)
    words = [FoundWord(word.text, None if word.is_unaligned else (word.start_s, word.end_s)) for word in given]
    return cut_pieces(words, pauses, duration_s, config.longest_piece_s, reach_s=0.0)


def _given_words(given: GivenTimesAligner, row: ManifestRow) -> list[TimedWord]:
    words, problems = timed_words(given, row)
    if problems:
        raise UserError("; ".join(problems))
    return words


def _heard_words(row: ManifestRow, parts: Sequence[HeardPart], config: DataConfig) -> list[FoundWord]:
    """The words of a transcript, each with the time at which it was heard."""
    try:
        wanted = tokens_of(row.text, config.align, row.language)
    except ValueError as error:
        raise UserError(str(error)) from None
    if not wanted.tokens:
        raise UserError("nothing in the transcript is said: all of it is labels in brackets or signs")
    heard = [token for part in parts for token in part["tokens"]]
    starts_s = [start_s for part in parts for start_s in part["starts_s"]]
    ends_s = [end_s for part in parts for end_s in part["ends_s"]]
    places: dict[int, list[int]] = {}
    matched = match_tokens(wanted.tokens, heard, wanted.run, wanted.anchor)
    for token, place in to_the_nearer(matched, wanted.tokens, heard, starts_s, ends_s):
        places.setdefault(wanted.words[token], []).append(place)
    num_tokens: dict[int, int] = {}
    for number in wanted.words:
        num_tokens[number] = num_tokens.get(number, 0) + 1
    found = {
        number: (starts_s[own[0]], ends_s[own[-1]])
        for number, own in places.items()
        if len(own) >= HEARD_SHARE * num_tokens[number]
    }
    num_matched = sum(map(len, places.values()))
    share = max(num_matched / max(len(wanted.tokens), 1), num_matched / max(len(heard), 1))
    if share < FITTING_SHARE:
        raise UserError(
            f"the transcript does not fit the recording of {(row.duration_s or 0.0) / 60:.1f} min: {len(found):,} of "
            f"its {len(num_tokens):,} words were heard in order. Check that it is this recording's, and its language"
        )
    words = resolve_entities(row.text).split()
    return [FoundWord(word, found.get(number), number in num_tokens) for number, word in enumerate(words)]


def _is_short(piece: Piece, config: DataConfig) -> bool:
    return round(piece.end_s - piece.start_s, 3) < config.min_duration_s


def _row(row: ManifestRow, piece: Piece, given: Sequence[TimedWord]) -> ManifestRow:
    """The utterance that a piece is, with its part of the given times."""
    start_s, end_s = row.start_s + piece.start_s, row.start_s + piece.end_s
    return replace(
        row,
        id=piece_id(row.id, start_s, end_s),
        text=piece.text,
        start_s=round(start_s, 3),
        duration_s=round(end_s - start_s, 3),
        is_segment=True,
        words=tuple(_shifted(word, piece) for word in given[piece.first_word : piece.last_word]),
        ending_start_word=None,
    )


def _shifted(word: TimedWord, piece: Piece) -> TimedWord:
    """A word with times from its piece's start. A piece has whole milliseconds, so that a word may begin before it."""

    def within(time_s: float) -> float:
        return min(max(time_s - piece.start_s, 0.0), piece.end_s - piece.start_s)

    return word._replace(
        start_s=within(word.start_s),
        end_s=within(word.end_s),
        character_ends_s=tuple(map(within, word.character_ends_s)),
        place="",
    )


def _lost(row: ManifestRow, piece: Piece) -> LeftOut:
    start_s, end_s = row.start_s + piece.start_s, row.start_s + piece.end_s
    shown = piece.text if len(piece.text) <= 200 else f"{piece.text[:200]} …"
    return {"id": piece_id(row.id, start_s, end_s), "reason": f"{row.id}, {start_s:.2f} to {end_s:.2f} s: {shown}"}


def _say_what_became(long: Sequence[ManifestRow], result: CutRows, silence_s: float, detector: str) -> None:
    hours = sum(row.duration_s or 0.0 for row in long) / 3600
    kinds = Counter(one["reason"].split(": ")[1] for one in result.left_out)
    lost = "".join(f"; {kind}: {count:,}" for kind, count in kinds.items())
    say(
        f"{len(long):,} long recordings ({hours:,.2f} h) are cut at pauses ({detector}) into utterances; left out are "
        f"{silence_s:,.0f} s of silence{lost}"
    )
