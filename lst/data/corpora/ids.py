"""Utterance ids, made by one rule for all corpora.

::

    the corpus's own id, else the audio's name ──id_of──► characters that ids may have

``unique_ids`` tells apart utterances that have the same one.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata

MAX_ID_CHARS = 160  # an id is a part of file names, which may have 255 bytes
_HASH_CHARS = 8
_PIECE_TIMES = re.compile(r"-\d{8,}-\d{8,}$")
_OTHERS = re.compile(r"[^A-Za-z0-9_-]+")
_ID = re.compile(rf"[A-Za-z0-9_-]{{1,{MAX_ID_CHARS}}}")


def id_of(name: str) -> str:
    """Makes an id of any name. Accents are dropped; each run of other characters becomes ``_``.

    Where letters or digits are lost, or the name is too long, a hash of the name keeps ids apart.

    >>> id_of("./clips/a b.1"), id_of("café #2"), id_of("长信")
    ('clips_a_b_1', 'cafe_2', 'utt-21c1b5c7')
    """
    if _ID.fullmatch(name):
        return name
    name = unicodedata.normalize("NFC", name).removeprefix("./")
    plain = "".join(char for char in unicodedata.normalize("NFKD", name) if not unicodedata.combining(char))
    made = _OTHERS.sub("_", plain)
    if made == name and len(made) <= MAX_ID_CHARS and made:
        return made
    made = made.strip("_") if made.strip("_-") else "utt"
    is_whole = not any(char.isalnum() and not char.isascii() for char in plain) and made != "utt"
    return made if is_whole and len(made) <= MAX_ID_CHARS else with_hash(made, name)


def with_hash(made: str, name: str) -> str:
    """An id followed by a hash of the name that it was made of, not too long."""
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:_HASH_CHARS]
    return f"{made[: MAX_ID_CHARS - _HASH_CHARS - 1]}-{digest}"


def piece_id(name: str, start_s: float, end_s: float) -> str:
    """The id of a piece of a longer recording: the recording's, and start and end in milliseconds of its file.

    >>> piece_id("talk", 61.2, 70.0345)
    'talk-00061200-00070034'
    """
    times = f"-{round(1000 * start_s):08d}-{round(1000 * end_s):08d}"
    if len(name) + len(times) > MAX_ID_CHARS:
        name = with_hash(name[: MAX_ID_CHARS - len(times) - _HASH_CHARS - 1], name)
    return name + times


def without_times(name: str) -> str:
    """The id of the recording that a piece with this id was cut from; any other id as it is.

    >>> without_times("talk-00061200-00070034"), without_times("talk-0006")
    ('talk', 'talk-0006')
    """
    return _PIECE_TIMES.sub("", name)
