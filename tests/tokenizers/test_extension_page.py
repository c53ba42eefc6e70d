"""The example of docs/extend/tokenizer.md, followed step by step in a copy of the package."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from repository import ROOT

from lst.errors import UserError
from lst.tokenizers.kmeans import Centroids, KmeansTokenizer
from lst.tokenizers.speech import load_speech_tokenizer

USE = """
import sys
from pathlib import Path
import numpy as np
from lst.commands import job_of
from lst.configs.reads import reads_of
from lst.tokenizers.speech import fit_speech_tokenizer, load_speech_tokenizer

words = ["tokenizer=spectrum_kmeans", "tokenizer.num_units=12", "corpus=there", "out=there"]
config = job_of("tokenizer fit-units").build(words, reads_of("tokenizer fit-units")).tokenizer
speech = [np.random.default_rng(seed).normal(size=20_000).astype(np.float32) for seed in range(2)]
tokenizer = fit_speech_tokenizer(config, speech, seed=0)
tokenizer.save(Path(sys.argv[1]))
loaded = load_speech_tokenizer(Path(sys.argv[1]))
assert loaded.sha256 == tokenizer.sha256
for size, count in ((20_000, 32), (1, 1)):
    (units,), (again,) = tokenizer.encode([speech[0][:size]], 16_000), loaded.encode([speech[0][:size]], 16_000)
    assert len(units) == count and np.array_equal(units, again)
print(loaded.name)
"""


def test_the_example_is_fitted_saved_and_loaded_with_three_files(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "extend" / "tokenizer.md").read_text(encoding="utf-8")
    steps = re.findall(r"^## \d\. .*?`(lst/\S+)`\n.*?```\w+\n(.*?)```", page, re.DOTALL | re.MULTILINE)
    assert len(steps) == 3
    shutil.copytree(ROOT / "lst", tmp_path / "lst", ignore=shutil.ignore_patterns("__pycache__"))
    for name, text in steps:
        place = tmp_path / name
        if place.exists():
            known = place.read_text(encoding="utf-8")
            (table,) = re.findall(r"^ENCODERS = \{\n.*?(?=^\})", known, re.DOTALL | re.MULTILINE)
            text = known.replace(table, table + text)
        place.write_text(text, encoding="utf-8")
    words = [sys.executable, "-c", USE, str(tmp_path / "units.safetensors")]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout == "spectrum-kmeans-12-25hz\n", done.stderr


def test_units_of_a_kind_that_is_not_known_here_are_not_called_damaged(tmp_path: Path) -> None:
    ones = np.ones((4, 3), np.float32)
    path = tmp_path / "units.safetensors"
    KmeansTokenizer(Centroids(ones, ones[0]), {"kind": "spectrum"}).save(path)
    with pytest.raises(
        UserError, match=r"units of the kind 'spectrum'; known here are mfcc, .*, encodec\. Use the code"
    ):
        load_speech_tokenizer(path)
