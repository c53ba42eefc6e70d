"""The small voice of units that ``lst quickstart`` trains in about a minute, so that its models are heard."""

from __future__ import annotations

import importlib.util

from lst.configs.compose import VOICE
from lst.configs.schema import Config
from lst.configs.voice_schema import VoiceConfig
from lst.errors import UserError
from lst.progress import say
from lst.recipes.voice.parts import train_part
from lst.runs import open_data
from lst.voice.saved import STYLE_VOICE_FILE

NAME = "units"
# A quarter of the sizes of model=small: it learns few voices, on one core.
_WORDS = (
    *("part=units", f"name={NAME}", "model.content_dim=64", "model.decoder_dim=80", "model.style_dim=8"),
    *("model.style_channels=2", "model.style_max_channels=16", "model.reader_dim=8", "train.reference_s=0.5"),
    *("train.learning_rate=3e-3", "train.warmup_steps=30", "train.utterances=150", "train.accelerator=cpu"),
    *("train.eval_every=200", "train.eval_rows=16", "train.checkpoint_every=200"),
)


def train_quick_voice(config: Config) -> None:
    """Trains the voice of the run's units, where there are recordings to learn from; says why where there is none."""
    data = open_data(config)
    if not config.voice.steps or data.codec.units_a_frame > 1 or not data.manifest:
        return
    if importlib.util.find_spec("pyworld") is None:
        say(
            f"no {STYLE_VOICE_FILE}: models speak by mean spectra, and whisper. pip install 'latent-speech-text[voice]'"
        )
        return
    try:
        train_part(_voice_config(config))
    except UserError as error:
        say(f"no voice of units: {error}")


def quick_voice_plan(config: Config) -> list[str]:
    """What ``train_quick_voice`` would do, as lines of text."""
    if not config.voice.steps:
        return []
    return [f"voice {NAME}: {config.voice.steps:,} steps, where there are recordings and pyworld"]


def _voice_config(config: Config) -> VoiceConfig:
    words = [f"run_dir={config.run_dir}", f"seed={config.seed}", f"train.steps={config.voice.steps}", *_WORDS]
    return VOICE.build(words if config.data_dir is None else [*words, f"data_dir={config.data_dir}"])
