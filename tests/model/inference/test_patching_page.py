"""The example of docs/extend/patching.md works as it stands there: in a copy of the module, whole and unit by unit."""

from __future__ import annotations

import re
import sys
from itertools import groupby, pairwise
from types import ModuleType

import numpy as np
import pytest
from repository import ROOT

from lst.model import config as model_config
from lst.model import patching
from lst.model.batch import SPEECH, TEXT, Document
from lst.model.config import PatchingConfig
from lst.model.inference import patch_stepper
from lst.model.inference.patch_stepper import PatchStepper

PAGE = (ROOT / "docs" / "extend" / "patching.md").read_text(encoding="utf-8")
FIRST_UNIT_ID = 20


@pytest.fixture
def with_runs(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """``lst.model.patching`` with what the page adds."""
    names, branch, function, _ = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    source = (ROOT / "lst" / "model" / "patching.py").read_text(encoding="utf-8")
    for line in names.splitlines():
        source, count = re.subn(rf"^{line.split()[0]} = .*$", line, source, flags=re.MULTILINE)
        assert count == 1, line
    place = source.index("    else:\n", source.index("\ndef patch_documents("))
    module = ModuleType("patching_with_runs")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(compile(f"{source[:place]}{branch}{source[place:]}\n\n{function}", module.__name__, "exec"), vars(module))
    return module


def test_the_page_adds_a_name_to_the_lists_as_they_are(with_runs: ModuleType) -> None:
    assert (*patching.FIXED_STRATEGIES, "runs") == with_runs.FIXED_STRATEGIES
    assert (*patching.CAUSAL_STRATEGIES, "runs") == with_runs.CAUSAL_STRATEGIES
    (line,) = re.findall(r"^STRATEGIES = .*$", PAGE, re.MULTILINE)
    namespace: dict[str, tuple[str, ...]] = {}
    exec(line, namespace)
    assert namespace["STRATEGIES"] == (*model_config.STRATEGIES, "runs")


@pytest.mark.parametrize("max_patch", [0, 1, 3])
def test_patches_are_runs_of_one_unit(with_runs: ModuleType, max_patch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """And those that generation is told unit by unit, which has no step form of this strategy."""
    rng = np.random.default_rng(max_patch)
    kinds = np.repeat([TEXT, SPEECH] * 6, rng.integers(1, 30, 12)).astype(np.uint8)
    ids = (rng.integers(0, 2, len(kinds)) + FIRST_UNIT_ID * kinds).astype(np.int32)
    document, config = Document("d", ids, kinds), PatchingConfig("runs", max_patch=max_patch)
    lengths, late = [], []
    for (_, kind), run in groupby(zip(ids.tolist(), kinds.tolist(), strict=True)):
        left = len(list(run))
        while left:
            lengths.append(1 if kind == TEXT else min(left, max_patch or left))
            late.append(kind == SPEECH and lengths[-1] != max_patch)
            left -= lengths[-1]
    whole = with_runs.patch_document(document, "runs", config)
    assert (whole.lengths.tolist(), whole.closes_late.tolist()) == (lengths, late)
    assert not with_runs.is_unseen(config, has_boundary_head=False)

    monkeypatch.setattr(patch_stepper, "patch_document", with_runs.patch_document)
    monkeypatch.setattr(patch_stepper, "inference_strategy", with_runs.inference_strategy)
    stepper, ends = PatchStepper(config, FIRST_UNIT_ID), [0]
    for place, (token, kind) in enumerate(zip(ids.tolist(), kinds.tolist(), strict=True)):
        had_ended, complete = stepper.push(token, kind)
        ends += [place] * had_ended + [place + 1] * complete
    ends += [len(ids)] * (stepper.num_open > 0)
    assert [end - start for start, end in pairwise(ends)] == lengths


def test_a_strategy_that_is_not_causal_is_scored_on_static_patches_and_that_is_told() -> None:
    assert patching.inference_strategy(PatchingConfig("peeking")) == "static"
    assert patching.is_unseen(PatchingConfig("peeking"), has_boundary_head=False)
