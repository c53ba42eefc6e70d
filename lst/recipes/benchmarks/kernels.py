"""Speed and memory of the state-space kernels on this machine's CPU: ``make bench-kernels``.

Four documents, 256 channels, 32 modes (a state of 64), float32. The state-passing kernel is compared with two long
convolutions that compute the same: one FFT of twice the length over everything, and FFTs of a few channels at a time.
Each gets its best layout. Forward, the convolutions get a ready kernel, the SSM only its parameters; backward, all give
gradients of the parameters. Alternatives are timed in turns, on one thread and on two; generation and mixing use two.
"""

from __future__ import annotations

import ctypes
import io
import json
import os
import sys
import time
from functools import partial

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
from lst.parallel import keep_freed_memory, peak_memory_bytes
from lst.recipes.benchmarks.figures import (
    Figures,
    interleaved_best_s,
    measure_in_own_process,
    resident_bytes,
)
from lst.storage import write_text

NUM_DOCUMENTS, NUM_CHANNELS, NUM_MODES = 4, 256, 32
LENGTHS = (256, 1024, 4096, 16_384, 65_536)
NUM_THREADS = (1, 2)
METHODS = ("state passing", "plain rfft", "blocked rfft")
# Freed memory is kept, which the FFTs gain most from; LST_KEEP_FREED_MEMORY=0 measures with glibc's default.
# (direction, method) → wanted speed-up of state passing at each of TARGET_LENGTHS.
TARGETS = {
    ("forward", "plain rfft"): (2.5, 3.0, 3.0),
    ("forward+backward", "plain rfft"): (4.0, 4.0, 4.0),
    ("forward", "blocked rfft"): (2.0, 2.0, 2.2),
    ("forward+backward", "blocked rfft"): (1.5, 2.0, 2.2),
}
TARGET_LENGTHS = (1024, 4096, 16_384)
PROMPTS = (1024, 4096, 16_384)
GENERATED_TOKENS, VOCAB_SIZE = 32, 1024
# The Transformer; the hybrid differs from it in its mixers only.
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
    """Initial parameters of H3: decay and readout (complex128 [H, Z]) and skip [H]."""
    ssm = DiagonalSSM(num_heads, NUM_MODES, "bilinear").requires_grad_(False)
    ssm.draw_parameters(torch.Generator().manual_seed(seed))
    return *ssm.discretised(), ssm.skip


def state_passing(
    u_NC: torch.Tensor, decay: torch.Tensor, readout: torch.Tensor, skip: torch.Tensor, starts: torch.Tensor
) -> torch.Tensor:
    """The diagonal SSM of documents that begin at ``starts``, without their final states: [N, C]."""
    out = diagonal_ssm(u_NC, decay, readout, skip, starts=starts)
    assert isinstance(out, torch.Tensor)
    return out


class Problem:
    """The inputs of one length, and the calls to time."""

    def __init__(self, length: int) -> None:
        self.length = length
        self.parameters = draw_parameters(NUM_CHANNELS)
        self.u_NC = torch.randn(NUM_DOCUMENTS * length, NUM_CHANNELS)
        self.weight_NC = torch.randn_like(self.u_NC)
        self.starts = torch.arange(NUM_DOCUMENTS + 1) * length
        by_channel = (NUM_DOCUMENTS, length, NUM_CHANNELS)
        self.u_BHL = self.u_NC.view(by_channel).transpose(1, 2).contiguous()
        self.weight_BHL = self.weight_NC.view(by_channel).transpose(1, 2).contiguous()
        self.kernel_HL = ssm_kernel(*self.parameters[:2], length).float()

    def forward(self, method: str) -> torch.Tensor:
        """The output, [N, C] of state passing, [B, H, L] of the convolutions."""
        if method == "state passing":
            return state_passing(self.u_NC, *self.parameters, starts=self.starts)
        convolve = fft_convolution_reference if method == "plain rfft" else fft_convolution
        return convolve(self.u_BHL, self.kernel_HL, self.parameters[2])

    def forward_backward(self, method: str) -> tuple[torch.Tensor, ...]:
        """The gradients of the input, decay, readout and skip."""
        decay, readout, skip = leaves = [x.detach().requires_grad_() for x in self.parameters]
        if method == "state passing":
            u, weight = self.u_NC.detach().requires_grad_(), self.weight_NC
            out = state_passing(u, decay, readout, skip, self.starts)
        else:
            u, weight = self.u_BHL.detach().requires_grad_(), self.weight_BHL
            convolve = fft_convolution_reference if method == "plain rfft" else fft_convolution
            out = convolve(u, ssm_kernel(decay, readout, self.length).float(), skip)
        return torch.autograd.grad(out, [u, *leaves], weight)


def bench_speed(figures: Figures, num_threads: int) -> Times:
    """Measures ns an element, and speed-ups with their targets."""
    torch.set_num_threads(num_threads)
    times: Times = {}
    for length in LENGTHS:
        problem = Problem(length)
        repeats = max(3, min(12, (1 << 17) // length))
        for what, call in (("forward", problem.forward), ("forward+backward", problem.forward_backward)):
            calls = {method: partial(call, method) for method in METHODS}
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
    """Peak memory of forward and backward without inputs, output and input's gradient, in multiples of the input."""
    problem = Problem(length)
    small = Problem(16)
    # A first call: memory that libraries allocate once does not count.
    small.forward_backward(method)
    size = problem.u_NC.numel() * 4
    # Return freed memory to the system and fill the memory below the peak, so that every new allocation shows.
    ctypes.CDLL(None).malloc_trim(0)
    before = peak_memory_bytes()
    held = torch.ones(max(before - resident_bytes(), 0) // 4)
    problem.forward_backward(method)
    grown = peak_memory_bytes() - before
    del held
    return max(grown - 2 * size, 0) / size


def bench_memory(figures: Figures) -> None:
    """Measures memory, each case in its own process."""
    for length in LENGTHS:
        for method in METHODS[:2]:
            multiple = measure_in_own_process("lst.recipes.benchmarks.kernels", method, length)
            target = 2.0 if method == "state passing" else None
            name = f"extra memory of forward+backward, {method}, length {length}: multiples of the input"
            figures.add(name, multiple, target, at_most=True)


def decoding_state(
    model: LatentSpeechTextModel, prompt: Document, patching: PatchingConfig, first_unit_id: int
) -> DecodingState:
    """The decoding state after a prompt."""
    patches = patch_document(prompt, patching.strategy, patching)
    stepper = PatchStepper(patching, first_unit_id)
    stepper.begin(prompt, patches)
    return DecodingState(model, [prompt], [patches], [stepper])


@torch.inference_mode()
def bench_generation(figures: Figures) -> None:
    """Measures tokens a second after prompts of several lengths; the models differ in their mixers only."""
    kinds = {"transformer": ["attention"], "hybrid": ["h3_hybrid"], "h3": ["h3"]}
    speeds: dict[tuple[str, int], float] = {}
    sizes: dict[tuple[str, int], int] = {}
    for prompt in PROMPTS:
        states = {}
        ids = np.random.default_rng(0).integers(0, VOCAB_SIZE, prompt).astype(np.int32)
        document = Document("prompt", ids, np.full(prompt, TEXT, np.uint8))
        for kind, mixers in kinds.items():
            config = ModelConfig(**{**vars(TRANSFORMER), "global_mixers": mixers})
            model = LatentSpeechTextModel(config, VOCAB_SIZE).eval()
            started_s = time.perf_counter()
            states[kind] = decoding_state(model, document, PatchingConfig("none"), VOCAB_SIZE)
            figures.add(f"{kind}: prompt of {prompt}, tokens a second", prompt / (time.perf_counter() - started_s))
            keys = [cache.key for caches in states[kind].caches.values() for cache in caches if cache.key is not None]
            held = [x for layer in states[kind].states for x in layer.state]
            sizes[kind, prompt] = 2 * sum(x.nbytes for x in keys) + sum(x.nbytes for x in held)

        def generate(state: DecodingState) -> None:
            for _ in range(GENERATED_TOKENS):
                state.step(np.array([1]), np.array([TEXT]))

        calls = {kind: partial(generate, state) for kind, state in states.items()}
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
    """Times H3's mixing, compiled in one pass or made of two operators, on documents of many lengths."""
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
    """Plots ns an element against the length; returns SVG."""
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
    """The numbers in ``NUM_THREADS`` that this process has cores for; OMP_NUM_THREADS is ignored."""
    has_affinity = hasattr(os, "sched_getaffinity")
    num_cores = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
    return [count for count in NUM_THREADS if count <= num_cores]


def main(arguments: list[str]) -> None:
    """Runs all benchmarks, or with ``--memory METHOD LENGTH`` prints one result of ``extra_memory``."""
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
