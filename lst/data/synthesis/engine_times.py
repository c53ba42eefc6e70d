"""Speaks a text through an engine's own library and writes the times of its words; ``fork_server`` calls ``main``.

Each text gets a process of its own, so that a fault inside an engine's library fails one text only. This file imports
the standard library alone, so that the process holds little. Its arguments are engine, voice, rate and pitch, as
``engine_settings`` gives them. In the working folder it reads ``TEXT_FILE``, and writes the sound to ``WAV_FILE`` and
the words to ``WORDS_FILE``, a JSON list of [text, start_s, end_s].
"""

from __future__ import annotations

import ctypes
import json
import re
import sys
import wave
from collections.abc import Callable, Sequence
from itertools import accumulate, takewhile
from pathlib import Path

TEXT_FILE, WAV_FILE, WORDS_FILE = "text.txt", "speech.wav", "words.json"
POINTER, TEXT, REAL, INT, UNSIGNED, SIZE = (
    ctypes.c_void_p,
    ctypes.c_char_p,
    ctypes.c_float,
    ctypes.c_int,
    ctypes.c_uint,
    ctypes.c_size_t,
)
FLITE = {
    "feat_set": (None, [POINTER, TEXT, POINTER]),
    "feat_set_float": (None, [POINTER, TEXT, REAL]),
    "flite_ffeature_float": (REAL, [POINTER, TEXT]),
    "flite_ffeature_string": (TEXT, [POINTER, TEXT]),
    "flite_file_to_speech": (REAL, [TEXT, POINTER, TEXT]),
    "item_as": (POINTER, [POINTER, TEXT]),
    "item_next": (POINTER, [POINTER]),
    "item_parent": (POINTER, [POINTER]),
    "item_daughter": (POINTER, [POINTER]),
    "relation_head": (POINTER, [POINTER]),
    "utt_relation": (POINTER, [POINTER, TEXT]),
    "utt_wave": (POINTER, [POINTER]),
    "uttfunc_val": (POINTER, [POINTER]),
}
FLITE_START = b"R:SylStructure.daughter1.daughter1.R:Segment.p.end"
FLITE_END = b"R:SylStructure.daughtern.daughtern.R:Segment.end"

ESPEAK_SYNCHRONOUS, ESPEAK_PHONEME_EVENTS = 2, 1
ESPEAK_WORD, ESPEAK_PHONEME = 1, 7
ESPEAK_RATE, ESPEAK_PITCH = 1, 3
ESPEAK_UTF8, ESPEAK_PAUSE_AT_END, ESPEAK_BY_CHARACTER = 1, 0x1000, 1


# Word, start and end in seconds.
TimedText = tuple[str, float, float]


def flite_words(voice_name: str, rate: str, pitch: str) -> list[TimedText]:
    """Speaks as the command ``flite -f`` does, and notes where the library places the sounds of each word.

    Args:
        voice_name: a voice of ``flite``, without ``cmu_us_``.
        rate: stretch of durations.
        pitch: factor of the fundamental frequency.

    Raises:
        OSError: the library or the voice is missing.
    """
    for name in ("libflite.so.1", "libflite_cmulex.so.1", "libflite_usenglish.so.1"):
        ctypes.CDLL(name, mode=ctypes.RTLD_GLOBAL)
    flite = ctypes.CDLL("libflite.so.1")
    for name, (result, arguments) in FLITE.items():
        function = getattr(flite, name)
        function.restype, function.argtypes = result, arguments
    register = getattr(ctypes.CDLL(f"libflite_cmu_us_{voice_name}.so.1"), f"register_cmu_us_{voice_name}")
    register.restype, register.argtypes = POINTER, [TEXT]
    flite.flite_init()
    voice = register(None)
    # The structure of a voice starts with its name and its features.
    features = ctypes.cast(voice, ctypes.POINTER(POINTER))[1]
    flite.feat_set_float(features, b"duration_stretch", float(rate))
    flite.feat_set_float(features, b"f0_shift", float(pitch))
    words: list[TimedText] = []
    offset_s = 0.0

    def note(utterance: int) -> int:
        nonlocal offset_s
        item = flite.relation_head(flite.utt_relation(utterance, b"Word"))
        token_before = None
        while item:
            syllables = flite.item_as(item, b"SylStructure")
            token = flite.item_parent(flite.item_as(item, b"Token"))
            # An unsaid word has no syllable, and then no times.
            if syllables and flite.item_daughter(syllables):
                text = flite.flite_ffeature_string(item, b"R:Token.parent.name").decode("utf-8", "replace")
                start = offset_s + flite.flite_ffeature_float(item, FLITE_START)
                end = offset_s + flite.flite_ffeature_float(item, FLITE_END)
                if token is not None and token == token_before:
                    # One written word that is spoken as several ("12th").
                    text, start = words.pop()[:2]
                words.append((text, start, end))
                token_before = token
            item = flite.item_next(item)
        # The structure of a sound starts with its type's name, its rate and its number of samples.
        sound = ctypes.cast(flite.utt_wave(utterance), ctypes.POINTER(INT))
        offset_s += sound[3] / sound[2]
        return utterance

    hook = ctypes.CFUNCTYPE(POINTER, POINTER)(note)
    flite.feat_set(features, b"post_synth_hook_func", flite.uttfunc_val(ctypes.cast(hook, POINTER)))
    flite.flite_file_to_speech(TEXT_FILE.encode(), voice, WAV_FILE.encode())
    return words


class EspeakEvent(ctypes.Structure):
    """``espeak_EVENT`` of espeak-ng's ``speak_lib.h``; ``id``, a union there, holds the name of a phoneme."""

    _fields_ = (
        ("type", INT),
        ("unique", UNSIGNED),
        ("text_position", INT),
        ("length", INT),
        ("audio_position", INT),
        ("sample", INT),
        ("user_data", POINTER),
        ("id", ctypes.c_char * 8),
    )


class EspeakVoice(ctypes.Structure):
    """``espeak_VOICE`` of espeak-ng's ``speak_lib.h``."""

    _fields_ = (
        ("name", TEXT),
        ("languages", TEXT),
        ("identifier", TEXT),
        ("gender", ctypes.c_ubyte),
        ("age", ctypes.c_ubyte),
        ("variant", ctypes.c_ubyte),
        ("unused", ctypes.c_ubyte),
        ("score", INT),
        ("spare", POINTER),
    )


# Kind, character in the text from 0, sample, name of the phoneme.
Event = tuple[int, int, int, bytes]


def espeak_words(voice_name: str, rate: str, pitch: str) -> list[TimedText]:
    """Speaks as the command ``espeak-ng -f`` does, and notes the words and phonemes that the library reports.

    Args:
        voice_name: a voice or language of ``espeak-ng``.
        rate: words a minute.
        pitch: 0 to 99.

    Raises:
        OSError: the library or the voice is missing.
    """
    espeak = ctypes.CDLL("libespeak-ng.so.1")
    sample_rate_hz = espeak.espeak_Initialize(ESPEAK_SYNCHRONOUS, 0, None, ESPEAK_PHONEME_EVENTS)
    if sample_rate_hz <= 0:
        raise OSError("libespeak-ng does not start")
    sound = bytearray()
    events: list[Event] = []

    def note(samples: int, num_samples: int, reported: Sequence[EspeakEvent]) -> int:
        if samples and num_samples > 0:
            sound.extend(ctypes.string_at(samples, 2 * num_samples))
        for event in takewhile(lambda event: event.type, reported or ()):
            # A word of length 0 starts a clause.
            if event.type == ESPEAK_PHONEME or (event.type == ESPEAK_WORD and event.length > 0):
                events.append((event.type, event.text_position - 1, event.sample, event.id))
        return 0

    # Kept in a variable, because it must outlive the calls.
    callback = ctypes.CFUNCTYPE(INT, POINTER, INT, ctypes.POINTER(EspeakEvent))(note)
    espeak.espeak_SetSynthCallback(callback)
    # By the voice's name, else by its language, like the command.
    wanted = EspeakVoice(languages=voice_name.encode())
    if espeak.espeak_SetVoiceByName(wanted.languages) != 0 and espeak.espeak_SetVoiceByProperties(ctypes.byref(wanted)):
        raise OSError(f"espeak-ng has no voice {voice_name}")
    espeak.espeak_SetParameter(ESPEAK_RATE, int(rate), 0)
    espeak.espeak_SetParameter(ESPEAK_PITCH, int(pitch), 0)
    text = Path(TEXT_FILE).read_bytes()
    espeak.espeak_Synth.argtypes = [TEXT, SIZE, UNSIGNED, INT, UNSIGNED, UNSIGNED, POINTER, POINTER]
    flags = ESPEAK_UTF8 | ESPEAK_PAUSE_AT_END
    espeak.espeak_Synth(text, len(text) + 1, 0, ESPEAK_BY_CHARACTER, 0, flags, None, None)
    espeak.espeak_Synchronize()
    with wave.open(WAV_FILE, "wb") as file:
        file.setparams((1, 2, sample_rate_hz, 0, "NONE", ""))
        file.writeframes(bytes(sound))
    return espeak_spans(text.decode("utf-8"), events, len(sound) // 2, sample_rate_hz)


def espeak_spans(text: str, events: Sequence[Event], num_samples: int, rate_hz: int) -> list[TimedText]:
    """Written words and their times from espeak-ng's events.

    A word lasts from its first phoneme to its last that is no pause. espeak-ng reports some words as one ("of the"):
    they are divided at phonemes, in proportion to their letters.

    Args:
        text: the text that was spoken.
        events: in order of time.
        num_samples: length of the sound.
        rate_hz: its sample rate.
    """
    written = [match for match in re.finditer(r"\S+", text) if any(map(str.isalnum, match[0]))]
    phonemes: dict[int, list[tuple[int, bytes]]] = {}
    current = -1
    for kind, place, sample, name in events:
        if kind == ESPEAK_WORD:
            # Events come in the order of the text, but some places are one word off.
            current = max(current, sum(match.start() <= place for match in written) - 1)
        elif current >= 0:
            phonemes.setdefault(current, []).append((sample, name))
    heads = sorted(index for index, own in phonemes.items() if any(_is_sound(name) for _, name in own))
    spans = []
    for index, next_head in zip(heads, [*heads[1:], len(written)], strict=True):
        own = phonemes[index]
        after = phonemes[next_head][0][0] if next_head in phonemes else num_samples
        ends = [sample for sample, _ in own[1:]] + [after]
        spoken = [(start, end) for (start, name), end in zip(own, ends, strict=True) if _is_sound(name)]
        spans += _divide([match[0] for match in written[index:next_head]], spoken)
    return [(word, start / rate_hz, end / rate_hz) for word, start, end in spans]


def _is_sound(name: bytes) -> bool:
    return bool(name) and not name.startswith(b"_")


def _divide(words: Sequence[str], spoken: Sequence[tuple[int, int]]) -> list[tuple[str, int, int]]:
    """Divides the sounds of one event among its words; none if there are fewer sounds than words."""
    if len(words) > len(spoken):
        return []
    letters = list(accumulate(sum(map(str.isalnum, word)) for word in words))
    cuts = [0]
    for count, share in enumerate(letters[:-1], 1):
        cut = round(share / letters[-1] * len(spoken))
        # Every word gets at least one sound.
        cuts.append(min(max(cut, cuts[-1] + 1), len(spoken) - len(words) + count))
    return [
        (word, spoken[a][0], spoken[b - 1][1]) for word, a, b in zip(words, cuts, [*cuts[1:], len(spoken)], strict=True)
    ]


ENGINES: dict[str, Callable[[str, str, str], list[TimedText]]] = {"flite": flite_words, "espeak-ng": espeak_words}


def main() -> int:
    """Speaks as the arguments say; returns 1, with a line on standard error, if the library cannot."""
    engine, *arguments = sys.argv[1:]
    try:
        words = ENGINES[engine](*arguments)
    except (OSError, AttributeError) as error:
        print(error, file=sys.stderr)
        return 1
    Path(WORDS_FILE).write_text(json.dumps(words), encoding="utf-8")
    return 0
