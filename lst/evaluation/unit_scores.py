"""Scores of speech units: how well they tell phones and speakers, and how many bits they cost.

The measures are those of HuBERT (Hsu et al., 2021, section IV-B): with p(phone, unit) counted over frames,

    phone-normalised mutual information   I(phone; unit) / H(phone)
    phone purity                          share of frames whose phone is the most frequent one of their unit
    unit purity                           share of frames whose unit is the most frequent one of their phone

Silence is easy to tell, so its frames are left out; further scores count it as one more phone. Mutual information
counted from few frames is too high by about (cells − rows − columns + 1) / 2N nats, where cells are the pairs that
occur (Miller, 1955). The corrected score subtracts that. Compare codebooks of different sizes by the corrected score.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypedDict

import numpy as np

from lst.data.alignment.hmm import SILENCE
from lst.errors import UserError
from lst.tokenizers.speech import deduplicate

LOG_2 = float(np.log(2.0))


@dataclass(frozen=True)
class ScoredUtterance:
    """Units of one utterance, the phone of each frame, and the speaker.

    Attributes:
        units: int [num_frames · units_a_frame].
        phones: int [num_frames], 0 for silence. None if the utterance could not be aligned; then it counts for bits
            and speakers only.
        speaker: name of the speaker.
    """

    units: np.ndarray
    phones: np.ndarray | None
    speaker: str


def entropy(counts: np.ndarray) -> float:
    """Entropy in nats of a table of counts."""
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum())


def mutual_information(joint: np.ndarray) -> float:
    """I(row; column) in nats of a table of joint counts, [rows, columns]."""
    return entropy(joint.sum(axis=1)) + entropy(joint.sum(axis=0)) - entropy(joint)


def small_sample_bias(joint: np.ndarray) -> float:
    """Expected excess of ``mutual_information`` of these counts, in nats (Miller, 1955)."""
    rows, columns = int((joint.sum(axis=1) > 0).sum()), int((joint.sum(axis=0) > 0).sum())
    return float((int((joint > 0).sum()) - rows - columns + 1) / (2 * joint.sum()))


def joint_counts(rows: np.ndarray, columns: np.ndarray, num_columns: int) -> np.ndarray:
    """Counts of pairs of labels, int64 [rows.max() + 1, num_columns].

    >>> joint_counts(np.array([0, 1, 1]), np.array([2, 0, 0]), 3).tolist()
    [[0, 0, 1], [2, 0, 0]]
    """
    num_rows = int(rows.max(initial=0)) + 1
    flat = np.bincount(rows.astype(np.int64) * num_columns + columns, minlength=num_rows * num_columns)
    return flat.reshape(num_rows, num_columns)


class UnitScores(TypedDict, total=False):
    """Scores of units, as ``lst tokenizer score-units`` writes them. Entropies are in bits.

    Keys that end in ``_with_silence`` count silence as one more phone; all other phone scores leave it out. The
    ``_deduplicated`` ones count a run of equal units once, and exist for one unit a frame only. ``speaker_nmi`` is None
    for a single speaker.
    """

    phone_normalised_mi: float
    phone_normalised_mi_corrected: float
    phone_normalised_mi_with_silence: float
    phone_purity: float
    phone_purity_with_silence: float
    unit_purity: float
    num_phone_frames: int
    speaker_nmi: float | None
    units_a_second: float
    bits_a_second: float
    units_used: int
    num_units: int
    num_frames: int
    num_speakers: int
    units_a_second_deduplicated: float
    bits_a_second_deduplicated: float


class UnitScoreReport(UnitScores):
    """What ``lst tokenizer score-units`` writes to ``out``: scores, and what they are of.

    ``units_sha256`` is the hash of the units file, ``aligner`` what gave the phones.
    """

    version: Literal[1]
    units: str
    units_sha256: str
    corpus: str | None
    aligner: str
    num_utterances: int
    num_aligned: int


def score_units(
    utterances: Sequence[ScoredUtterance], num_units: int, frame_rate_hz: int, units_a_frame: int = 1
) -> UnitScores:
    """Scores units over held-out utterances.

    Args:
        utterances: at least one of them with phones.
        num_units: size of the codebook.
        frame_rate_hz: frames a second.
        units_a_frame: codebooks. The first one is compared with phones and speakers; bits count all of them, and with
            the delayed pattern also the units that fill places without a code.

    Raises:
        UserError: no utterance has a frame of speech.
    """
    first = [utterance.units[::units_a_frame] for utterance in utterances]
    scores = _phone_scores(utterances, first, num_units)
    names = sorted({utterance.speaker for utterance in utterances})
    speakers = np.repeat([names.index(item.speaker) for item in utterances], list(map(len, first)))
    by_speaker = joint_counts(speakers, np.concatenate(first), num_units)
    speaker_entropy = entropy(by_speaker.sum(axis=1))
    everything = np.concatenate([utterance.units for utterance in utterances]).astype(np.int64)
    place = np.concatenate([np.arange(len(utterance.units)) % units_a_frame for utterance in utterances])
    bits_a_frame = sum(
        entropy(np.bincount(everything[place == index], minlength=num_units)) / LOG_2 for index in range(units_a_frame)
    )
    scores |= {
        "speaker_nmi": mutual_information(by_speaker) / speaker_entropy if speaker_entropy else None,
        "units_a_second": float(units_a_frame * frame_rate_hz),
        "bits_a_second": bits_a_frame * frame_rate_hz,
        "units_used": len(np.unique(everything)),
        "num_units": num_units,
        "num_frames": len(speakers),
        "num_speakers": len(names),
    }
    if units_a_frame == 1:
        runs = np.concatenate([deduplicate(units)[0] for units in first]).astype(np.int64)
        seconds = len(speakers) / frame_rate_hz
        scores["units_a_second_deduplicated"] = len(runs) / seconds
        scores["bits_a_second_deduplicated"] = entropy(np.bincount(runs)) / LOG_2 * len(runs) / seconds
    return scores


def _phone_scores(utterances: Sequence[ScoredUtterance], first: Sequence[np.ndarray], num_units: int) -> UnitScores:
    aligned = [(units, item.phones) for units, item in zip(first, utterances, strict=True) if item.phones is not None]
    units, phones = (np.concatenate(part) for part in zip(*aligned, strict=True))
    everywhere = joint_counts(phones, units, num_units)
    said = joint_counts(phones[phones != SILENCE], units[phones != SILENCE], num_units)
    if said.sum() == 0:
        raise UserError("no frame of speech is among the scored utterances")
    said_entropy, all_entropy = entropy(said.sum(axis=1)), entropy(everywhere.sum(axis=1))
    information = mutual_information(said)
    return {
        "phone_normalised_mi": information / said_entropy if said_entropy else 0.0,
        "phone_normalised_mi_corrected": (
            (information - small_sample_bias(said)) / said_entropy if said_entropy else 0.0
        ),
        "phone_normalised_mi_with_silence": mutual_information(everywhere) / all_entropy if all_entropy else 0.0,
        "phone_purity": float(said.max(axis=0).sum() / said.sum()),
        "phone_purity_with_silence": float(everywhere.max(axis=0).sum() / everywhere.sum()),
        "unit_purity": float(said.max(axis=1).sum() / said.sum()),
        "num_phone_frames": int(said.sum()),
    }
