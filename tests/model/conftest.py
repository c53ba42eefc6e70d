"""Random documents and small models for the model's tests."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from recurrent_models import documented_mixer

from lst.model import config
from lst.model.backbone import RECURRENT
from lst.model.batch import SPEECH, TEXT, Document

VOCAB_SIZE = 60
FIRST_UNIT = 40


def random_document(seed: int, num_tokens: int | None = None) -> Document:
    """Text and speech spans of random lengths (also none); words and silences tile the speech."""
    rng = np.random.default_rng(seed)
    wanted = num_tokens if num_tokens is not None else int(rng.integers(1, 90))
    modalities: list[int] = []
    while len(modalities) < wanted:
        modalities += [TEXT] * int(rng.integers(1, 9)) + [SPEECH] * int(rng.integers(0, 40))
    kinds = np.array(modalities[:wanted], np.uint8)
    ids = np.where(kinds == SPEECH, rng.integers(FIRST_UNIT, VOCAB_SIZE, wanted), rng.integers(0, FIRST_UNIT, wanted))
    lengths = []
    left = int((kinds == SPEECH).sum())
    while left:
        lengths.append(min(int(rng.integers(0, 31)), left))
        left -= lengths[-1]
    return Document(
        f"doc-{seed}", ids.astype(np.int32), kinds, np.array(lengths, np.int32), rng.random(len(lengths)) < 0.4
    )


@pytest.fixture(scope="session")
def make_document() -> Callable[..., Document]:
    return random_document


@pytest.fixture(autouse=True)
def ema(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mixer of docs/extend is one of the backbone's, added as its page says."""
    monkeypatch.setitem(RECURRENT, "ema", documented_mixer())
    monkeypatch.setattr(config, "MIXERS", (*config.MIXERS, "ema"))
