"""Latent Speech-Text Transformer: pre-training of speech-text language models on latent speech patches.

Data flows one way, and each step is one folder::

    audio, text ── tokenizers ──▶ ids ── data ──▶ documents ── model ──▶ logits
                                                                 ▲          │
                                        kernels (the hot loops) ─┘          ▼
                                              recipes: train, evaluate, report, generate

A trained model in three lines::

    import lst
    model = lst.load("runs/quickstart", name="static")
    print(model.generate("Anna wanted to", max_new_tokens=20))

Reference: Lu et al., "Latent Speech-Text Transformer", ICLR 2026 (arXiv 2510.06195).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from lst.api.model import SpeechTextModel

__version__ = "0.1.0"


def load(
    place: Path | str,
    name: str | None = None,
    *,
    revision: str | None = None,
    data_dir: Path | str | None = None,
    weights: str | None = None,
    device: str = "cpu",
    verify: bool = True,
) -> SpeechTextModel:
    """Opens a trained model with its tokenizers, its patching and its voice.

    Args:
        place: a model's folder (``RUN/models/NAME/final``, or a copy of one anywhere), a run's folder, or
            ``OWNER/NAME`` on the Hugging Face Hub.
        name: of the model in a run that has several.
        revision: of a model on the Hub.
        data_dir: prepared data with the tokenizers, for folders that an earlier version saved without and that are no
            longer in their run.
        weights: where the weights of HuBERT, Whisper or EnCodec units are now, if they were moved; see
            ``lst.tokenizers.weights``.
        device: ``cpu`` or ``cuda``.
        verify: compare the hashes of the model's files.

    Raises:
        UserError: there is no such model, or a file of it is missing, damaged or altered.
    """
    from lst.api.finding import open_model

    return open_model(place, name, revision=revision, data_dir=data_dir, weights=weights, device=device, verify=verify)
