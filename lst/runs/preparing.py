"""The options of preparing that a configuration gives: what every command that gathers a corpus takes."""

from __future__ import annotations

from lst.configs.schema import Config
from lst.data.prepare.options import PrepareOptions
from lst.tokenizers.speech import encoder_options


def prepare_options(config: Config) -> PrepareOptions:
    """Options of ``prepare`` from a configuration; raises ``UserError`` for weights that cannot be used."""
    encoder_options(config.tokenizer)
    return PrepareOptions(
        corpus=config.corpus,
        text=config.text,
        seed=config.seed,
        on_error=config.on_error,
        max_skipped_share=config.max_skipped_share,
        num_workers=config.num_workers,
        executor=config.executor,
        address=config.address,
        part=config.part,
        data=config.data,
        tokenizer=config.tokenizer,
        layout=config.layout,
    )
