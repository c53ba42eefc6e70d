"""Word times in the JSON of the Montreal Forced Aligner and of whisper-timestamped."""

from __future__ import annotations

import json
from typing import Any

from lst.data.alignment.formats.intervals import (
    _CHARACTER_TIERS,
    _FILE_REMEDY,
    _WORD_TIERS,
    Interval,
    _number,
    _plain_name,
    _problem,
    _with_characters,
    decode_text,
    log_confidence,
)
from lst.data.utterance import TimedWord
from lst.errors import raise_problems


def read_mfa_json(content: bytes, name: str) -> list[TimedWord]:
    """Words of the Montreal Forced Aligner's JSON: ``tiers``, of which ``words`` has entries [start, end, label]."""
    record = _json_object(content, name)
    tiers = record.get("tiers")
    if not isinstance(tiers, dict):
        raise _problem(name, ["there is no object of tiers"])
    named = {_plain_name(key): tier for key, tier in reversed(tiers.items())}
    chosen = [named[key] for key in _WORD_TIERS if key in named]
    if not chosen:
        raise _problem(name, [f"there is no tier of words; tiers are {', '.join(tiers)}"])
    words = _mfa_intervals(chosen[0], "words", name)
    characters = [named[key] for key in _CHARACTER_TIERS if key in named]
    return _with_characters(words, _mfa_intervals(characters[0], "characters", name) if characters else [], name)


def _mfa_intervals(tier: Any, what: str, name: str) -> list[Interval]:
    entries = tier.get("entries") if isinstance(tier, dict) else None
    if not isinstance(entries, list):
        raise _problem(name, [f"the tier of {what} has no list of entries"])
    problems = []
    found = []
    for number, entry in enumerate(entries, 1):
        try:
            start, end, label = entry
            found.append(Interval(_number(start), _number(end), str(label), number))
        except (TypeError, ValueError) as error:
            problems.append(f"{what}, entry {number}: {error}")
    raise_problems(name, problems, _FILE_REMEDY)
    return found


def read_whisper_json(content: bytes, name: str) -> list[TimedWord]:
    """Words of ``segments[].words[]``: whisper-timestamped's (text, confidence), openai-whisper's and faster-whisper's
    (word, probability), WhisperX's (word, score, and characters of the segment)."""
    record = _json_object(content, name)
    segments = record.get("segments")
    if not isinstance(segments, list):
        raise _problem(name, ["there is no list of segments"])
    problems: list[str] = []
    found: list[TimedWord] = []
    for number, segment in enumerate(segments, 1):
        words = segment.get("words") if isinstance(segment, dict) else None
        if not isinstance(words, list):
            problems.append(f"segment {number}: there is no list of words (ask the recogniser for word time stamps)")
            continue
        intervals, scores = [], []
        for index, word in enumerate(words, 1):
            try:
                text = word.get("text", word.get("word"))
                if not isinstance(text, str):
                    raise ValueError("it has neither text nor word")
                confidence = next((word[key] for key in ("confidence", "probability", "score") if key in word), None)
                scores.append(0.0 if confidence is None else log_confidence(_number(confidence)))
                intervals.append(Interval(_number(word.get("start")), _number(word.get("end")), text, index))
            except (AttributeError, TypeError, ValueError) as error:
                problems.append(f"segment {number}, word {index}: {error}")
        if len(intervals) == len(scores):
            place = f"{name}, segment {number}"
            timed = _with_characters(intervals, _whisper_characters(segment), place)
            found += [
                TimedWord(word.text, word.start_s, word.end_s, score, word.character_ends_s, word.place)
                for word, score in zip(timed, scores, strict=True)
            ]
    raise_problems(name, problems, _FILE_REMEDY)
    return found


def _whisper_characters(segment: dict[str, Any]) -> list[Interval]:
    """WhisperX's characters; those that it could not place have no times and are left out."""
    chars = segment.get("chars")
    found = []
    for char in chars if isinstance(chars, list) else []:
        try:
            found.append(Interval(_number(char["start"]), _number(char["end"]), str(char["char"]), 0))
        except (KeyError, TypeError, ValueError):
            continue
    return found


def _json_object(content: bytes, name: str) -> dict[str, Any]:
    try:
        record = json.loads(decode_text(content))
    except (ValueError, RecursionError) as error:
        raise _problem(name, [f"not JSON: {error}"]) from None
    if not isinstance(record, dict):
        raise _problem(name, ["not a JSON object"])
    return record
