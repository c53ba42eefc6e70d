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
from lst.errors import UserError
from lst.recipes.voice.evaluate import evaluate_voice, evaluation_measure
from lst.recipes.voice.many_voices import MANIFEST_FILE, make_corpus, many_speakers
from lst.recipes.voice.train import train_plan, train_voice
from lst.runs import RunFolder
from lst.runs.preparing import prepare_options


def voice_quickstart(config: VoiceConfig) -> str:
    """Does what is not done yet, and evaluates the voice; returns the table as text.

    Raises:
        UserError: an engine or voice is missing, or a voice of the evaluation is among those of the training.
    """
    check_voices(config)
    evaluation_measure(config)
    many, prepared = config.many, _prepare_config(config)
    if not (Path(config.run_dir) / "data" / INDEX_FILE).exists():
        speakers = many_speakers(many.voices, many.num_speakers, config.seed)
        make_corpus(Path(config.run_dir) / "corpus", speakers, many.num_sentences, config.seed, config.num_workers)
        prepare(RunFolder.of(prepared).data, prepare_options(prepared))
    train_voice(replace(config, texts_are_right=True))
    return evaluate_voice(config)


def voice_quickstart_plan(config: VoiceConfig) -> list[str]:
    """What ``lst voice quickstart`` would do; raises ``UserError`` for what it would refuse."""
    check_voices(config)
    evaluation_measure(config)
    many = config.many
    return [
        f"synthesise {many.num_sentences} sentences of each of {many.num_speakers} speakers, made of "
        f"{len(many.voices)} voices, and prepare them in {config.run_dir}",
        *train_plan(config),
        f"evaluate it on {config.eval.sentences} sentences of {', '.join(config.eval.voices)}",
    ]


def check_voices(config: VoiceConfig) -> None:
    """Raises ``UserError`` where the evaluation would not be of unheard voices, or an engine is missing."""
    if not config.many.voices:
        raise UserError("many.voices= names no voice: choose a list, such as many=engines")
    both = sorted(set(config.many.voices) & set(config.eval.voices))
    if both:
        raise UserError(f"{', '.join(both)}: in many.voices and in eval.voices; take them out of one")
    many_speakers([*config.many.voices, *config.eval.voices], 1, config.seed)


def _prepare_config(config: VoiceConfig) -> Config:
    """The configuration of ``lst prepare``."""
    return MAIN.build(
        [
            f"run_dir={config.run_dir}",
            f"corpus={Path(config.run_dir) / 'corpus' / MANIFEST_FILE}",
            f"seed={config.seed}",
            f"num_workers={config.num_workers}",
            "data.align.method=manifest",
            "data.valid_share=0.06",
        ],
        READS["prepare"],
    )
