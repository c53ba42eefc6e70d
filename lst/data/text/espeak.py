"""Words of other languages as English phones, by the program eSpeak NG where it is installed.

::

    words ──espeak-ng --ipa──▶ phones of the language ──nearest──▶ ARPAbet

The English acoustic model knows its own phones alone, so every phone becomes the nearest of these. That is rough, but
it finds where words begin.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import unicodedata
from collections.abc import Sequence
from functools import lru_cache

from lst.data.languages import language_name
from lst.errors import UserError

INSTALL_ESPEAK = "apt-get install espeak-ng"
# Voices that are not called as their languages are.
_VOICES = {"zh": "cmn", "fr": "fr-fr"}
# What it writes around words of another language, such words, and marks of tone, stress and pause.
_ABROAD = re.compile(r"\(en[a-z-]*\)[^(]*")
_SWITCH, _MARKS = re.compile(r"\([a-z-]+\)"), re.compile(r"[0-9ˈˌ_|.\s‖\-]")
_HAS_LATIN = re.compile(r"[A-Za-z]")
_BATCH = 500
# IPA by the nearest ARPAbet phones, longest match first; marks and lengths are dropped before.
_IPA_TABLE = """
tʃ:CH dʒ:JH tɕ:CH dʑ:JH tʂ:CH dʐ:JH ts:T-S dz:D-Z pf:P-F aɪ:AY ai:AY aʊ:AW au:AW ɔɪ:OY ɔø:OY ɔʏ:OY oɪ:OY eɪ:EY oʊ:OW
əʊ:OW i:IY ɪ:IH e:EY ɛ:EH æ:AE a:AA ɑ:AA ɒ:AO ɔ:AO o:OW u:UW ʊ:UH ʌ:AH ə:AH ɐ:AH ɜ:ER ɚ:ER ɝ:ER y:IY ʏ:IH ø:ER œ:ER
ɶ:AE ɯ:UW ɨ:IH ɘ:AH ɤ:AH ɵ:UH ʉ:UW ɞ:ER ᵻ:IH p:P b:B t:T d:D k:K ɡ:G g:G m:M ɱ:M n:N ɳ:N ɲ:N-Y ŋ:NG ɴ:NG ɾ:R r:R ʁ:R
ʀ:R ɹ:R ɻ:R ɽ:R f:F v:V θ:TH ð:DH s:S z:Z ʃ:SH ʒ:ZH ɕ:SH ʑ:ZH ʂ:SH ʐ:ZH ç:HH ʝ:Y x:HH χ:HH ɣ:G h:HH ɦ:HH ħ:HH ʕ:AA ɸ:F
β:V ʋ:V j:Y ɥ:W w:W ʍ:W ɰ:W l:L ɫ:L ɭ:L ɬ:L ɮ:L ʎ:L-Y c:K ɟ:G q:K ɢ:G ʈ:T ɖ:D ɓ:B ɗ:D ɠ:G
"""
_IPA = {ipa: phones.split("-") for ipa, phones in (entry.split(":") for entry in _IPA_TABLE.split())}


def nearest_phones(ipa: str) -> tuple[str, ...]:
    """The ARPAbet phones nearest to a word in IPA; ``AH`` where none is known.

    >>> nearest_phones("ʃtɾˈɑːsə"), nearest_phones("bɔ̃ʒˈuʁ")
    (('SH', 'T', 'R', 'AA', 'S', 'AH'), ('B', 'AO', 'N', 'ZH', 'UW', 'R'))
    """
    plain = unicodedata.normalize("NFD", _MARKS.sub("", _SWITCH.sub("", ipa)))
    # A nasal vowel ends in n; of all other marks none matters here.
    plain = unicodedata.normalize("NFC", plain.replace("\u0303", "n"))
    found: list[str] = []
    position = 0
    while position < len(plain):
        size = next((size for size in (2, 1) if plain[position : position + size] in _IPA), 0)
        found += _IPA[plain[position : position + size]] if size else []
        position += size or 1
    return tuple(found) or ("AH",)


@lru_cache(maxsize=64)
def espeak_problem(language: str) -> str:
    """Why eSpeak NG cannot say words of a language; empty if it can."""
    if shutil.which("espeak-ng") is None:
        return f"the program espeak-ng, which says them, is not installed ({INSTALL_ESPEAK})"
    if language == "ja":
        return "espeak-ng does not know the readings of Chinese characters in Japanese"
    answer = _answer(language, "a")
    if answer.returncode or answer.stderr.strip():
        told = answer.stderr.strip().splitlines()
        return f"espeak-ng has no voice or no dictionary of it ({told[0] if told else f'status {answer.returncode}'})"
    return ""


def foreign_phones(words: Sequence[str], language: str) -> dict[str, tuple[str, ...]]:
    """The nearest ARPAbet phones of words, numbers in digits among them.

    Raises:
        UserError: eSpeak NG is not installed, has no voice of the language, or stopped before its end.
    """
    if problem := espeak_problem(language):
        raise UserError(f"words in {language_name(language)}: {problem}")
    found: dict[str, tuple[str, ...]] = {}
    for start in range(0, len(words), _BATCH):
        batch = words[start : start + _BATCH]
        # A word a paragraph, so that no word is said by its neighbours.
        said = [line for line in _said(language, "\n\n".join(batch) + "\n").splitlines() if line.strip()]
        if len(said) != len(batch):
            said = [" ".join(_said(language, word).split()) for word in batch]
        # A sign that it does not know is called by its English name: that is not what was said.
        own = (ipa if _HAS_LATIN.search(word) else _ABROAD.sub("", ipa) for word, ipa in zip(batch, said, strict=True))
        found |= {word: nearest_phones(ipa) for word, ipa in zip(batch, own, strict=True)}
    return found


def _said(language: str, text: str) -> str:
    answer = _answer(language, text)
    if answer.returncode:
        ended = f"espeak-ng ended with status {answer.returncode}. {answer.stderr.strip()}"
        raise UserError(f"words in {language_name(language)}: {ended}")
    return answer.stdout


def _answer(language: str, text: str) -> subprocess.CompletedProcess[str]:
    voice = _VOICES.get(language, language)
    command = ["espeak-ng", "-q", "--ipa", "-v", voice, "--stdin"]
    return subprocess.run(command, input=text, capture_output=True, text=True, check=False, encoding="utf-8")
