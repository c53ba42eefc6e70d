"""Speed against the Llama of Hugging Face's transformers in the same shape, on this machine: ``make bench-train``.

Both have 6 layers of width 512 with 8 heads and 22.55 million parameters, and take 4 rows of 1,024 random tokens in
float32 with AdamW, on one thread. They take turns; a ratio is the median over pairs of turns. Seconds are the process's
own, so that other programs on the machine count less. Each allocator setting is measured in a process of its own:
glibc's default, and freed memory kept, as ``lst train`` has it. Then rows of up to 16,384 tokens in one document.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable

import numpy as np
import torch

from lst.errors import UserError
from lst.model.batch import TEXT, Document, PackedBatch, pack_documents
from lst.model.config import ModelConfig, PatchingConfig
from lst.model.lst import LatentSpeechTextModel
from lst.model.patching import patch_document
from lst.parallel import keep_freed_memory, peak_memory_bytes
from lst.recipes.benchmarks.figures import (
    Figures,
    elapsed_s,
    measure_in_own_process,
    run_in_own_process,
)
from lst.recipes.benchmarks.kernels import decoding_state
from lst.recipes.benchmarks.model import training_step

MODULE = "lst.recipes.benchmarks.training"
VOCAB_SIZE, NUM_ROWS, ROW_TOKENS = 2_048, 4, 1_024
BASELINE = ModelConfig(
    global_dim=512, global_layers=6, global_heads=8, encoder_layers=0, decoder_layers=0, ffn_multiple_of=256
)
UNPATCHED = PatchingConfig("none")
PROMPT_TOKENS, GENERATED_TOKENS, NUM_TURNS = 32, 128, 5
TARGETS = {"training step": 1.15, "forward": 1.15, "cached generation": 2.5}
ALLOCATORS = ("default", "kept")
# Long documents: a small model, because memory and time of attention grow with the square of the length.
LONG_LENGTHS = (4_096, 16_384)
LONG = ModelConfig(
    global_dim=256, global_layers=4, global_heads=4, encoder_layers=0, decoder_layers=0, max_patches=LONG_LENGTHS[-1]
)
LONG_MIXERS = {"attention": ["attention"], "hybrid": ["h3_hybrid"]}

Calls = dict[str, Callable[[], object]]


def random_batch(num_rows: int, row_tokens: int) -> PackedBatch:
    """Rows of one unpatched document each, with random ids."""
    ids = np.random.default_rng(0).integers(0, VOCAB_SIZE, (num_rows, row_tokens)).astype(np.int32)
    documents = [Document(str(row), ids[row], np.full(row_tokens, TEXT, np.uint8)) for row in range(num_rows)]
    rows = [[(document, patch_document(document, "none", UNPATCHED))] for document in documents]
    return pack_documents(rows, row_tokens)


def our_calls() -> Calls:
    """What is timed of our baseline."""
    model, batch = LatentSpeechTextModel(BASELINE, VOCAB_SIZE), random_batch(NUM_ROWS, ROW_TOKENS)
    prompt = Document("prompt", np.arange(PROMPT_TOKENS, dtype=np.int32), np.full(PROMPT_TOKENS, TEXT, np.uint8))

    @torch.inference_mode()
    def generate() -> None:
        state = decoding_state(model, prompt, UNPATCHED, VOCAB_SIZE)
        for _ in range(GENERATED_TOKENS):
            state.step(state.logits.argmax(dim=-1).numpy(), np.array([TEXT]))

    def forward() -> None:
        with torch.no_grad():
            model.loss(batch)

    return {"training step": training_step(model, batch), "forward": forward, "cached generation": generate}


def their_calls() -> Calls:
    """The same of transformers' Llama.

    Raises:
        UserError: transformers is not installed.
    """
    try:
        from transformers import LlamaConfig, LlamaForCausalLM
    except ImportError:
        raise UserError("make bench-train compares with transformers: pip install 'lst[bench]'") from None
    shape = LlamaConfig(
        vocab_size=VOCAB_SIZE,
        hidden_size=BASELINE.global_dim,
        intermediate_size=BASELINE.backbone_ffn_dim,
        num_hidden_layers=BASELINE.global_layers,
        num_attention_heads=BASELINE.global_heads,
        max_position_embeddings=BASELINE.max_patches,
    )
    model = LlamaForCausalLM(shape)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    ids = random_batch(NUM_ROWS, ROW_TOKENS).token_ids.view(NUM_ROWS, ROW_TOKENS)
    prompt = torch.arange(PROMPT_TOKENS)[None]

    def step() -> None:
        optimizer.zero_grad()
        model(input_ids=ids, labels=ids, use_cache=False).loss.backward()
        optimizer.step()

    def forward() -> None:
        with torch.no_grad():
            model(input_ids=ids, labels=ids, use_cache=False)

    @torch.inference_mode()
    def generate() -> None:
        found = model(input_ids=prompt, use_cache=True)
        for _ in range(GENERATED_TOKENS):
            token = found.logits[:, -1:].argmax(dim=-1)
            found = model(input_ids=token, past_key_values=found.past_key_values, use_cache=True)

    return {"training step": step, "forward": forward, "cached generation": generate}


def compare(num_turns: int) -> dict[str, tuple[float, float, float]]:
    """Median seconds of ours and theirs, and the median ratio of a turn of theirs to ours, of each call."""
    torch.manual_seed(0)
    ours, theirs = our_calls(), their_calls()
    found = {}
    for name in ours:
        ours[name](), theirs[name]()
        turns = [[elapsed_s(calls[name], time.process_time) for calls in (ours, theirs)] for _ in range(num_turns)]
        medians = [statistics.median(column) for column in zip(*turns, strict=True)]
        found[name] = (medians[0], medians[1], statistics.median(b / a for a, b in turns))
    return found


def bench_peer(figures: Figures, num_turns: int) -> None:
    """Measures both models under both settings of the allocator; targets are those of freed memory kept."""
    for allocator in ALLOCATORS:
        found = run_in_own_process(MODULE, "--compare", allocator, num_turns)
        for name, (ours_s, theirs_s, ratio) in found.items():
            figures.add(f"{name}, allocator {allocator}: ours, ms", 1e3 * ours_s)
            figures.add(f"{name}, allocator {allocator}: transformers, ms", 1e3 * theirs_s)
            target = TARGETS[name] if allocator == "kept" else None
            figures.add(f"{name}, allocator {allocator}: times faster than transformers", ratio, target)


def long_step(kind: str, length: int) -> Callable[[], None]:
    """A training step on one document of a length."""
    config = ModelConfig(**{**vars(LONG), "global_mixers": LONG_MIXERS[kind]})
    return training_step(LatentSpeechTextModel(config, VOCAB_SIZE), random_batch(1, length))


def bench_long(figures: Figures) -> None:
    """Measures how step time and peak memory grow with the length of a document, with attention and in the hybrid."""
    for kind in LONG_MIXERS:
        times_s, memory = [], []
        for length in LONG_LENGTHS:
            step = long_step(kind, length)
            step()
            times_s.append(elapsed_s(step, time.process_time))
            memory.append(measure_in_own_process(MODULE, kind, length))
            figures.add(f"{kind}, a document of {length:,}: training step, ms", 1e3 * times_s[-1])
            figures.add(f"{kind}, a document of {length:,}: peak memory, MB", memory[-1] / 1e6)
        times = LONG_LENGTHS[-1] // LONG_LENGTHS[0]
        figures.add(f"{kind}, {times} times the length: times the step", times_s[-1] / times_s[0])
        figures.add(f"{kind}, {times} times the length: times the memory", memory[-1] / memory[0])


def main(arguments: list[str]) -> None:
    """Runs all; ``--turns N`` sets the turns of a comparison. Other arguments are of the processes that it starts."""
    torch.set_num_threads(1)
    if arguments[:1] == ["--compare"]:
        if arguments[1] == "kept":
            keep_freed_memory()
        print(json.dumps(compare(int(arguments[2]))))
        return
    if arguments[:1] == ["--memory"]:
        long_step(arguments[1], int(arguments[2]))()
        print(peak_memory_bytes())
        return
    num_turns = int(arguments[1]) if arguments[:1] == ["--turns"] else NUM_TURNS
    keep_freed_memory()
    figures = Figures("train")
    bench_peer(figures, num_turns)
    figures.write()
    bench_long(figures)
    figures.write()


if __name__ == "__main__":
    main(sys.argv[1:])
