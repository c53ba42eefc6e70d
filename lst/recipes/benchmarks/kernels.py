"""Speed and memory of the state-space kernels on this machine's CPU: ``make bench-kernels``.

Four documents, 256 channels, 32 modes (a state of 64), float32. The state-passing kernel against two long convolutions
that do the same: one plain FFT of twice the length over everything, and FFTs of a few channels at a time. Each is given
the layout that suits it. Forward, the convolutions get their kernel ready made, the SSM only its parameters; forward
and backward, all lead back to the parameters. What is compared is timed in turns within this run, on one thread and on
two, whatever number of cores there is; generation and mixing take two.
"""

from __future__ import annotations

import ctypes
import io
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lst.kernels.fftconv import fft_convolution
from lst.kernels.fftconv.reference import fft_convolution_reference
from lst.kernels.h3 import h3_mix
from lst.kernels.ssm import diagonal_ssm, forced_path, ssm_path
from lst.kernels.ssm.kernels import ssm_kernel
from lst.model.batch import TEXT, Document
from lst.model.config import ModelConfig, PatchingConfig
from lst.model.inference import DecodingState, PatchStepper
from lst.model.lst import LatentSpeechTextModel
from lst.model.patching import patch_document
from lst.model.state_space import DiagonalSSM
from lst.parallel import keep_freed_memory
from lst.recipes.benchmarks.figures import Figures, interleaved_best_s, peak_memory_bytes
from lst.storage import write_text

NUM_DOCUMENTS, NUM_CHANNELS, NUM_MODES = 4, 256, 32
LENGTHS = (256, 1024, 4096, 16_384, 65_536)
NUM_THREADS = (1, 2)
METHODS = ("state passing", "plain rfft", "blocked rfft")
# (of, method, length) → how many times faster state passing is wanted to be.
TARGETS = {
    ("forward", "plain rfft"): (2.0, 3.5, 4.5),
    ("forward+backward", "plain rfft"): (2.0, 5.0, 5.0),
    ("forward", "blocked rfft"): (2.0, 2.0, 2.2),
    ("forward+backward", "blocked rfft"): (1.5, 2.0, 2.2),
}
TARGET_LENGTHS = (1024, 4096, 16_384)
PROMPTS = (1024, 4096, 16_384)
GENERATED_TOKENS, VOCAB_SIZE = 32, 1024
# A Transformer's size; the hybrid differs from it in its mixers alone.
TRANSFORMER = ModelConfig(
    global_dim=512,
    global_layers=8,
    global_heads=8,
    encoder_layers=0,
    decoder_layers=0,
    max_patches=32_768,
    positions="none",
    norm="layer",
    ffn="gelu",
)

Times = dict[tuple[str, str, int], float]


def draw_parameters(num_heads: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Decay and readout (complex128 [H, Z]) and skip [H], as H3 starts."""
    ssm = DiagonalSSM(num_heads, NUM_MODES, "bilinear").requires_grad_(False)
    ssm.draw_parameters(torch.Generator().manual_seed(seed))
    return *ssm.discretised(), ssm.skip


class Problem:
    """One length's inputs, and the calls that are timed."""

    def __init__(self, length: int) -> None:
        self.length = length
        self.decay, self.readout, self.skip = draw_parameters(NUM_CHANNELS)
        self.u_NC = torch.randn(NUM_DOCUMENTS * length, NUM_CHANNELS)
        self.weight_NC = torch.randn_like(self.u_NC)
        self.starts = torch.arange(NUM_DOCUMENTS + 1) * length
        by_channel = (NUM_DOCUMENTS, length, NUM_CHANNELS)
        self.u_BHL = self.u_NC.view(by_channel).transpose(1, 2).contiguous()
        self.weight_BHL = self.weight_NC.view(by_channel).transpose(1, 2).contiguous()
        self.kernel_HL = ssm_kernel(self.decay, self.readout, length).float()

    def forward(self, method: str) -> torch.Tensor:
        if method == "state passing":
            out = diagonal_ssm(self.u_NC, self.decay, self.readout, self.skip, starts=self.starts)
            assert isinstance(out, torch.Tensor)
            return out
        convolve = fft_convolution_reference if method == "plain rfft" else fft_convolution
        return convolve(self.u_BHL, self.kernel_HL, self.skip)

    def forward_backward(self, method: str) -> tuple[torch.Tensor, ...]:
        leaves = [x.detach().requires_grad_() for x in (self.decay, self.readout, self.skip)]
        u = (self.u_NC if method == "state passing" else self.u_BHL).detach().requires_grad_()
        if method == "state passing":
            out = diagonal_ssm(u, *leaves, starts=self.starts)
            assert isinstance(out, torch.Tensor)
            return torch.autograd.grad(out, [u, *leaves], self.weight_NC)
        convolve = fft_convolution_reference if method == "plain rfft" else fft_convolution
        kernel = ssm_kernel(leaves[0], leaves[1], self.length).float()
        return torch.autograd.grad(convolve(u, kernel, leaves[2]), [u, *leaves], self.weight_BHL)


def bench_speed(figures: Figures, num_threads: int) -> Times:
    """Times an element, in ns, and ratios with their targets."""
    torch.set_num_threads(num_threads)
    times: Times = {}
    for length in LENGTHS:
        problem = Problem(length)
        repeats = max(3, min(12, (1 << 17) // length))
        for what, call in (("forward", problem.forward), ("forward+backward", problem.forward_backward)):
            calls: dict[str, Callable[[], Any]] = {method: partial(call, method) for method in METHODS}
            for method, seconds in interleaved_best_s(calls, repeats).items():
                times[what, method, length] = seconds / problem.u_NC.numel() * 1e9
                name = f"{what}, {method}, length {length}, {num_threads} thread(s): ns an element"
                figures.add(name, times[what, method, length])
    for (what, method), wanted in TARGETS.items():
        for length in LENGTHS:
            ratio = times[what, method, length] / times[what, "state passing", length]
            target = wanted[TARGET_LENGTHS.index(length)] if length in TARGET_LENGTHS else None
            figures.add(f"{what}, {num_threads} thread(s), length {length}: times faster than {method}", ratio, target)
    for what in ("forward", "forward+backward"):
        long = [times[what, "state passing", length] for length in LENGTHS if length >= 4096]
        name = f"{what}, {num_threads} thread(s): slowest over fastest time an element, 4,096 to 65,536"
        figures.add(name, max(long) / min(long), 1.15, at_most=True)
    return times


def extra_memory(method: str, length: int) -> float:
    """Peak of forward and backward beyond inputs, output and gradient of the input, as a multiple of the input."""
    problem = Problem(length)
    small = Problem(16)
    # What libraries set up once is not the method's.
    small.forward_backward(method)
    size = problem.u_NC.numel() * 4
    # Freed memory goes back to the system, and what is left below the peak is filled, so that all that is taken shows.
    ctypes.CDLL(None).malloc_trim(0)
    before = peak_memory_bytes()
    current = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    held = torch.ones(max(before - current, 0) // 4)
    problem.forward_backward(method)
    grown = peak_memory_bytes() - before
    del held
    return max(grown - 2 * size, 0) / size


def bench_memory(figures: Figures) -> None:
    """Each in a process of its own, whose peak is its own."""
    for length in LENGTHS:
        for method in METHODS[:2]:
            command = [sys.executable, "-m", "lst.recipes.benchmarks.kernels", "--memory", method, str(length)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            target = 2.0 if method == "state passing" else None
            name = f"extra memory of forward+backward, {method}, length {length}: multiples of the input"
            figures.add(name, json.loads(done.stdout), target, at_most=True)


def decoding_state(model: LatentSpeechTextModel, num_tokens: int) -> DecodingState:
    """A state after a prompt of random tokens."""
    ids = np.random.default_rng(0).integers(0, VOCAB_SIZE, num_tokens).astype(np.int32)
    prompt = Document("prompt", ids, np.full(num_tokens, TEXT, np.uint8))
    patching = PatchingConfig("none")
    patches = patch_document(prompt, "none", patching)
    stepper = PatchStepper(patching, VOCAB_SIZE)
    stepper.begin(prompt, patches)
    return DecodingState(model, [prompt], [patches], [stepper])


@torch.inference_mode()
def bench_generation(figures: Figures) -> None:
    """Tokens a second after prompts of several lengths; hybrid and Transformer differ in their mixers alone."""
    kinds = {"transformer": ["attention"], "hybrid": ["h3_hybrid"], "h3": ["h3"]}
    speeds: dict[tuple[str, int], float] = {}
    sizes: dict[tuple[str, int], int] = {}
    for prompt in PROMPTS:
        states = {}
        for kind, mixers in kinds.items():
            config = ModelConfig(**{**vars(TRANSFORMER), "global_mixers": mixers})
            model = LatentSpeechTextModel(config, VOCAB_SIZE).eval()
            started_s = time.perf_counter()
            states[kind] = decoding_state(model, prompt)
            figures.add(f"{kind}: prompt of {prompt}, tokens a second", prompt / (time.perf_counter() - started_s))
            keys = [cache.key for caches in states[kind].caches.values() for cache in caches if cache.key is not None]
            held = [x for layer in states[kind].states for x in layer.state]
            sizes[kind, prompt] = 2 * sum(x.nbytes for x in keys) + sum(x.nbytes for x in held)

        def generate(state: DecodingState) -> None:
            for _ in range(GENERATED_TOKENS):
                state.step(np.array([1]), np.array([TEXT]))

        calls: dict[str, Callable[[], Any]] = {kind: partial(generate, state) for kind, state in states.items()}
        for kind, seconds in interleaved_best_s(calls, 3).items():
            speeds[kind, prompt] = GENERATED_TOKENS / seconds
            figures.add(f"{kind}: generation after {prompt}, tokens a second", speeds[kind, prompt])
            figures.add(f"{kind}: cache after {prompt}, MB", sizes[kind, prompt] / 1e6)
        figures.add(
            f"hybrid over transformer, generation after {prompt}",
            speeds["hybrid", prompt] / speeds["transformer", prompt],
        )
    steps = [1 / speeds["h3", prompt] for prompt in PROMPTS]
    figures.add(
        "h3: slowest over fastest step, prompts of 1,024 to 16,384", max(steps) / min(steps), 1.15, at_most=True
    )
    grown = sizes["h3", PROMPTS[-1]] / sizes["h3", PROMPTS[0]]
    figures.add("h3: state after 16,384 over state after 1,024", grown, 1.0, at_most=True)


def bench_mixer(figures: Figures) -> None:
    """The whole H3 mixing, compiled in one pass or put together of two operators, on documents of many lengths."""
    decay, readout, skip = draw_parameters(NUM_CHANNELS)
    lengths = np.random.default_rng(0).integers(20, 800, 40)
    starts = torch.from_numpy(np.append(0, lengths.cumsum()))
    tokens = [torch.randn(int(starts[-1]), NUM_CHANNELS).requires_grad_() for _ in range(3)]
    taps = torch.randn(NUM_CHANNELS, 64)
    weight = torch.randn_like(tokens[0])

    def call(path: str) -> None:
        with forced_path(path):
            out, _ = h3_mix(tokens[0], tokens[1], tokens[2], taps, decay, readout, skip, starts=starts)
            torch.autograd.grad(out, tokens, weight)

    paths = [path for path in ("native", "matrix", "convolution") if path != "native" or ssm_path(taps.device) == path]
    found = interleaved_best_s({path: partial(call, path) for path in paths}, 4)
    for path, seconds in found.items():
        figures.add(
            f"H3 mixing, ragged documents, forward+backward, {path}: ns an element", seconds / weight.numel() * 1e9
        )


def plot(times: dict[int, Times]) -> str:
    """Time an element against the length, as an SVG file."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    for side, what in zip(axes, ("forward", "forward+backward"), strict=True):
        for method, marker in zip(METHODS, ("o", "s", "D"), strict=True):
            for num_threads, line in zip(times, ("-", "--"), strict=False):
                values = [times[num_threads][what, method, length] for length in LENGTHS]
                side.loglog(LENGTHS, values, line, marker=marker, label=f"{method}, {num_threads} thread(s)", base=2)
        side.set_title(what)
        side.set_xlabel("length")
        side.grid(alpha=0.3)
    axes[0].set_ylabel("ns an element")
    axes[0].legend(fontsize=7)
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def thread_counts() -> list[int]:
    """Those of ``NUM_THREADS`` that this process has cores for, whatever OMP_NUM_THREADS says."""
    has_affinity = hasattr(os, "sched_getaffinity")
    num_cores = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
    return [count for count in NUM_THREADS if count <= num_cores]


def main(arguments: list[str]) -> None:
    counts = thread_counts()
    torch.set_num_threads(counts[-1])
    if arguments[:1] == ["--memory"]:
        print(json.dumps(extra_memory(arguments[1], int(arguments[2]))))
        return
    keep_freed_memory()
    torch.manual_seed(0)
    figures = Figures("kernels")
    if counts != list(NUM_THREADS):
        print("this machine has one core: nothing is measured on two threads")
    print(f"path of the diagonal SSM: {ssm_path(torch.device('cpu'))}")
    bench_memory(figures)
    times = {num_threads: bench_speed(figures, num_threads) for num_threads in counts}
    write_text(figures.path.with_name("kernels.svg"), plot(times))
    torch.set_num_threads(counts[-1])
    bench_mixer(figures)
    bench_generation(figures)
    figures.write()


if __name__ == "__main__":
    main(sys.argv[1:])
