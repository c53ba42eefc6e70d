"""A trained model in Python: ``lst.load`` opens one, and it scores, continues, transcribes and speaks.

::

    FOLDER, RUN or hub ──open_model──▶ SpeechTextModel ──score──▶ EndingScore
    text, audio, both ──prompt_parts──▶ documents          └──generate, transcribe, speak──▶ Continued, Sound

``finding`` says where models are, ``prompts`` what a prompt may be, ``voices`` how units become sound.
"""

from lst.api.finding import model_folder, open_model
from lst.api.model import SpeechTextModel
from lst.api.prompts import Piece, Prompt
from lst.api.results import Continued, EndingScore, Sound
from lst.api.voices import fit_voice, voice_of

__all__ = [
    "Continued",
    "EndingScore",
    "Piece",
    "Prompt",
    "Sound",
    "SpeechTextModel",
    "fit_voice",
    "model_folder",
    "open_model",
    "voice_of",
]
