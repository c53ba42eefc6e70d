"""Speed of preparing data and of the loader on this machine: ``make bench-data``.

Rates "a core" are for processor seconds of one thread, so other jobs hardly disturb them. Alternatives are timed in
turns, utterance by utterance or batch by batch. Work in several processes is timed by the wall clock. Speech comes from
``ARGS=CORPUS`` (240 utterances of a folder or manifest that ``lst prepare corpus=`` reads), or else from stories that
the installed voice reads. Documents are made of simulated utterances as long as LibriSpeech's.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lst.data.alignment import AlignItem, AlignmentError
from lst.data.alignment.hmm import PocketsphinxAligner
from lst.data.audio import read_audio
from lst.data.batches import BatchLoader, BatchStream, LoaderState, StreamPlan, mix_sources
from lst.data.config import DataConfig, InterleaveConfig, MixConfig, SimulatedConfig
from lst.data.corpora import ManifestRow, load_corpus, write_manifest
from lst.data.documents import DocumentBuilder
from lst.data.prepare import PrepareOptions, prepare
from lst.data.shards import ShardReader
from lst.data.synthesis import choose_engine, default_cache_dir, generate_stories, pseudo_speakers, synthesize_many
from lst.data.synthesis.simulated import SimulatedSpeech, mean_phones
from lst.data.text import spoken_words
from lst.data.utterance import Utterance, Word
from lst.lazy import import_torchaudio
from lst.model.config import PatchingConfig
from lst.recipes.benchmarks.corpus_size import bench_corpus_size
from lst.recipes.benchmarks.data_reference import loop_pipeline
from lst.recipes.benchmarks.figures import Figures, elapsed_s, resident_bytes
from lst.tokenizers.config import TokenizerConfig
from lst.tokenizers.encoders import build_encoder
from lst.tokenizers.frames import EncoderOptions
from lst.tokenizers.kmeans import Centroids, KmeansTokenizer
from lst.tokenizers.text import TextTokenizer, fit_text_tokenizer
from lst.tokenizers.units import HOP_SAMPLES, NUM_CEPSTRA, NUM_FEATURES, SAMPLE_RATE_HZ, WINDOW_SAMPLES
from lst.tokenizers.vocabulary import Vocabulary

NUM_SPOKEN, NUM_SPEAKERS, NUM_UNITS, TEXT_VOCAB = 240, 4, 500, 4_000
# The 1B configuration's rows; static patches of 4 units.
ROWS, ROW_PATCHES, PATCHING = 4, 4_096, PatchingConfig("static", static_size=4)
PUBLISHED_PATCHES_A_SECOND = 53_000
LOADER_WORKERS = 2
# 100 GB of 16-bit audio at 16 kHz, in utterances of LibriSpeech's mean length.
STREAM_BYTES, MEAN_UTTERANCE_S = 100e9, 12.3
RESUMED_DOCUMENTS = 10_000_000
MOST_GROWTH_MB = 32


def in_turns_s(functions: dict[str, Callable[[Any], Any]], items: Sequence[Any], repeats: int = 3) -> dict[str, float]:
    """Processor seconds of each function, summed over the items, each at its fastest; functions take turns."""
    for function in functions.values():
        function(items[0])
    times_s = [
        [[elapsed_s(partial(function, item), time.thread_time) for function in functions.values()] for item in items]
        for _ in range(repeats)
    ]
    return dict(zip(functions, np.min(times_s, axis=0).sum(axis=0).tolist(), strict=True))


def spoken_corpus(corpus: str | None, folder: Path) -> Path:
    """Writes a manifest of at most ``NUM_SPOKEN`` recordings; returns its path."""
    if corpus is not None:
        rows = load_corpus(Path(corpus))[0][:NUM_SPOKEN]
    else:
        speakers = pseudo_speakers(choose_engine("auto"), NUM_SPEAKERS, seed=0)
        stories = generate_stories(NUM_SPOKEN, seed=0)
        jobs = [(story.text, speakers[index % NUM_SPEAKERS]) for index, story in enumerate(stories)]
        paths = synthesize_many(jobs, default_cache_dir(), LOADER_WORKERS)
        rows = [
            ManifestRow(f"story_{index:04d}", path, job[0], f"speaker_{index % NUM_SPEAKERS}")
            for index, (path, job) in enumerate(zip(paths, jobs, strict=True))
        ]
    write_manifest(folder / "manifest.jsonl", rows)
    return folder / "manifest.jsonl"


def bench_units(figures: Figures, waveforms: Sequence[np.ndarray]) -> None:
    """MFCC units, compared with torchaudio's transform alone on the same audio."""
    torchaudio = import_torchaudio()
    mel = {"n_fft": WINDOW_SAMPLES, "hop_length": HOP_SAMPLES, "n_mels": 40, "pad_mode": "constant"}
    bare = torchaudio.transforms.MFCC(SAMPLE_RATE_HZ, NUM_CEPSTRA, log_mels=True, melkwargs=mel)
    generator = np.random.default_rng(0)
    centroids = generator.standard_normal((NUM_UNITS, NUM_FEATURES), np.float32)
    encoder = build_encoder(EncoderOptions("mfcc"))
    codec = KmeansTokenizer(Centroids(centroids, np.ones(NUM_FEATURES, np.float32)), encoder.spec, ready=[encoder])

    def transform(waveform: np.ndarray) -> None:
        with torch.inference_mode():
            bare(torch.from_numpy(waveform))

    seconds = in_turns_s(
        {"units": lambda waveform: codec.encode([waveform], SAMPLE_RATE_HZ), "bare": transform}, waveforms
    )
    speech_s = sum(map(len, waveforms)) / SAMPLE_RATE_HZ
    figures.add("MFCC units, times real time a core", speech_s / seconds["units"], 200)
    figures.add("torchaudio's MFCC transform alone, times real time a core", speech_s / seconds["bare"])
    figures.add("share of the units' time that this transform takes", seconds["bare"] / seconds["units"])


def bench_alignment(figures: Figures, spoken: Sequence[tuple[np.ndarray, str]]) -> None:
    """The aligner, and the same decoder given the same samples and words by its own calls alone."""
    aligner = PocketsphinxAligner()
    decoder = aligner.decoder
    found = [AlignItem(waveform, text, len(waveform) // 640 + 1) for waveform, text in spoken]
    results = aligner.align_many(found, 25)
    alignable = [item for item, result in zip(found, results, strict=True) if not isinstance(result, AlignmentError)]

    def bare(item: tuple[bytes, str]) -> None:
        decoder.reinit_feat()
        decoder.set_align_text(item[1])
        decoder.start_utt()
        decoder.process_raw(item[0], full_utt=True)
        decoder.end_utt()
        list(decoder.seg())

    items = []
    for item in alignable:
        pcm = (np.clip(item.waveform, -1.0, 1.0) * 32767).astype("<i2").tobytes()
        tokens = " ".join(token for word in spoken_words(item.text) for token in word.tokens)
        items.append((item, (pcm, tokens)))
    functions: dict[str, Callable[[Any], Any]] = {
        "aligner": lambda pair: aligner.align_many([pair[0]], 25),
        "bare": lambda pair: bare(pair[1]),
    }
    seconds = in_turns_s(functions, items, repeats=2)
    speech_s = sum(item.duration_s for item, _ in items)
    figures.add("utterances of these that align, share", len(items) / len(spoken))
    figures.add("alignment, times real time a core", speech_s / seconds["aligner"])
    figures.add("alignment over the bare library's, time", seconds["aligner"] / seconds["bare"], 1.2, at_most=True)


def bench_prepare(figures: Figures, manifest: Path, folder: Path) -> Path:
    """Prepares the same recordings with one process and with two; returns a prepared folder."""
    seconds = {}
    for num_workers in (1, 2):
        options = PrepareOptions(
            corpus=str(manifest),
            text=None,
            seed=0,
            on_error="skip",
            max_skipped_share=0.5,
            num_workers=num_workers,
            data=DataConfig(shard_utterances=4, max_unaligned_share=0.5),
            tokenizer=TokenizerConfig(num_units=100, text_vocab_size=400, fit_max_frames=10_000),
        )
        seconds[num_workers] = elapsed_s(partial(prepare, folder / f"workers-{num_workers}", options))
    figures.add("prepare with one process, s", seconds[1])
    figures.add("prepare with two processes, times the speed of one", seconds[1] / seconds[2], 1.7)
    return folder / "workers-2"


class SimulatedCorpus(Sequence[Utterance]):
    """Aligned utterances that are made when they are read; on average 33 words and 12.3 s, as in LibriSpeech.

    Args:
        num_utterances: any number; they take no memory.
        words: running text from which the utterances take their words.
    """

    def __init__(self, num_utterances: int, words: Sequence[str]) -> None:
        self.num_utterances, self.words = num_utterances, list(words)
        self.units = np.random.default_rng(0).integers(0, NUM_UNITS, 1 << 16).astype(np.uint16)

    def __len__(self) -> int:
        return self.num_utterances

    def __getitem__(self, index: Any) -> Any:
        generator = np.random.default_rng([7, index])
        count = int(generator.integers(10, 57))
        frames, pauses = generator.integers(3, 12, count).tolist(), generator.integers(-12, 10, count).tolist()
        first = int(generator.integers(0, len(self.words) - count))
        words, position = [], 8
        for text, length, pause in zip(self.words[first : first + count], frames, pauses, strict=True):
            words.append(Word(text, position, position + length, -1.0))
            position += length + max(pause, 0)
        start = int(generator.integers(0, len(self.units) - position - 8))
        units = self.units[start : start + position + 8]
        return Utterance(
            f"simulated_{index:09d}", "s", " ".join(w.text for w in words), len(units) / 25, units, tuple(words)
        )


def simulated(num_utterances: int) -> tuple[SimulatedCorpus, TextTokenizer, Vocabulary]:
    """A corpus of words from the embedded stories, a text BPE fitted on them, and the vocabulary."""
    texts = [story.text for story in generate_stories(3_000, seed=1)]
    tokenizer = fit_text_tokenizer(texts, TEXT_VOCAB)
    words = " ".join(texts).lower().translate({ord(mark): None for mark in '.,!?;:"'}).split()
    vocabulary = Vocabulary(tokenizer.vocab_size, NUM_UNITS, tokenizer.sha256, "u")
    return SimulatedCorpus(num_utterances, words), tokenizer, vocabulary


def simulated_plan(
    spoken: Sequence[Utterance], made: tuple[Any, TextTokenizer, Vocabulary], **changes: Any
) -> StreamPlan:
    """The plan of batches with the rows of the 1B configuration.

    Args:
        spoken: the utterances.
        made: from ``simulated``.
        changes: of the plan; also ``mix`` (interleaved, text, speech) and ``level`` of the segments.
    """
    builder = DocumentBuilder(made[1], made[2], InterleaveConfig(), 0, changes.pop("level", "word"))
    sources = mix_sources(spoken, [], MixConfig(*changes.pop("mix", (1.0, 0.0, 0.0))))
    plan = StreamPlan(sources, builder, PATCHING, ROWS, ROW_PATCHES, 1_000, 128, seed=0, fingerprint="bench")
    return replace(plan, **changes)


def bench_documents(figures: Figures) -> None:
    """Makes batches of utterances in memory: the stream, compared with plain loops over tokens."""
    made = simulated(4_000)
    in_memory: list[Utterance] = [made[0][index] for index in range(len(made[0]))]
    bpe = PatchingConfig("aligned", aligned_to="bpe")
    streams = {
        "interleaved, static patches": BatchStream(simulated_plan(in_memory, made)),
        "interleaved, aligned patches": BatchStream(
            simulated_plan(in_memory, made, patching=PatchingConfig("aligned"))
        ),
        "interleaved, BPE-aligned patches": BatchStream(simulated_plan(in_memory, made, patching=bpe, level="bpe")),
        "1 : 2 interleaved and text, by tokens": BatchStream(simulated_plan(in_memory, made, mix=(1.0, 2.0, 0.0))),
    }
    config, best, loop = InterleaveConfig(), dict.fromkeys(streams, 0.0), 0.0
    for stream in streams.values():
        next(stream)
    for turn in range(12):
        for name, stream in streams.items():
            before = stream.state.num_tokens
            seconds = elapsed_s(lambda: list(islice(stream, 6)), time.thread_time)  # noqa: B023
            best[name] = max(best[name], (stream.state.num_tokens - before) / seconds)
        part = in_memory[80 * turn : 80 * turn + 80]
        started_s = time.thread_time()
        batch = loop_pipeline(part, 0, 0, config, made[1], made[2], 4, ROWS, ROW_PATCHES)
        loop = max(loop, batch.num_tokens / (time.thread_time() - started_s))
    first = "interleaved, static patches"
    figures.add(f"{first}: M tokens a second a core", best[first] / 1e6, 2)
    for name in list(streams)[1:]:
        figures.add(f"{name}: M tokens a second a core", best[name] / 1e6)
    figures.add("the same by a loop over tokens: M tokens a second a core", loop / 1e6)
    figures.add(f"{first}: times the speed of the loop", best[first] / loop, 8)
    state = streams[first].state
    figures.add("slots that packing leaves empty, %", 100 * (1 - state.num_patches / state.num_slots))


def bench_simulated(figures: Figures) -> None:
    """Simulated speech of stories, made and said anew."""
    stories = generate_stories(1_000, seed=2)
    speech = SimulatedSpeech(SimulatedConfig(), 0, mean_phones(story.text for story in stories))
    said = [speech.utterance(story.id, story.text) for story in stories]
    hours = sum(utterance.duration_s for utterance in said) / 3600
    ways: dict[str, Callable[[Any], Any]] = {
        "from text": lambda number: speech.utterance(stories[number].id, stories[number].text),
        "said anew": lambda number: speech.again(said[number], "1"),
    }
    for name, seconds in in_turns_s(ways, range(len(said))).items():
        figures.add(f"simulated speech, {name}: hours a second a core", hours / seconds, 1)


def bench_loader(figures: Figures, prepared: Path) -> None:
    """Patches a second of a loader with two worker processes, from utterances in memory and from shards."""
    made = simulated(4_000)
    in_memory: list[Utterance] = [made[0][index] for index in range(len(made[0]))]
    tokenizer = TextTokenizer.load(prepared / "text.model")
    of_shards = (made[0], tokenizer, Vocabulary.load(prepared / "vocabulary.json"))
    sources = {
        "utterances in memory": simulated_plan(in_memory, made, num_streams=LOADER_WORKERS),
        "shards": simulated_plan(ShardReader(prepared, "train"), of_shards, num_streams=LOADER_WORKERS),
    }
    for name, plan in sources.items():
        with BatchLoader(plan, num_workers=LOADER_WORKERS) as loader:
            list(islice(loader, 8))
            best, num_patches = 0.0, loader.state.num_patches
            for _ in range(6):
                started_s = time.perf_counter()
                state: LoaderState = list(islice(loader, 16))[-1][1]
                best = max(best, (state.num_patches - num_patches) / (time.perf_counter() - started_s))
                num_patches = state.num_patches
        target = PUBLISHED_PATCHES_A_SECOND if name == "utterances in memory" else None
        figures.add(f"loader, {LOADER_WORKERS} workers, {name}: patches a second", best, target)


def bench_resume(figures: Figures) -> None:
    """Resumes a loader near the end of a corpus of ten million documents, from its state as JSON."""
    made = simulated(RESUMED_DOCUMENTS)
    plan = simulated_plan(made[0], made, num_streams=4)
    with BatchLoader(plan) as loader:
        list(islice(loader, 8))
    # State after 9.9 of 10 million documents.
    done = (RESUMED_DOCUMENTS - 100_000) // plan.num_streams
    streams = tuple(replace(s, cursors={"interleaved": done}, batch_index=10_000) for s in loader.state.streams)
    saved = json.dumps(replace(loader.state, batch_index=40_000, streams=streams).to_json())

    def resume(num_batches: int) -> None:
        with BatchLoader(plan, LoaderState.from_json(json.loads(saved))) as resumed:
            list(islice(resumed, num_batches))

    to_first_s, to_all_s = (elapsed_s(partial(resume, count)) for count in (1, plan.num_streams))
    figures.add("resume 9.9 million documents into 10 million: s to the first batch", to_first_s, 1, at_most=True)
    figures.add("the same, s until each of the 4 streams has given one", to_all_s)
    figures.add("its state, kB of JSON", len(saved) / 1e3)


def bench_memory(figures: Figures) -> None:
    """Memory during one pass over a simulated corpus of 100 GB of audio."""
    num_utterances = int(STREAM_BYTES / 2 / SAMPLE_RATE_HZ / MEAN_UTTERANCE_S)
    made = simulated(num_utterances)
    warm, largest, num_units = 0, 0, 0
    with BatchLoader(simulated_plan(made[0], made, num_streams=4)) as loader:
        for _, state in loader:
            num_units = state.num_speech_tokens
            if state.num_drawn >= num_utterances:
                break
            if state.num_drawn < num_utterances // 10:
                warm = resident_bytes()
            largest = max(largest, resident_bytes())
    figures.add("simulated stream: utterances", num_utterances)
    figures.add("simulated stream: GB of audio that they stand for", num_utterances * MEAN_UTTERANCE_S * 32_000 / 1e9)
    figures.add("simulated stream: M units given out as speech", num_units / 1e6)
    figures.add("growth of memory after its first tenth, MB", (largest - warm) / 1e6, MOST_GROWTH_MB, at_most=True)


def main(arguments: Sequence[str]) -> None:
    """Runs all benchmarks; the first argument is the corpus, if there is one."""
    torch.set_num_threads(1)
    figures = Figures("data")
    corpus = arguments[0] if arguments else None
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        bench_documents(figures)
        bench_simulated(figures)
        bench_resume(figures)
        bench_memory(figures)
        bench_corpus_size(figures)
        manifest = spoken_corpus(corpus, folder)
        rows = load_corpus(manifest)[0]
        print(f"speech: {len(rows)} recordings of {corpus or 'stories read aloud'}", flush=True)
        waveforms = [read_audio(row.path) for row in rows]
        bench_units(figures, waveforms[:40])
        bench_alignment(figures, [(waveform, row.text) for waveform, row in zip(waveforms, rows, strict=True)][:40])
        bench_loader(figures, bench_prepare(figures, manifest, folder))
    figures.write()


if __name__ == "__main__":
    main(sys.argv[1:])
