"""What a CTC model says of each frame: batched, and in windows where audio is long.

Rows of a batch are padded, and nothing of it is heard: the group normalisation of the first layer, which takes its
statistics over time, gets those of the whole recording, and attention passes over padding. A frame's features are the
same in a window as without; the Transformer behind them hears its window only, ``overlap_s`` more at each side than
the frames that are kept of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from lst.data.alignment.ctc.model import CTC_SAMPLE_RATE_HZ, CtcModel

# Samples whose first layer is computed at a time, for the statistics of long audio.
STATISTICS_SAMPLES = 1 << 20


class Window(NamedTuple):
    """Frames of a recording that pass the model together, and those that are kept; ends exclusive."""

    recording: int
    first: int
    last: int
    keep_first: int
    keep_last: int


def windows_of(recording: int, num_frames: int, window_frames: int, overlap_frames: int) -> list[Window]:
    """Cuts a recording so that every frame is kept once, with ``overlap_frames`` at each side where audio goes on."""
    if num_frames <= window_frames:
        return [Window(recording, 0, num_frames, 0, num_frames)]
    own = window_frames - 2 * overlap_frames
    found = []
    for first in range(0, num_frames, own):
        last = min(first + own, num_frames)
        found.append(
            Window(recording, max(first - overlap_frames, 0), min(last + overlap_frames, num_frames), first, last)
        )
    return found


@torch.inference_mode()
def ctc_emissions(
    ctc: CtcModel, waveforms: Sequence[np.ndarray], window_s: float, overlap_s: float, batch: int
) -> list[Tensor]:
    """Log-probabilities of labels a frame.

    Args:
        ctc: the model.
        waveforms: float32 [num_samples] each, mono, 16 kHz.
        window_s: longer audio is cut into windows of this length.
        overlap_s: heard besides, at each side.
        batch: windows that pass the model together; of similar length, up to rounding the result is that of one by one.

    Returns:
        float32 [num_frames, V] a waveform, on the CPU; none for a waveform too short for a frame.
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
        window.recording: _first_layer_statistics(ctc, sounds[window.recording], device)
        for window in windows
        if window.keep_first == 0
    }
    # Alike lengths together, so that little is padded.
    windows.sort(key=lambda window: (window.last - window.first, window.recording, window.first))
    for start in range(0, len(windows), batch):
        group = windows[start : start + batch]
        for window, emission in zip(group, _emit(ctc, sounds, group, statistics, device), strict=True):
            kept = emission[window.keep_first - window.first : window.keep_last - window.first]
            results[window.recording][window.keep_first : window.keep_last] = kept
    return results


Statistics = tuple[Tensor, Tensor] | None


def _emit(
    ctc: CtcModel,
    sounds: Sequence[Tensor],
    group: Sequence[Window],
    statistics: dict[int, Statistics],
    device: torch.device,
) -> Iterator[Tensor]:
    """Emissions of each window, float32 [frames of the window, V]."""
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
        if index == 0 and isinstance(layer.layer_norm, nn.GroupNorm):
            found = [statistics[window.recording] for window in group]
            mean_BC = torch.stack([pair[0] for pair in found if pair is not None])
            scale_BC = torch.stack([pair[1] for pair in found if pair is not None])
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


def _first_layer_statistics(ctc: CtcModel, sound: Tensor, device: torch.device) -> Statistics:
    """Mean and inverse deviation a channel over the whole recording, where the first layer normalises over time."""
    module: Any = ctc.module
    layer = module.feature_extractor.conv_layers[0]
    if not isinstance(layer.layer_norm, nn.GroupNorm):
        return None
    kernel, stride = layer.kernel_size, layer.stride
    step = STATISTICS_SAMPLES // stride * stride
    total: Any = 0.0
    squares: Any = 0.0
    count = 0
    for start in range(0, len(sound) - kernel + 1, step):
        values_CL = layer.conv(sound[None, start : start + step + kernel - stride].to(device))
        total = total + values_CL.sum(1, dtype=torch.float64)
        squares = squares + values_CL.double().square().sum(1)
        count += values_CL.shape[1]
    mean_C = total / count
    variance_C = (squares / count - mean_C.square()).clamp_min(0)
    return mean_C.float(), (variance_C + layer.layer_norm.eps).rsqrt().float()
