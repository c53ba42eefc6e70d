"""``lst prepare``: prepares the data of a run and writes its corpus card."""

from __future__ import annotations

from lst import storage
from lst.configs.schema import Config
from lst.data.config import SIMULATED
from lst.data.corpora import apply_on_error, check_rows, load_corpus, num_bad_rows, on_the_fly_files
from lst.data.prepare import PrepareOptions, prepare
from lst.data.prepare.prepare import BYTES_A_SHARD_UTTERANCE, BYTES_A_SPOKEN_STORY
from lst.data.shards import INDEX_FILE
from lst.data.synthesis import choose_engine
from lst.data.synthesis.stories import STRATA
from lst.runs import RunFolder
from lst.tokenizers.speech import encoder_options

# Seconds of one core for a second of speech, measured on two AVX2 cores: synthesis, features twice, alignment.
SYNTHESIS_RTF, FEATURES_RTF, ALIGNMENT_RTF, SIMULATION_RTF = 0.011, 0.004, 0.02, 0.0003
# A story read aloud; simulated ones differ little.
STORY_S = {"mini": 6.5, "standard": 11.5, "wide": 14.5}


def prepare_plan(config: Config) -> list[str]:
    """Plan of ``lst prepare``, as lines of text: input, output, disk and time."""
    folder = RunFolder.of(config).data
    if storage.exists(folder / INDEX_FILE):
        return [f"prepare: {folder} is prepared, nothing to do"]
    if files := on_the_fly_files(config.corpus):
        count, speech_s, disk = 0, 0.0, sum(map(storage.size, files))
        what, rtf = f"{len(files)} .on_the_fly files of {disk / 1e6:,.1f} MB", 0.0
    elif config.corpus is not None:
        rows, problems, layout = load_corpus(config.corpus, config.layout)
        num_rows = len(rows) + num_bad_rows(problems)
        good, found = check_rows(rows, config.data.min_duration_s, config.data.max_duration_s, problems)
        apply_on_error(
            [*problems, *found], num_rows, config.on_error, config.max_skipped_share, f"corpus {config.corpus}"
        )
        count, speech_s = len(good), sum(row.duration_s or 0.0 for row in good)
        what, rtf = f"{count:,} recordings ({layout} layout)", FEATURES_RTF + ALIGNMENT_RTF
        disk = count * BYTES_A_SHARD_UTTERANCE
    else:
        count = config.data.num_spoken_stories
        speech_s = count * STORY_S[config.data.stories]
        if not config.text:
            # The parts of a question are as long as two stories.
            num_questions = len(STRATA) * config.data.num_questions
            count, speech_s = count + 4 * num_questions, speech_s + 2 * num_questions * STORY_S[config.data.stories]
        source = f"lines of {config.text}" if config.text else "stories"
        if config.data.voice == SIMULATED:
            what, rtf, disk = f"up to {count:,} {source} as simulated speech", SIMULATION_RTF, 0
        else:
            what = f"up to {count:,} {source} read aloud by {choose_engine(config.data.voice)}"
            rtf, disk = SYNTHESIS_RTF + FEATURES_RTF + ALIGNMENT_RTF, count * BYTES_A_SPOKEN_STORY
        disk += count * BYTES_A_SHARD_UTTERANCE
    seconds = speech_s * rtf / config.num_workers
    units_a_frame = config.tokenizer.num_codebooks if config.tokenizer.kind == "encodec" else 1
    return [
        f"prepare: {what}, {speech_s / 3600:.2f} h of speech, "
        f"about {speech_s * config.tokenizer.frame_rate_hz * units_a_frame:,.0f} units",
        f"  into {folder}; disk about {disk / 1e6:,.0f} MB (audio cache included); time about {seconds:,.0f} s "
        f"with {config.num_workers} processes",
    ]


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


def prepare_run(config: Config) -> None:
    """Prepares the data of a run and writes its card; with ``part=``, only a part of the shards."""
    prepare(RunFolder.of(config).data, prepare_options(config))
    if config.card.after_prepare and config.part is None:
        from lst.recipes.corpus_card.card import card_after_prepare

        card_after_prepare(config)
