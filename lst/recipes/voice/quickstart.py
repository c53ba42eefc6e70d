"""``lst voice quickstart``: speech of many synthesised voices, a voice trained on it, and how good it is on others.

::

    RUN/corpus/    the speech: see ``many_voices``
    RUN/data/      the same, prepared
    RUN/voice/NAME/    the voice, and its evaluation
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from lst.configs.compose import MAIN
from lst.configs.reads import READS
from lst.configs.schema import Config
from lst.configs.voice_schema import VoiceConfig
from lst.data.prepare import prepare
from lst.data.shards import INDEX_FILE
from lst.data.synthesis.voices import named_speakers
from lst.errors import UserError
from lst.recipes.voice.evaluate import evaluate_voice, evaluated_on, evaluation_measure, evaluation_recogniser
from lst.recipes.voice.many_voices import MANIFEST_FILE, BodySpeaker, check_corpus, make_corpus, many_speakers
from lst.recipes.voice.train import train_plan, train_voice
from lst.runs import RunFolder
from lst.runs.preparing import prepare_options


def voice_quickstart(config: VoiceConfig) -> str:
    """Does what is not done yet, and evaluates the voice; returns the table as text.

    Raises:
        UserError: an engine or voice is missing, or a voice of the evaluation is among those of the training.
    """
    speakers = check_voices(config)
    prepared = _prepare_config(config)
    if not (Path(config.run_dir) / "data" / INDEX_FILE).exists():
        make_corpus(_corpus(config), speakers, config.many.num_sentences, config.seed, config.num_workers)
        prepare(RunFolder.of(prepared).data, prepare_options(prepared))
    train_voice(replace(config, texts_are_right=True))
    return evaluate_voice(config)


def voice_quickstart_plan(config: VoiceConfig) -> list[str]:
    """What ``lst voice quickstart`` would do; raises ``UserError`` for what it would refuse."""
    check_voices(config)
    many = config.many
    return [
        f"synthesise {many.num_sentences} sentences of each of {many.num_speakers} speakers, made of "
        f"{len(many.voices)} voices, and prepare them in {config.run_dir}",
        *train_plan(config),
        f"evaluate it {evaluated_on(config)}",
    ]


def check_voices(config: VoiceConfig) -> list[BodySpeaker]:
    """The speakers of the training.

    Raises:
        UserError: the evaluation would not be of unheard voices, an engine or what measures is missing, or the run
            holds other speech.
    """
    if not config.many.voices:
        raise UserError("many.voices= names no voice: choose a list, such as many=engines")
    both = sorted(set(config.many.voices) & set(config.eval.voices))
    if both:
        raise UserError(f"{', '.join(both)}: in many.voices and in eval.voices; take them out of one")
    named_speakers(config.eval.voices, "eval.voices")
    speakers = many_speakers(config.many.voices, config.many.num_speakers, config.seed)
    check_corpus(_corpus(config), speakers, config.many.num_sentences, config.seed)
    evaluation_measure(config)
    evaluation_recogniser(config)
    return speakers


def _corpus(config: VoiceConfig) -> Path:
    return Path(config.run_dir) / "corpus"


def _prepare_config(config: VoiceConfig) -> Config:
    """The configuration of ``lst prepare``."""
    return MAIN.build(
        [
            f"run_dir={config.run_dir}",
            f"corpus={_corpus(config) / MANIFEST_FILE}",
            f"seed={config.seed}",
            f"num_workers={config.num_workers}",
            "data.align.method=manifest",
            "data.valid_share=0.06",
        ],
        READS["prepare"],
    )
