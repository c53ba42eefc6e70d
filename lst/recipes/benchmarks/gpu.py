"""Speed of the kernels on a CUDA GPU, compared with their references: ``make bench-gpu``.

Each case is timed on the GPU's fast path and on a plain path (the reference; for the SSM, the FFT of its whole kernel),
in ms and in two ways. ``alone`` is the median of single calls between CUDA events with an empty cache: short kernels
wait for the host. ``queued`` calls are issued while the GPU is busy, as when a large model trains: this is the time of
the GPU itself. Then come training steps of the published sizes: bfloat16 with float32 weights, AdamW, rows of 4,096
patches of random ids, a third of them in interleaved documents. Without a GPU, the exit status is 2.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from typing import NamedTuple

import torch

from lst.configs.compose import build_config
from lst.kernels import attention, fftconv, fir, ssm
from lst.model.batch import Document, PackedBatch, Patches, pack_documents
from lst.model.config import ModelConfig
from lst.model.flops import model_flops, workload_of_batch
from lst.model.lst import LatentSpeechTextModel
from lst.model.optimiser import build_adamw
from lst.model.patching import patch_documents
from lst.recipes.benchmarks.figures import Figures
from lst.recipes.benchmarks.kernels import draw_parameters, state_passing
from lst.recipes.benchmarks.model import INTERLEAVED_SHARE, STATIC, make_documents

CONVOLUTION_LENGTHS = (256, 512, 1024, 2048, 4096, 8192)
CONVOLUTION_BATCH, CONVOLUTION_CHANNELS = 4, 768
SSM_LENGTHS, NUM_TAPS = (1024, 4096, 16_384), 64
# The reference needs a mask of all pairs of tokens, which limits the sizes.
ATTENTION_TOKENS, ATTENTION_HEADS, ATTENTION_HEAD_DIM, ATTENTION_WINDOW = (1024, 4096), 8, 64, 512
# As in the published 1B: joint vocabulary, patches a row, rows a GPU.
VOCAB_SIZE, ROW_PATCHES, NUM_ROWS = 32_508, 4_096, 4
MODEL_NAMES = ("lst_420m", "baseline_420m", "lst_1b", "lst_1b_h3")
WARMUP_STEPS, TIMED_STEPS = 3, 8
# Queued calls, and the cycles (about 50 ms) that the GPU waits before them: the host needs less time to issue them.
QUEUED_CALLS, WAIT_CYCLES = 5, 90_000_000

Timer = Callable[[Callable[[], object]], float]


class Case(NamedTuple):
    """A call to time.

    Attributes:
        name: for the figures.
        function, inputs: the call is ``function(*inputs)``.
        forced_path: context manager of the kernel that selects a path by name.
        plain, fast: the paths that are compared.
    """

    name: str
    function: Callable[..., torch.Tensor]
    inputs: tuple[torch.Tensor, ...]
    forced_path: Callable[[str], AbstractContextManager[None]]
    plain: str = "reference"
    fast: str = "triton"


def convolution_cases(device: torch.device) -> Iterator[Case]:
    """Gated long convolution as in H3, with a float32 kernel as long as the sequence."""
    for dtype in (torch.float32, torch.bfloat16):
        for length in CONVOLUTION_LENGTHS:
            shape = (CONVOLUTION_BATCH, CONVOLUTION_CHANNELS, length)
            u, pre, post = (torch.randn(shape, device=device, dtype=dtype) for _ in range(3))
            kernel = torch.randn(CONVOLUTION_CHANNELS, length, device=device) / length**0.5
            skip = torch.randn(CONVOLUTION_CHANNELS, device=device)
            name = f"convolution, length {length}, {_short(dtype)}"
            inputs = (u, kernel, skip, pre, post)
            fast = fftconv.fftconv_path(device, length)
            yield Case(name, fftconv.fft_convolution, inputs, fftconv.forced_path, fast=fast)


def attention_cases(device: torch.device) -> Iterator[Case]:
    """Causal attention with a window, over one document."""
    for dtype in (torch.float32, torch.bfloat16):
        for num_tokens in ATTENTION_TOKENS:
            shape = (num_tokens, ATTENTION_HEADS, ATTENTION_HEAD_DIM)
            query, key, value = (torch.randn(shape, device=device, dtype=dtype) for _ in range(3))
            last_key = torch.arange(num_tokens, device=device)
            first_key = (last_key - ATTENTION_WINDOW + 1).clamp(min=0)
            name = f"attention, {num_tokens} tokens, {_short(dtype)}"
            inputs = (query, key, value, first_key, last_key)
            yield Case(name, attention.interval_attention, inputs, attention.forced_path)


def ssm_cases(device: torch.device) -> Iterator[Case]:
    """The diagonal SSM with H3's initial weights over documents of equal length, and its short convolution."""
    decay, readout, skip = (x.to(device) for x in draw_parameters(CONVOLUTION_CHANNELS))
    for dtype in (torch.float32, torch.bfloat16):
        for length in SSM_LENGTHS:
            starts = torch.arange(CONVOLUTION_BATCH + 1, device=device) * length
            shape = (CONVOLUTION_BATCH * length, CONVOLUTION_CHANNELS)
            u = torch.randn(shape, device=device, dtype=dtype)
            name, inputs = f"SSM, length {length}, {_short(dtype)}", (u, decay, readout, skip)
            yield Case(name, partial(state_passing, starts=starts), inputs, ssm.forced_path, "convolution")
        taps = torch.randn(CONVOLUTION_CHANNELS, NUM_TAPS, device=device)
        convolve = partial(fir.short_convolution, starts=starts)
        yield Case(f"short convolution, {_short(dtype)}", convolve, (u, taps), fir.forced_path, "blocked")


# One entry a kernel.
CASES: tuple[Callable[[torch.device], Iterator[Case]], ...] = (convolution_cases, ssm_cases, attention_cases)


def forward(case: Case) -> Callable[[], object]:
    """The call without gradients."""
    return partial(torch.no_grad()(case.function), *case.inputs)


def forward_and_backward(case: Case) -> Callable[[], object]:
    """The call with the gradients of all its real and complex inputs."""
    inputs = [x.detach().requires_grad_(x.is_floating_point() or x.is_complex()) for x in case.inputs]
    leaves = [x for x in inputs if x.requires_grad]
    with torch.no_grad():
        weight = torch.randn_like(case.function(*inputs))
    return lambda: torch.autograd.grad(case.function(*inputs), leaves, weight)


def queued_ms(call: Callable[[], object]) -> float:
    """A call's time on the GPU, in ms, if the host issues it before the GPU is ready for it."""
    call()
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda._sleep(WAIT_CYCLES)
    begin.record()
    for _ in range(QUEUED_CALLS):
        call()
    end.record()
    torch.cuda.synchronize()
    return begin.elapsed_time(end) / QUEUED_CALLS


def time_case(case: Case, timers: dict[str, Timer], figures: Figures) -> None:
    """Times both paths, forward and forward with backward, with each timer."""
    for what, prepare in (("forward", forward), ("forward+backward", forward_and_backward)):
        times_ms = {}
        for path in (case.fast, case.plain):
            with case.forced_path(path):
                call = prepare(case)
                for way, timer in timers.items():
                    times_ms[path, way] = timer(call)
                    figures.add(f"{case.name}, {what}, {way}, {path}, ms", times_ms[path, way])
        for way in timers:
            ratio = times_ms[case.plain, way] / times_ms[case.fast, way]
            figures.add(f"{case.name}, {what}, {way}, times faster", ratio, target=1.0)


def time_training(name: str, device: torch.device, figures: Figures) -> None:
    """Times training steps of one model on one batch of full rows; on fewer rows if they do not fit in memory."""
    config, strategy = model_of(name)
    for num_rows in (NUM_ROWS, NUM_ROWS // 2, NUM_ROWS // 4):
        batch = full_rows(num_rows, strategy, ROW_PATCHES)
        try:
            seconds, peak_bytes = _step_s_and_bytes(config, batch.to(device))
        except torch.cuda.OutOfMemoryError:
            continue
        label = f"{name}, {num_rows} × {ROW_PATCHES:,} patches: training"
        flops = model_flops(config, VOCAB_SIZE, workload_of_batch(batch, config)).training
        figures.add(f"{label}, patches a second", batch.num_patches / seconds)
        figures.add(f"{label}, tokens a second", batch.num_tokens / seconds)
        figures.add(f"{label}, TFLOP/s of what it needs", flops / seconds / 1e12)
        figures.add(f"{label}, peak memory, GB", peak_bytes / 1e9)
        return
    print(f"{name}: a row of {ROW_PATCHES:,} patches does not fit into this GPU's memory")


def model_of(name: str) -> tuple[ModelConfig, str]:
    """The configuration of a model, and its patching strategy."""
    strategy = "none" if name.startswith("baseline") else "static"
    return build_config([f"model={name}", f"patching={strategy}"]).model, strategy


def full_rows(num_rows: int, strategy: str, row_patches: int) -> PackedBatch:
    """A batch of random documents; each row ends before the first document that does not fit."""
    # A patch has at most four tokens.
    documents = make_documents(4 * num_rows * row_patches, INTERLEAVED_SHARE, vocab_size=VOCAB_SIZE)
    waiting = list(zip(documents, patch_documents(documents, strategy, STATIC), strict=True))
    rows: list[list[tuple[Document, Patches]]] = []
    for _ in range(num_rows):
        row: list[tuple[Document, Patches]] = []
        room = row_patches
        while room and len(waiting[0][1]) <= room:
            row.append(waiting.pop(0))
            room -= len(row[-1][1])
        rows.append(row)
    return pack_documents(rows, row_patches)


def _step_s_and_bytes(config: ModelConfig, batch: PackedBatch) -> tuple[float, int]:
    """Median seconds of a training step, and the peak of the GPU's memory."""
    device = batch.token_ids.device
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats() if device.type == "cuda" else None
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    model = LatentSpeechTextModel(config, VOCAB_SIZE).to(device)
    optimiser = build_adamw(model, 1e-4, 0.1, (0.9, 0.95))
    times_s = []
    for _ in range(WARMUP_STEPS + TIMED_STEPS):
        wait()
        started_s = time.perf_counter()
        optimiser.zero_grad()
        with torch.autocast(device.type, torch.bfloat16):
            loss = model.loss(batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        wait()
        times_s.append(time.perf_counter() - started_s)
    return statistics.median(times_s[WARMUP_STEPS:]), torch.cuda.max_memory_allocated()


def main() -> int:
    """Runs the benchmark on the current GPU; 2 without a GPU."""
    if not torch.cuda.is_available():
        print("bench-gpu needs a CUDA GPU, and PyTorch finds none here", file=sys.stderr)
        return 2
    from triton.testing import do_bench

    device = torch.device("cuda", torch.cuda.current_device())
    print(f"{torch.cuda.get_device_name(device)}, PyTorch {torch.__version__}")
    alone = partial(do_bench, warmup=10, rep=50, return_mode="median")
    measure(device, {"alone": alone, "queued": queued_ms}, Figures("gpu"))
    return 0


def measure(device: torch.device, timers: dict[str, Timer], figures: Figures) -> None:
    """Times every case, then training steps of every model; writes the figures after each model."""
    for cases in CASES:
        for case in cases(device):
            time_case(case, timers, figures)
    figures.write()
    for name in MODEL_NAMES:
        time_training(name, device, figures)
        # Written now: a later failure must not lose these figures.
        figures.write()


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


if __name__ == "__main__":
    sys.exit(main())
