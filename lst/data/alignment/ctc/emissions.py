"""Emissions of a CTC model, its log-probabilities of labels: in batches, and in windows for long audio.

Padding in a batch does not change the results: the group normalisation of the first layer, which takes statistics over
time, gets those of the whole recording, and attention is masked. The convolutions give a frame the same features in a
window as without one. The Transformer sees its window only, which is ``overlap_s`` longer at each side than the frames
that are kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from lst.data.alignment.ctc.model import CTC_SAMPLE_RATE_HZ, CtcModel

# Samples of long audio whose first layer is computed at a time.
STATISTICS_SAMPLES = 1 << 20


class Window(NamedTuple):
    """A recording's frames that pass the model together, and those of them that are kept; ends exclusive."""

    recording: int
    first: int
    last: int
    keep_first: int
    keep_last: int


def windows_of(recording: int, num_frames: int, window_frames: int, overlap_frames: int) -> list[Window]:
    """Cuts a recording so that every frame is kept once, with ``overlap_frames`` more at each side inside of it.

    >>> [tuple(window) for window in windows_of(0, 10, 6, 1)]
    [(0, 0, 5, 0, 4), (0, 3, 9, 4, 8), (0, 7, 10, 8, 10)]
    """
    own = window_frames - 2 * overlap_frames
    if num_frames <= window_frames:
        own, overlap_frames = num_frames, 0
    spans = [(first, min(first + own, num_frames)) for first in range(0, num_frames, own)]
    return [
        Window(recording, max(first - overlap_frames, 0), min(last + overlap_frames, num_frames), first, last)
        for first, last in spans
    ]


@torch.inference_mode()
def ctc_emissions(
    ctc: CtcModel, waveforms: Sequence[np.ndarray], window_s: float, overlap_s: float, batch: int
) -> list[Tensor]:
    """Log-probabilities of labels for each frame.

    Args:
        ctc: the model.
        waveforms: float32 [num_samples] each, mono, 16 kHz.
        window_s: longer audio is cut into windows of this length.
        overlap_s: part of a window, at each side, whose frames are not kept.
        batch: windows that pass the model together; it changes the result by rounding only.

    Returns:
        float32 [num_frames, V] for each waveform, on the CPU; no frames if a waveform is too short.
    """
    device = next(ctc.module.parameters()).device
    frame_rate_hz = CTC_SAMPLE_RATE_HZ / ctc.samples_a_frame
    overlap_frames = round(overlap_s * frame_rate_hz)
    window_frames = max(round(window_s * frame_rate_hz), 2 * overlap_frames + 1)
    sounds = [torch.from_numpy(np.ascontiguousarray(waveform, np.float32)) for waveform in waveforms]
    if ctc.normalizes:
        sounds = [nn.functional.layer_norm(sound, sound.shape) if len(sound) else sound for sound in sounds]
    counts = [ctc.num_frames(len(sound)) for sound in sounds]
    results = [torch.zeros(count, len(ctc.labels)) for count in counts]
    windows = [
        window
        for index, count in enumerate(counts)
        if count
        for window in windows_of(index, count, window_frames, overlap_frames)
    ]
    statistics = {
        index: _first_layer_statistics(ctc, sounds[index], device)
        for index, count in enumerate(counts)
        if count and _is_group_normed(ctc)
    }
    # Windows of similar length go together, to pad little.
    windows.sort(key=lambda window: (window.last - window.first, window.recording, window.first))
    for start in range(0, len(windows), batch):
        group = windows[start : start + batch]
        for window, emission in zip(group, _emit(ctc, sounds, group, statistics, device), strict=True):
            kept = emission[window.keep_first - window.first : window.keep_last - window.first]
            results[window.recording][window.keep_first : window.keep_last] = kept
    return results


def _emit(
    ctc: CtcModel,
    sounds: Sequence[Tensor],
    group: Sequence[Window],
    statistics: Mapping[int, Tensor],
    device: torch.device,
) -> Iterator[Tensor]:
    """Emissions of each window, float32 [num_frames, V]."""
    module: Any = ctc.module
    lengths = torch.tensor([window.last - window.first for window in group])
    longest = (int(lengths.max()) - 1) * ctc.samples_a_frame + ctc.receptive_samples
    x_BCL = torch.zeros(len(group), 1, longest)
    for row, window in enumerate(group):
        start = window.first * ctc.samples_a_frame
        sound = sounds[window.recording][start : (window.last - 1) * ctc.samples_a_frame + ctc.receptive_samples]
        x_BCL[row, 0, : len(sound)] = sound
    x_BCL = x_BCL.to(device)
    for index, layer in enumerate(module.feature_extractor.conv_layers):
        x_BCL = layer.conv(x_BCL)
        if index == 0 and statistics:
            mean_BC, scale_BC = torch.stack([statistics[window.recording] for window in group], dim=1)
            x_BCL = (x_BCL - mean_BC[:, :, None]) * scale_BC[:, :, None]
            x_BCL = x_BCL * layer.layer_norm.weight[:, None] + layer.layer_norm.bias[:, None]
        elif layer.layer_norm is not None:
            x_BCL = layer.layer_norm(x_BCL)
        x_BCL = nn.functional.gelu(x_BCL)
    padded = None if int(lengths.min()) == int(lengths.max()) else lengths.to(device)
    hidden_BLD = module.encoder(x_BCL.transpose(1, 2), padded)
    log_probs_BLV = torch.log_softmax(module.aux(hidden_BLD).float(), dim=-1).cpu()
    for row, length in enumerate(lengths.tolist()):
        yield log_probs_BLV[row, :length]


def _is_group_normed(ctc: CtcModel) -> bool:
    """Whether the first layer normalises over time."""
    module: Any = ctc.module
    return isinstance(module.feature_extractor.conv_layers[0].layer_norm, nn.GroupNorm)


def _first_layer_statistics(ctc: CtcModel, sound: Tensor, device: torch.device) -> Tensor:
    """Mean and inverse deviation of each channel over the whole recording, float32 [2, C]."""
    module: Any = ctc.module
    layer = module.feature_extractor.conv_layers[0]
    kernel, stride = layer.kernel_size, layer.stride
    step = STATISTICS_SAMPLES // stride * stride
    sums: Any = 0.0
    count = 0
    for start in range(0, len(sound) - kernel + 1, step):
        values_CL = layer.conv(sound[None, start : start + step + kernel - stride].to(device))
        sums = sums + torch.stack([values_CL.sum(1, dtype=torch.float64), values_CL.double().square().sum(1)])
        count += values_CL.shape[1]
    mean_C, mean_square_C = sums / count
    variance_C = (mean_square_C - mean_C.square()).clamp_min(0)
    return torch.stack([mean_C, (variance_C + layer.layer_norm.eps).rsqrt()]).float()
