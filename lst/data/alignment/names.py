"""Finds the alignment of an utterance by name: tools write names in their own spelling.

========================  =======================================================================================
name                      alignment that is found
========================  =======================================================================================
``spk1_u01``              ``spk1_u01.TextGrid``, ``spk1/u01.TextGrid``, ``spk1-u01.TextGrid``
audio ``talk u01.flac``   ``talk u01``, ``talk-u01`` (NeMo), ``talk_u01``, ``talk-space-u01`` (MFA)
audio ``a/b/talk.flac``   ``talk``, ``b_talk``, ``b/talk``, ``a_b_talk`` (NeMo with several parts of the path)
========================  =======================================================================================
"""

from __future__ import annotations

import bisect
import difflib
import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from lst.data.corpora import ManifestRow

MAX_PARTS = 4  # of a path that a name may hold
_NEAR = 50  # names to each side, in the order of the alphabet, among which the nearest is looked for
_NO_LETTERS = re.compile(r"(-space-|[\W_])+")


def audio_name(row: ManifestRow) -> str:
    """The path of a row's audio, or of its member of a tar, without the suffix."""
    return os.path.splitext(row.member or str(row.path))[0]


def spelling_key(name: str) -> str:
    """What all spellings of a name have in common: its letters and digits, in lower case, and where it is divided.

    >>> spelling_key("talk u01"), spelling_key("talk-u01"), spelling_key("spk1/talk_u01")
    ('talk-u01', 'talk-u01', 'spk1-talk-u01')
    """
    return _NO_LETTERS.sub("-", unicodedata.normalize("NFC", name).casefold()).strip("-")


class NamedAlignments:
    """Names of alignments, to be found by those of utterances.

    Args:
        names: paths from the folder of alignments, without suffixes, or names within a file.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._known = set(names)
        self.names = sorted(self._known)
        self._keys: dict[str, list[str]] = defaultdict(list)
        self._stems: dict[str, list[str]] = defaultdict(list)
        for name in self.names:
            self._keys[spelling_key(name)].append(name)
            self._stems[spelling_key(Path(name).name)].append(name)

    def find(self, utterance_id: str, audio: str = "") -> list[str]:
        """The names that fit best: by id, else by the audio's path, else by its stem. Several are ambiguous."""
        for wanted in _spellings(utterance_id, audio):
            if wanted in self._known:
                return [wanted]
            if found := self._keys.get(spelling_key(wanted)):
                return found
        for wanted in (utterance_id, Path(audio).name):
            if found := self._stems.get(spelling_key(wanted), []) if wanted else []:
                return found
        return []

    def nearest(self, utterance_id: str) -> str:
        """The most similar name, for a message; empty if there is none."""
        place = bisect.bisect(self.names, utterance_id)
        near = self.names[max(0, place - _NEAR) : place + _NEAR]
        return next(iter(difflib.get_close_matches(utterance_id, near, 1, 0.0)), "")


def _spellings(utterance_id: str, audio: str) -> Iterator[str]:
    """The id, and the ends of the audio's path from the longest to two parts."""
    yield utterance_id
    parts = Path(audio).parts
    for number in range(min(MAX_PARTS, len(parts)), 1, -1):
        yield "/".join(parts[-number:])
