"""A text spoken by an engine's own library, with the times of its words: run as a script, one process a text.

A process of its own, so that a fault inside an engine's library is an error of one text. It imports the standard
library alone, for it starts once a text. Called with a JSON object as its only argument: ``engine``, ``voice``,
``rate`` and ``pitch`` as the commands of the engines take them, ``text_path``, ``wav_path`` and ``words_path``. It
writes the sound, and the words as a JSON list of [text, start_s, end_s].
"""

from __future__ import annotations

import ctypes
import json
import sys
import wave
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

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


def flite_words(job: dict[str, Any]) -> list[tuple[str, float, float]]:
    """Speaks a file as the command ``flite -f`` does, and notes each word as its library places the sounds."""
    for name in ("libflite.so.1", "libflite_cmulex.so.1", "libflite_usenglish.so.1"):
        ctypes.CDLL(name, mode=ctypes.RTLD_GLOBAL)
    flite = ctypes.CDLL("libflite.so.1")
    for name, (result, arguments) in FLITE.items():
        function = getattr(flite, name)
        function.restype, function.argtypes = result, arguments
    register = getattr(ctypes.CDLL(f"libflite_cmu_us_{job['voice']}.so.1"), f"register_cmu_us_{job['voice']}")
    register.restype, register.argtypes = POINTER, [TEXT]
    flite.flite_init()
    voice = register(None)
    # A voice begins with its name and its features.
    features = ctypes.cast(voice, ctypes.POINTER(POINTER))[1]
    flite.feat_set_float(features, b"duration_stretch", job["rate"])
    flite.feat_set_float(features, b"f0_shift", job["pitch"])
    words: list[tuple[str, float, float]] = []
    offset_s = 0.0

    def note(utterance: int) -> int:
        nonlocal offset_s
        item = flite.relation_head(flite.utt_relation(utterance, b"Word"))
        token_before = None
        while item:
            syllables = flite.item_as(item, b"SylStructure")
            token = flite.item_parent(flite.item_as(item, b"Token"))
            # What is not said has no syllable: the command's own word times are void there.
            if syllables and flite.item_daughter(syllables):
                text = flite.flite_ffeature_string(item, b"R:Token.parent.name").decode("utf-8", "replace")
                start = offset_s + flite.flite_ffeature_float(item, FLITE_START)
                end = offset_s + flite.flite_ffeature_float(item, FLITE_END)
                if token is not None and token == token_before:
                    # One written word that is said in several ("12th").
                    text, start = words.pop()[:2]
                words.append((text, start, end))
                token_before = token
            item = flite.item_next(item)
        # A sound is its type's name, its rate and its number of samples.
        sound = ctypes.cast(flite.utt_wave(utterance), ctypes.POINTER(INT))
        offset_s += sound[3] / sound[2]
        return utterance

    hook = ctypes.CFUNCTYPE(POINTER, POINTER)(note)
    flite.feat_set(features, b"post_synth_hook_func", flite.uttfunc_val(ctypes.cast(hook, POINTER)))
    flite.flite_file_to_speech(job["text_path"].encode(), voice, job["wav_path"].encode())
    return words


class EspeakId(ctypes.Union):
    """What an event is about; a phoneme's name is in its bytes."""

    _fields_ = (("number", INT), ("name", TEXT), ("bytes", ctypes.c_char * 8))


class EspeakEvent(ctypes.Structure):
    """As in espeak-ng's ``speak_lib.h``."""

    _fields_ = (
        ("type", INT),
        ("unique", UNSIGNED),
        ("text_position", INT),
        ("length", INT),
        ("audio_position", INT),
        ("sample", INT),
        ("user_data", POINTER),
        ("id", EspeakId),
    )


class EspeakVoice(ctypes.Structure):
    """As in espeak-ng's ``speak_lib.h``."""

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


Event = tuple[int, int, int, bytes]


def espeak_words(job: dict[str, Any]) -> list[tuple[str, float, float]]:
    """Speaks a file as the command ``espeak-ng -f`` does, and notes the words and phonemes that it reports."""
    espeak = ctypes.CDLL("libespeak-ng.so.1")
    sample_rate_hz = espeak.espeak_Initialize(ESPEAK_SYNCHRONOUS, 0, None, ESPEAK_PHONEME_EVENTS)
    if sample_rate_hz <= 0:
        raise OSError("libespeak-ng does not start")
    sound, events = bytearray(), []

    def note(samples: int, num_samples: int, reported: Any) -> int:
        if samples and num_samples > 0:
            sound.extend(ctypes.string_at(samples, 2 * num_samples))
        index = 0
        while reported and reported[index].type:
            event = reported[index]
            # A word of no length is the beginning of a clause.
            if event.type == ESPEAK_PHONEME or (event.type == ESPEAK_WORD and event.length > 0):
                events.append((event.type, event.text_position - 1, event.sample, bytes(event.id.bytes)))
            index += 1
        return 0

    # It must outlive the calls.
    callback = ctypes.CFUNCTYPE(INT, POINTER, INT, ctypes.POINTER(EspeakEvent))(note)
    espeak.espeak_SetSynthCallback(callback)
    # As the command does: by the voice's name, else by its language.
    wanted = EspeakVoice(languages=job["voice"].encode())
    if espeak.espeak_SetVoiceByName(wanted.languages) != 0 and espeak.espeak_SetVoiceByProperties(ctypes.byref(wanted)):
        raise OSError(f"espeak-ng has no voice {job['voice']}")
    espeak.espeak_SetParameter(ESPEAK_RATE, job["rate"], 0)
    espeak.espeak_SetParameter(ESPEAK_PITCH, job["pitch"], 0)
    text = Path(job["text_path"]).read_bytes()
    espeak.espeak_Synth.argtypes = [TEXT, SIZE, UNSIGNED, INT, UNSIGNED, UNSIGNED, POINTER, POINTER]
    flags = ESPEAK_UTF8 | ESPEAK_PAUSE_AT_END
    espeak.espeak_Synth(text, len(text) + 1, 0, ESPEAK_BY_CHARACTER, 0, flags, None, None)
    espeak.espeak_Synchronize()
    with wave.open(job["wav_path"], "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(sample_rate_hz)
        file.writeframes(bytes(sound))
    return espeak_spans(text.decode("utf-8"), events, len(sound) // 2, sample_rate_hz)


def espeak_spans(text: str, events: Sequence[Event], num_samples: int, rate_hz: int) -> list[tuple[str, float, float]]:
    """Written words and their times from espeak-ng's events.

    A word lasts from its first phoneme to its last that is no pause. Words that espeak-ng glues together ("of the")
    report as one: they are divided at the phoneme nearest to their letters' share.

    Args:
        text: what was spoken.
        events: (kind, character in ``text`` from 0, sample, phoneme), in order of time.
        num_samples: of the sound.
        rate_hz: its sample rate.
    """
    written: list[tuple[str, int]] = []
    position = 0
    for word in text.split():
        position = text.index(word, position)
        if any(char.isalnum() for char in word):
            written.append((word, position))
        position += len(word)
    phonemes: dict[int, list[tuple[int, bytes]]] = {}
    current = -1
    for kind, place, sample, name in events:
        if kind == ESPEAK_WORD:
            # Events come in the order of the text; a place is at times one word off.
            current = max(current, sum(start <= place for _, start in written) - 1)
        elif current >= 0:
            phonemes.setdefault(current, []).append((sample, name))
    heads = sorted(index for index, own in phonemes.items() if any(_is_sound(name) for _, name in own))
    spans = []
    for index, last in zip(heads, [*heads[1:], len(written)], strict=True):
        own = phonemes[index]
        after = next((phonemes[other][0][0] for other in heads if other > index), num_samples)
        ends = [sample for sample, _ in own[1:]] + [after]
        spoken = [(start, end) for (start, name), end in zip(own, ends, strict=True) if _is_sound(name)]
        spans += _divide([word for word, _ in written[index:last]], spoken)
    return [(word, start / rate_hz, end / rate_hz) for word, start, end in spans]


def _is_sound(name: bytes) -> bool:
    return bool(name) and not name.startswith(b"_")


def _divide(words: Sequence[str], spoken: Sequence[tuple[int, int]]) -> list[tuple[str, int, int]]:
    """Words of one event, cut at starts of phonemes; alone, a word gets them all."""
    letters = [sum(char.isalnum() for char in word) for word in words]
    cuts = [0]
    for index in range(1, len(words)):
        share = sum(letters[:index]) / sum(letters)
        least, most = cuts[-1] + 1, len(spoken) - (len(words) - index)
        cuts.append(min(max(round(share * len(spoken)), least), max(most, least)))
    cuts.append(len(spoken))
    if len(words) > len(spoken):
        return []
    return [(word, spoken[a][0], spoken[b - 1][1]) for word, a, b in zip(words, cuts, cuts[1:], strict=False)]


ENGINES: dict[str, Callable[[dict[str, Any]], list[tuple[str, float, float]]]] = {
    "flite": flite_words,
    "espeak-ng": espeak_words,
}


def main() -> int:
    """Does the job in the first argument; 1 and a line on standard error where the library cannot."""
    job = json.loads(sys.argv[1])
    try:
        words = ENGINES[job["engine"]](job)
    except (OSError, AttributeError) as error:
        print(error, file=sys.stderr)
        return 1
    Path(job["words_path"]).write_text(json.dumps(words), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
