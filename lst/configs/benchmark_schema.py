"""Options of ``lst benchmark build``. Imports nothing heavy, so that ``--help`` is quick."""

from __future__ import annotations

from dataclasses import dataclass

from lst.options import Options, option

TEXT_BENCHMARKS = ("items", "hellaswag", "story_cloze", "topic_story_cloze", "copa", "blimp", "swuggy")
# Of pairs of recordings, and of voices that change in mid-sentence.
BENCHMARKS = (*TEXT_BENCHMARKS, "pairs", "consistency")
RECOGNISERS = ("pocketsphinx", "faster-whisper")


@dataclass
class BenchmarkConfig(Options, prefix="benchmark."):
    """Options of a benchmark that is built."""

    name: str = option("items", "the format of items=, which names the benchmark", choices=BENCHMARKS)
    max_items: int = option(0, "items at most, the first of items=; 0 takes all (of those made by rule: 500)", low=0)
    speech: bool = option(True, "speak the items; false keeps text alone, at any size and without a tokenizer")
    voices: list[str] = option(
        [],
        "voices that each say every item, ENGINE:VOICE or ENGINE; empty: speakers of data.voice take items in turn",
        needs="benchmark.speech=True",
    )
    normaliser: str = option(
        "builtin",
        "what makes texts readable aloud: builtin, nemo (nemo_text_processing, then builtin) or none (text alone)",
        choices=("builtin", "nemo", "none"),
    )
    recognise: str = option(
        "none",
        "recogniser that hears every clip; its word errors are in the card: pocketsphinx, faster-whisper or none",
        choices=("none", *RECOGNISERS),
        needs="benchmark.speech=True",
    )
    recogniser_weights: str | None = option(
        None,
        "folder of faster-whisper's model, in the format of CTranslate2",
        path="folder",
        needs="benchmark.recognise=faster-whisper",
    )
    max_wer: float = option(
        0.5,
        "clips with a larger share of word errors are listed",
        low=0,
        needs="benchmark.recognise=pocketsphinx|faster-whisper",
    )

    def rules(self) -> list[str]:
        """The recogniser has its weights, and what is spoken can be read aloud."""
        found = []
        if self.recognise == "faster-whisper" and self.recogniser_weights is None:
            found.append(
                "benchmark.recognise=faster-whisper: say where its model lies with benchmark.recogniser_weights=FOLDER"
            )
        if self.normaliser == "none" and self.speech:
            found.append("benchmark.normaliser=none: a voice needs readable text; add benchmark.speech=false")
        if len(self.voices) != len(set(self.voices)):
            found.append(f"benchmark.voices={self.voices}: each voice may be there once")
        return found
