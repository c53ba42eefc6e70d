"""Models that were never trained, saved with their tokenizers and voice as a training saves them."""

from __future__ import annotations

from pathlib import Path

from lst.api import fit_voice
from lst.configs.compose import build_config
from lst.model.lst import LatentSpeechTextModel
from lst.runs import ModelTokenizers, RunFolder, fit_patching, open_data, save_trained
from lst.voice.vocoders import VOICE_FILE


def save_whole(root: Path, name: str, *words: str, seed: int = 0) -> Path:
    """A model of random weights in a run with prepared data; returns its folder."""
    config = build_config([f"run_dir={root}", "model=lst_debug", *words])
    data, run = open_data(config), RunFolder(root)
    patching = fit_patching(config, data, run.model(name))
    model = LatentSpeechTextModel(config.model, patching.vocabulary.size, seed)
    if (voice := fit_voice(data)) is not None:
        voice.save(run.final(name) / VOICE_FILE)
    save_trained(run.final(name), model, patching, ModelTokenizers.of(data))
    return run.final(name)
