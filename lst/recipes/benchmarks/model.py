"""Speed and memory of the model on this machine: ``make bench-model``.

One model (backbone of 6 layers of 512, local layers 1 + 3 of 256), one batch of 16,384 real tokens with random ids: a
third of them in interleaved documents, of which 77 % is speech; the rest is text. Float32 on the CPU. Alternatives are
timed in turns. ``flops.py`` counts the operations, only the necessary ones.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial

import numpy as np
import torch

from lst.data.batches import fill_rows
from lst.model.batch import SPEECH, TEXT, Document, PackedBatch, Patches, pack_documents
from lst.model.config import ModelConfig, PatchingConfig
from lst.model.flops import model_flops, workload_of_batch
from lst.model.lst import LatentSpeechTextModel
from lst.model.optimiser import build_adamw
from lst.model.patching import patch_documents
from lst.parallel import keep_freed_memory, peak_memory_bytes
from lst.recipes.benchmarks.figures import (
    Figures,
    best_s,
    elapsed_s,
    interleaved_best_s,
    measure_in_own_process,
)
from lst.recipes.benchmarks.kernels import decoding_state

NUM_TOKENS, VOCAB_SIZE, LARGE_VOCAB_SIZE, NUM_UNITS = 16_384, 2_048, 32_768, 500
SPEECH_SHARE, INTERLEAVED_SHARE = 0.77, 1 / 3
CONFIG = ModelConfig(
    global_dim=512,
    global_layers=6,
    global_heads=8,
    local_dim=256,
    local_heads=4,
    encoder_layers=1,
    decoder_layers=3,
    sub_queries=2,
    ffn_multiple_of=256,
)
STATIC = PatchingConfig("static", static_size=4)
GENERATED_UNITS, RECOMPUTED_EVERY = 1_000, 25
NUM_PRODUCTS, PRODUCT_SIZE = 100, 2_048
_FACTORS = tuple(torch.randn(PRODUCT_SIZE, PRODUCT_SIZE) for _ in range(2))
_PRODUCT = torch.empty(PRODUCT_SIZE, PRODUCT_SIZE)


def make_documents(
    num_tokens: int, interleaved_share: float, seed: int = 0, vocab_size: int = VOCAB_SIZE
) -> list[Document]:
    """Random documents of 200 to 800 tokens; interleaved ones have spans of 5 to 30 text tokens."""
    rng = np.random.default_rng(seed)
    documents: list[Document] = []
    interleaved = total = 0
    while total < num_tokens:
        size = min(int(rng.integers(200, 800)), num_tokens - total)
        modalities = np.full(size, TEXT, np.uint8)
        if interleaved <= interleaved_share * total:
            interleaved += size
            place = 1
            while place < size:
                text = int(rng.integers(5, 31))
                speech = round(text * SPEECH_SHARE / (1 - SPEECH_SHARE))
                modalities[place + text : place + text + speech] = SPEECH
                place += text + speech
        ids = rng.integers(0, vocab_size - NUM_UNITS, size)
        ids = np.where(modalities == SPEECH, vocab_size - NUM_UNITS + ids % NUM_UNITS, ids)
        documents.append(Document(str(len(documents)), ids.astype(np.int32), modalities))
        total += size
    return documents


def make_batch(documents: list[Document], strategy: str) -> PackedBatch:
    """A batch of one row that holds all documents."""
    pairs = list(zip(documents, patch_documents(documents, strategy, STATIC), strict=True))
    return pack_documents([pairs], sum(len(patches) for _, patches in pairs))


def training_step(model: LatentSpeechTextModel, batch: PackedBatch, compiled: bool = False) -> Callable[[], None]:
    """A function that trains one step on a batch: loss, gradients, AdamW."""
    # Fused, as in lst train.
    optimizer = build_adamw(model, 1e-4, 0.01, fused=True)
    # Dynamic, as in lst train: batches differ in shape.
    loss = torch.compile(model.loss, dynamic=True) if compiled else model.loss

    def step() -> None:
        optimizer.zero_grad()
        loss(batch).backward()
        optimizer.step()

    return step


def matrix_products(count: int) -> None:
    """Multiplies fixed square matrices ``count`` times."""
    for _ in range(count):
        torch.mm(*_FACTORS, out=_PRODUCT)


def bench_training(figures: Figures) -> None:
    """Times training steps with and without patches, compared with FLOPs and with bare matrix products."""
    documents = make_documents(NUM_TOKENS, INTERLEAVED_SHARE)
    batches = {"static-4": make_batch(documents, "static"), "unpatched": make_batch(documents, "none")}
    model = LatentSpeechTextModel(CONFIG, VOCAB_SIZE)
    flops = {
        name: model_flops(CONFIG, VOCAB_SIZE, workload_of_batch(batch, CONFIG)).training
        for name, batch in batches.items()
    }
    figures.add("tokens a patch, static-4", batches["static-4"].num_tokens / batches["static-4"].num_patches)
    # A step takes half a minute, a product a tenth of a second. So both the best single product and a long row of
    # products, in turns with the steps, are measured.
    steps = {name: training_step(model, batch) for name, batch in batches.items()}
    times_s = interleaved_best_s({**steps, "products": lambda: matrix_products(NUM_PRODUCTS)}, 2)
    sustained = NUM_PRODUCTS * 2 * PRODUCT_SIZE**3 / times_s.pop("products")
    peak = 2 * PRODUCT_SIZE**3 / min(best_s(lambda: matrix_products(1), 6) for _ in range(3))
    for name, seconds in times_s.items():
        figures.add(f"{name}: training tokens a second", NUM_TOKENS / seconds)
    gained, predicted = times_s["unpatched"] / times_s["static-4"], flops["unpatched"] / flops["static-4"]
    figures.add("static-4 over unpatched: tokens a second", gained)
    figures.add("static-4 over unpatched: predicted by flops.py", predicted)
    figures.add("share of the predicted gain that is reached", gained / predicted, 0.9)
    achieved = flops["static-4"] / times_s["static-4"]
    figures.add("static-4 training step, GFLOP/s", achieved / 1e9)
    figures.add("matrix products, best single one, GFLOP/s", peak / 1e9)
    figures.add("matrix products, sustained for seconds, GFLOP/s", sustained / 1e9)
    figures.add("step over the best single matrix product", achieved / peak, 0.6)
    figures.add("step over sustained matrix products", achieved / sustained)


def bench_compile(figures: Figures) -> None:
    """Measures the speed-up of ``torch.compile`` on the same step, and the time of its first step."""
    batch = make_batch(make_documents(NUM_TOKENS, INTERLEAVED_SHARE), "static")
    model = LatentSpeechTextModel(CONFIG, VOCAB_SIZE)
    step = training_step(model, batch, compiled=True)
    figures.add("torch.compile: first step, seconds", elapsed_s(step))
    times_s = interleaved_best_s({"eager": training_step(model, batch), "compiled": step}, 2)
    figures.add("torch.compile over eager: tokens a second", times_s["eager"] / times_s["compiled"])


def bench_memory(figures: Figures) -> None:
    """Measures peak memory of a training step, each vocabulary size in its own process."""
    peaks = {}
    for vocab_size in (VOCAB_SIZE, LARGE_VOCAB_SIZE):
        peaks[vocab_size] = measure_in_own_process("lst.recipes.benchmarks.model", vocab_size)
        figures.add(f"peak memory of a training step, V={vocab_size:,}, MB", peaks[vocab_size] / 1e6)
    ratio = peaks[LARGE_VOCAB_SIZE] / peaks[VOCAB_SIZE]
    figures.add("peak memory, large over small vocabulary", ratio, 1.5, at_most=True)


def step_memory(vocab_size: int) -> int:
    """Peak memory of this process, in bytes, after one training step."""
    batch = make_batch(make_documents(NUM_TOKENS, INTERLEAVED_SHARE), "static")
    training_step(LatentSpeechTextModel(CONFIG, vocab_size), batch)()
    return peak_memory_bytes()


def bench_packing(figures: Figures) -> None:
    """Times making batches of full rows from documents: patching, choosing the rows, packing."""
    documents = make_documents(400_000, 1.0)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    seconds = best_s(lambda: pack_all(documents), 5)
    figures.add("patching + filling rows + packing on one core, million tokens a second", 0.4 / seconds, 2.0)
    seconds = best_s(lambda: make_batch(documents, "static"), 5)
    figures.add("patching + packing without choosing rows, million tokens a second", 0.4 / seconds)
    torch.set_num_threads(threads)


def pack_all(documents: list[Document], num_rows: int = 4, row_patches: int = 4_096) -> int:
    """Packs all documents into batches from a buffer, as training does; returns the number of tokens packed."""
    waiting: list[tuple[Document, Patches]] = []
    num_tokens = place = 0
    while True:
        wanted = 2 * num_rows * row_patches
        size = sum(len(patches) for _, patches in waiting)
        new: list[Document] = []
        while place < len(documents) and size < wanted:
            new.append(documents[place])
            # An upper bound: a document has at most as many patches as tokens.
            size += len(documents[place])
            place += 1
        waiting += zip(new, patch_documents(new, "static", STATIC), strict=True)
        if not waiting:
            return num_tokens
        rows = fill_rows([min(len(patches), row_patches) for _, patches in waiting], row_patches, num_rows)
        batch = pack_documents([[waiting[index] for index in row] for row in rows], row_patches)
        num_tokens += batch.num_tokens
        taken = {index for row in rows for index in row}
        waiting = [pair for index, pair in enumerate(waiting) if index not in taken]


@torch.inference_mode()
def bench_generation(figures: Figures) -> None:
    """Times generation with caches and without, with given tokens; without caches, only every 25th length."""
    model = LatentSpeechTextModel(CONFIG, VOCAB_SIZE).eval()
    first_unit_id = VOCAB_SIZE - NUM_UNITS
    ids = np.random.default_rng(1).integers(first_unit_id, VOCAB_SIZE, GENERATED_UNITS + 2).astype(np.int32)
    modalities = np.full(len(ids), SPEECH, np.uint8)
    ids[:2], modalities[:2] = (0, 1), TEXT

    def head(length: int) -> Document:
        return Document("prefix", ids[:length], modalities[:length])

    def stepped() -> float:
        state = decoding_state(model, head(2), STATIC, first_unit_id)
        for place in range(2, len(ids)):
            state.step(ids[place : place + 1], modalities[place : place + 1])
        return float(state.logits.sum())

    def recomputed(length: int) -> torch.Tensor:
        hidden = model.hidden(make_batch([head(length)], "static"))
        return model.head(hidden[-1:])

    lengths = range(2, len(ids), RECOMPUTED_EVERY)
    slow_s = RECOMPUTED_EVERY * sum(best_s(partial(recomputed, length), 1) for length in lengths)
    fast_s = best_s(stepped, 2)
    figures.add("cached generation, units a second", GENERATED_UNITS / fast_s)
    figures.add(f"cached over recomputed generation of {GENERATED_UNITS:,} units", slow_s / fast_s, 20.0)


def main(arguments: list[str]) -> None:
    """Runs all benchmarks, or with ``--memory VOCAB_SIZE`` prints the result of ``step_memory``."""
    if arguments[:1] == ["--memory"]:
        keep_freed_memory()
        print(step_memory(int(arguments[1])))
        return
    torch.manual_seed(0)
    keep_freed_memory()
    figures = Figures("model")
    figures.add("threads", torch.get_num_threads())
    bench_packing(figures)
    bench_generation(figures)
    bench_memory(figures)
    bench_training(figures)
    # Written before the slow compilation too, in case that is stopped.
    figures.write()
    bench_compile(figures)
    figures.write()


if __name__ == "__main__":
    main(sys.argv[1:])
