"""The small voice of units that ``lst quickstart`` trains in about a minute, so that its models are heard."""

from __future__ import annotations

import importlib.util
import sys

from lst.configs.compose import VOICE
from lst.configs.schema import Config
from lst.errors import UserError
from lst.parallel.commands import ChildCommand
from lst.progress import say
from lst.recipes.voice.parts import check_part
from lst.recipes.voice.train import voice_folder
from lst.runs import RunFolder, open_data
from lst.voice.saved import STYLE_VOICE_FILE

NAME = "units"
# A quarter of the sizes of model=small: it learns few voices, on one core.
_WORDS = (
    *("part=units", f"name={NAME}", "model.content_dim=64", "model.decoder_dim=80", "model.style_dim=8"),
    *("model.style_channels=2", "model.style_max_channels=16", "train.reference_s=0.5"),
    *("train.learning_rate=3e-3", "train.warmup_steps=30", "train.utterances=150", "train.accelerator=cpu"),
    *("train.eval_every=200", "train.eval_rows=16", "train.checkpoint_every=200"),
)


def quick_voice_command(config: Config) -> ChildCommand | None:
    """The training of the voice of the run's units, to run beside those of the models.

    Returns:
        The command; None where the voice is trained, none is wanted, or there are no recordings to learn from. Where
        the user can do something about it, the reason is said.
    """
    data = open_data(config)
    if not config.voice.steps or data.codec.units_a_frame > 1 or not data.manifest:
        return None
    if importlib.util.find_spec("pyworld") is None:
        say(
            f"no {STYLE_VOICE_FILE}: models speak by mean spectra, and whisper. pip install 'latent-speech-text[voice]'"
        )
        return None
    words = _voice_words(config)
    voice = VOICE.build(words)
    if (voice_folder(voice) / STYLE_VOICE_FILE).exists():
        return None
    try:
        check_part(voice, data)
    except UserError as error:
        say(f"no voice of units: {error}")
        return None
    log = RunFolder.of(config).root / "logs" / f"voice-{NAME}.log"
    return ChildCommand(f"voice {NAME}", (sys.executable, "-m", "lst", "voice", "train", *words), log)


def quick_voice_plan(config: Config) -> list[str]:
    """What ``quick_voice_command`` would train, as lines of text."""
    if not config.voice.steps:
        return []
    return [f"voice {NAME}: {config.voice.steps:,} steps, where there are recordings and pyworld"]


def _voice_words(config: Config) -> list[str]:
    words = [f"run_dir={config.run_dir}", f"seed={config.seed}", f"train.steps={config.voice.steps}", *_WORDS]
    return words if config.data_dir is None else [*words, f"data_dir={config.data_dir}"]
