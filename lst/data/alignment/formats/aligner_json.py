"""Word times in the JSON of the Montreal Forced Aligner (MFA) and of whisper's tools."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping

from lst.data.alignment.formats.intervals import (
    CHARACTER_TIERS,
    FILE_REMEDY,
    WORD_TIERS,
    Interval,
    decode_text,
    file_problem,
    finite_number,
    log_confidence,
    named_tier,
    parse_each,
    place_untimed,
    tier_key,
    with_characters,
)
from lst.data.utterance import TimedWord
from lst.errors import raise_problems

_CONFIDENCES = ("confidence", "probability", "score")


def read_mfa_json(content: bytes, name: str, tier: str = "") -> list[TimedWord]:
    """Words of MFA's JSON: an object ``tiers`` whose ``words`` or ``tier`` has ``entries`` of [start, end, label]."""
    return _mfa_words(_json_object(content, name), name, tier)


def read_whisper_json(content: bytes, name: str, tier: str = "") -> list[TimedWord]:
    """Words of the lists ``segments[].words[]``; there are no tiers.

    whisper-timestamped writes (text, confidence), openai-whisper and faster-whisper (word, probability), WhisperX
    (word, score) and the characters of each segment. WhisperX gives no times to words that its model cannot spell, such
    as numbers: these get the stretch between their neighbours and are marked.
    """
    return _whisper_words(_json_object(content, name), name)


def read_aligner_json(content: bytes, name: str, tier: str = "") -> list[TimedWord]:
    """Words of either kind of JSON: MFA's has ``tiers``."""
    record = _json_object(content, name)
    return _mfa_words(record, name, tier) if "tiers" in record else _whisper_words(record, name)


def _json_object(content: bytes, name: str) -> Mapping[str, object]:
    text = decode_text(content, name)
    try:
        record = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise file_problem(name, f"not JSON: {error}") from None
    if not isinstance(record, dict):
        raise file_problem(name, "not a JSON object")
    return record


def _mfa_words(record: Mapping[str, object], name: str, tier: str) -> list[TimedWord]:
    tiers = record.get("tiers")
    if not isinstance(tiers, dict):
        raise file_problem(name, "there is no object of tiers")
    if tier:
        tiers = {WORD_TIERS[0]: [*tiers.values()][named_tier(list(tiers), tier, name)], **_characters_of(tiers)}
    # Of tiers with the same key the first counts.
    named = {tier_key(key): tier for key, tier in reversed(tiers.items())}
    words, characters = (
        [_mfa_intervals(named[key], what, name) for key in keys if key in named][:1]
        for what, keys in (("words", WORD_TIERS), ("characters", CHARACTER_TIERS))
    )
    if not words:
        raise file_problem(name, f"there is no tier of words; tiers are {', '.join(tiers)}")
    return with_characters(words[0], characters[0] if characters else [], name)


def _characters_of(tiers: Mapping[str, object]) -> dict[str, object]:
    return {key: tier for key, tier in tiers.items() if tier_key(key) in CHARACTER_TIERS}


def _mfa_intervals(tier: object, what: str, name: str) -> list[Interval]:
    entries = tier.get("entries") if isinstance(tier, dict) else None
    if not isinstance(entries, list):
        raise file_problem(name, f"the tier of {what} has no list of entries")
    problems: list[str] = []
    found = parse_each(entries, _mfa_interval, f"{what}, entry", problems)
    raise_problems(name, problems, FILE_REMEDY)
    return found


def _mfa_interval(entry: Iterable[object], number: int) -> Interval:
    start, end, label = entry
    return Interval(finite_number(start), finite_number(end), str(label), number)


def _whisper_words(record: Mapping[str, object], name: str) -> list[TimedWord]:
    segments = record.get("segments")
    if not isinstance(segments, list):
        raise file_problem(name, "there is no list of segments")
    problems: list[str] = []

    def parse(segment: object, number: int) -> list[TimedWord]:
        if not isinstance(segment, dict) or not isinstance(segment.get("words"), list):
            raise ValueError("there is no list of words (ask the recogniser for word time stamps)")
        scored = parse_each(segment["words"], _whisper_word, f"segment {number}, word", problems)
        intervals, characters = [interval for interval, _ in scored], _whisper_characters(segment)
        timed = with_characters(intervals, characters, f"{name}, segment {number}")
        return [
            word._replace(score=score, is_unaligned=math.isnan(word.start_s))
            for word, (_, score) in zip(timed, scored, strict=True)
        ]

    found = [word for words in parse_each(segments, parse, "segment", problems) for word in words]
    raise_problems(name, problems, FILE_REMEDY)
    return place_untimed(found)


def _whisper_word(word: Mapping[str, object], index: int) -> tuple[Interval, float]:
    """One word and its score; its times are NaN if its start or its end is missing."""
    text = word.get("text", word.get("word"))
    if not isinstance(text, str):
        raise ValueError("it has neither text nor word")
    confidence = next((word[key] for key in _CONFIDENCES if word.get(key) is not None), None)
    score = 0.0 if confidence is None else log_confidence(finite_number(confidence))
    if word.get("start") is None or word.get("end") is None:
        return Interval(math.nan, math.nan, text, index), score
    return Interval(finite_number(word.get("start")), finite_number(word.get("end")), text, index), score


def _whisper_characters(segment: Mapping[str, object]) -> list[Interval]:
    """WhisperX's characters, without those that it could not place: they have no times."""
    chars = segment.get("chars")

    def parse(char: Mapping[str, object], number: int) -> Interval:
        return Interval(finite_number(char["start"]), finite_number(char["end"]), str(char["char"]), number)

    return parse_each(chars if isinstance(chars, list) else [], parse, "character", [])
