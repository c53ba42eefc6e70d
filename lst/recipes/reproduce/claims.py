"""``lst reproduce lst``: which of the claims about latent patches hold on stories, by the questions of a plan.

::

    out/run/                       prepared stories and questions
    out/GRID/                      plan and models of each grid, as lst scale run leaves them
    out/lst.json, lst.html         the page, and its numbers; written last

Claims, direction, stratum and score are written down here, before anything is trained. Everything else on the page is
exploration.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np

from lst.configs.reproduce_schema import ReproduceConfig
from lst.errors import UserError
from lst.evaluation.accuracy import HEADLINE, item_credits
from lst.evaluation.results import DIRECTIONS, Direction, ItemRow
from lst.recipes.reproduce.claims_page import claims_as_text, write_claims_page
from lst.recipes.reproduce.contrasts import Contrast, contrast, decide
from lst.recipes.reproduce.formats import Answer, ClaimRecord, DifferenceRecord, GroupRecord, LstFile
from lst.recipes.reproduce.grids import (
    Trained,
    dry_run,
    grids_of,
    prepare_data,
    raise_failures,
    train_grids,
    trained_models,
    what_ran,
)
from lst.recipes.scaling.formats import Interval
from lst.runs import RunFolder
from lst.storage import read_jsonl, write_json

LST_FILE = "lst.json"
# The stratum that decides: the false ending has another name, which nothing but content tells.
STRATUM = "name"
BASE, STATIC, CURRICULUM = "baseline", "static-4", "curriculum"
# Grids of the plan by what they hold equal; that of the second size.
COMPUTE, DATA, FLOPS, LARGE, LARGE_FLOPS = "compute", "data", "flops", "large", "large_flops"
# A grid, an arm of it and a size.
Key: TypeAlias = tuple[str, str, str]


@dataclass(frozen=True)
class Claim:
    """A published claim: one arm of a grid is better than another.

    Attributes:
        text: in words.
        direction: of the questions that decide it.
        grid: that has both arms.
        arm, base: what is better, and than what.
        flops_grid: has the base at the FLOPs of static patches; empty where the claim has no baseline.
        is_growth: the gain is greater at the plan's last size than at its first.
    """

    text: str
    direction: Direction
    grid: str
    arm: str
    base: str = BASE
    flops_grid: str = FLOPS
    is_growth: bool = False


CLAIMS = (
    Claim("static patches are better than none at equal compute", "S→S", COMPUTE, STATIC),
    Claim("the curriculum is better than no patches at equal compute", "S→S", COMPUTE, CURRICULUM),
    Claim("static patches are better than none on equal data", "S→S", DATA, STATIC),
    Claim("the curriculum is better than no patches on equal data", "S→S", DATA, CURRICULUM),
    Claim("the curriculum is better than static patches", "S→S", COMPUTE, CURRICULUM, STATIC, ""),
    Claim("static patches gain more in a larger model", "S→S", LARGE, STATIC, BASE, LARGE_FLOPS, is_growth=True),
    Claim("text improves, too, with static patches at equal compute", "T→T", COMPUTE, STATIC),
)


@dataclass(frozen=True)
class Group:
    """Models of one grid, arm and size.

    Attributes:
        models: one a seed.
        credits: float [seeds, items] by direction and stratum; the items of all groups are the same.
    """

    models: Sequence[Trained]
    credits: Mapping[tuple[Direction, str], np.ndarray]


def lst(config: ReproduceConfig) -> str:
    """Trains what is not trained, and writes the page of what there is; returns a summary.

    Raises:
        UserError: the plan is wrong, or models have failed; the page has all others.
    """
    grids = grids_of(config, config.lst.grids)
    data = prepare_data(config, config.lst.prepare)
    if not data.questions:
        raise UserError("lst.prepare: claims are decided by questions: write data.num_questions=500 there")
    failed = [] if config.page_only else train_grids(config, grids)
    models = trained_models(grids)
    groups = groups_of(models)
    found = LstFile(
        version=1,
        ran=what_ran(models),
        num_items={f"{direction}, {stratum}": number for (direction, stratum), number in _counts(groups).items()},
        groups=[_group_record(key, group) for key, group in groups.items()],
        claims=claim_records(groups),
        differences=differences_of(groups),
    )
    out = Path(config.out)
    write_claims_page(out, found)
    write_json(out / LST_FILE, found)
    raise_failures(failed)
    return f"{claims_as_text(found)}\n\npage: {out / 'lst.html'}; numbers: {out / LST_FILE}"


def lst_plan(config: ReproduceConfig) -> list[str]:
    """The plan of ``lst reproduce lst``, as lines of text."""
    return dry_run(config, config.lst.prepare, config.lst.grids)


def groups_of(models: Sequence[Trained]) -> dict[Key, Group]:
    """Finished models by grid, arm and size, with their credits for the questions that all of them were asked."""
    done = [one for one in models if one.point is not None]
    scored = {one.folder: _credits_of(one) for one in done}
    if not scored:
        return {}
    first = next(iter(scored.values()))
    items = {
        key: [item for item in first[key] if all(item in own.get(key, {}) for own in scored.values())] for key in first
    }
    found: dict[Key, list[Trained]] = {}
    for one in done:
        found.setdefault((one.grid, one.cell["arm"], one.cell["size"]), []).append(one)
    return {
        key: Group(
            own,
            {
                asked: np.array([[scored[one.folder][asked][item] for item in items[asked]] for one in own])
                for asked in items
                if items[asked]
            },
        )
        for key, own in found.items()
    }


def _credits_of(model: Trained) -> dict[tuple[Direction, str], dict[str, float]]:
    """Credits by direction and stratum, by item, with the headline score of the direction."""
    rows = read_jsonl(RunFolder(model.folder).eval_questions(model.cell["arm"]), ItemRow)
    by_place: dict[tuple[Direction, str], list[ItemRow]] = {}
    for row in rows:
        by_place.setdefault((row["direction"], row["stratum"]), []).append(row)
    return {place: item_credits(own, HEADLINE[place[0]]) for place, own in by_place.items()}


def claim_records(groups: Mapping[Key, Group]) -> list[ClaimRecord]:
    """A verdict on each claim; intervals are corrected within the family of those that can be answered."""
    answers = _answers({claim.text: _contrast_of(claim, claim.grid, groups) for claim in CLAIMS})
    at_flops = _answers(
        {claim.text: _contrast_of(claim, claim.flops_grid, groups) for claim in CLAIMS if claim.flops_grid}
    )
    return [
        ClaimRecord(
            claim=claim.text,
            direction=claim.direction,
            stratum=STRATUM,
            answer=(answer := answers.get(claim.text)),
            at_flops=at_flops.get(claim.text),
            verdict=answer["verdict"] if answer else "not decided here",
        )
        for claim in CLAIMS
    ]


def _contrast_of(claim: Claim, base_grid: str, groups: Mapping[Key, Group]) -> Contrast | None:
    """The arm less its base, which may stand in another grid; None where not enough is trained."""
    sizes = list(dict.fromkeys(size for grid, _, size in groups if grid == claim.grid))
    if len(sizes) < 1 + claim.is_growth:
        return None
    terms = [(1.0, (claim.grid, claim.arm, sizes[-1])), (-1.0, (base_grid, claim.base, sizes[-1]))]
    if claim.is_growth:
        terms += [(-1.0, (claim.grid, claim.arm, sizes[0])), (1.0, (base_grid, claim.base, sizes[0]))]
    return _contrast(terms, groups, (claim.direction, STRATUM))


def _contrast(
    terms: Sequence[tuple[float, Key]], groups: Mapping[Key, Group], asked: tuple[Direction, str]
) -> Contrast | None:
    """None where a group is missing, has one seed alone, or was asked one item alone."""
    found = []
    for weight, key in terms:
        credits = groups[key].credits.get(asked) if key in groups else None
        if credits is None or min(credits.shape) < 2:
            return None
        found.append((weight, credits))
    return contrast(found)


def _answers(contrasts: Mapping[str, Contrast | None]) -> dict[str, Answer]:
    known = {name: one for name, one in contrasts.items() if one is not None}
    return {
        name: Answer(
            value=known[name].value,
            low=decision.low,
            high=decision.high,
            p_holm=decision.p_holm,
            num_seeds=known[name].num_seeds,
            num_items=known[name].num_items,
            verdict=decision.verdict,
        )
        for name, decision in decide(known).items()
    }


def differences_of(groups: Mapping[Key, Group]) -> list[DifferenceRecord]:
    """Every arm less the baseline of its grid and size, in every direction and stratum."""
    found = []
    for grid, arm, size in groups:
        if arm == BASE:
            continue
        for direction, stratum in _counts(groups):
            terms = [(1.0, (grid, arm, size)), (-1.0, (grid, BASE, size))]
            one = _contrast(terms, groups, (direction, stratum))
            if one is not None:
                low, high = one.interval()
                found.append(
                    DifferenceRecord(
                        grid=grid,
                        arm=arm,
                        base=BASE,
                        size=size,
                        direction=direction,
                        stratum=stratum,
                        difference=Interval(value=one.value, low=low, high=high),
                    )
                )
    return found


def _group_record(key: Key, group: Group) -> GroupRecord:
    def mean(name: str) -> float:
        return float(np.mean([float(one.row[name]) for one in group.models]))

    accuracy: dict[Direction, dict[str, Interval]] = {direction: {} for direction in DIRECTIONS}
    by_seed: dict[Direction, dict[str, list[float]]] = {direction: {} for direction in DIRECTIONS}
    for (direction, stratum), credits in group.credits.items():
        low, high = contrast([(1.0, credits)]).interval() if min(credits.shape) > 1 else (None, None)
        accuracy[direction][stratum] = Interval(value=float(credits.mean()), low=low, high=high)
        by_seed[direction][stratum] = credits.mean(axis=1).tolist()
    grid, arm, size = key
    return GroupRecord(
        grid=grid,
        arm=arm,
        size=size,
        num_seeds=len(group.models),
        seeds=[one.cell["seed"] for one in group.models],
        N=mean("N"),
        D=mean("D"),
        flops=mean("C"),
        speech_bits=mean("speech_bits"),
        text_bits=mean("text_bits"),
        accuracy=accuracy,
        by_seed=by_seed,
    )


def _counts(groups: Mapping[Key, Group]) -> dict[tuple[Direction, str], int]:
    """Items by direction and stratum."""
    first = next(iter(groups.values()), None)
    return {asked: credits.shape[1] for asked, credits in first.credits.items()} if first else {}
