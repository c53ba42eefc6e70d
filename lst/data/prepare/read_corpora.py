"""Reads the corpora that are prepared: one, or several together, each by its own layout and with splits of its own.

::

    corpus=[read=A,talks=B] ──load_corpus──▶ rows of each, with its name ──▶ unique ids ──▶ splits, corpus by corpus
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lst.data.corpora import ManifestProblem, ManifestRow, assign_splits, load_corpus, on_the_fly_files
from lst.data.corpora.on_the_fly import SUFFIX
from lst.data.corpora.row_languages import name_notes
from lst.data.corpora.row_table import RowTable
from lst.data.corpora.splits import LARGEST_DRAW, Recordings, choose_held_out
from lst.data.corpora.unique_ids import ids_apart
from lst.data.prepare.options import PrepareOptions
from lst.data.prepared import SpokenRow
from lst.data.recordings.cut import fate_of_long
from lst.data.shards import SPEECH_SPLIT, UnitFacts
from lst.data.utterance import HeldOut
from lst.errors import UserError, raise_problems
from lst.progress import say
from lst.storage import FileList, Location, locate


def unit_files(options: PrepareOptions, corpus_files: Mapping[str, FileList]) -> list[Location]:
    """The ``.on_the_fly`` files of the corpus; none for other corpora.

    Raises:
        UserError: as ``on_the_fly_files``, or one of several corpora holds units.
    """
    found = {name: on_the_fly_files(place, corpus_files.get(name)) for name, place in options.corpora.items()}
    if of_units := [name for name, files in found.items() if name and files]:
        raise UserError(
            f"corpus {', '.join(of_units)}: {SUFFIX} files hold units of a codebook of their own, and cannot be mixed "
            "with other corpora: prepare them alone"
        )
    return found.get("", [])


def held_out_before(before: UnitFacts) -> dict[str, HeldOut]:
    """Which utterances an earlier state of each corpus held out; one corpus has an empty name."""
    return before.get("held_out_by", {"": before["held_out"]} if "held_out" in before else {})


@dataclass(frozen=True)
class ReadRows:
    """The rows of corpora as they were read: with their corpora's names if there are several, and unique ids."""

    rows: RowTable
    problems: list[ManifestProblem]
    description: str


def read_corpora(
    options: PrepareOptions, files: Mapping[str, FileList], before: Sequence[ManifestRow] = ()
) -> ReadRows:
    """Reads all corpora; ``files`` are those of each, if they have been listed already.

    Rows keep the ids that they had ``before``, though other corpora come or go.

    Raises:
        UserError: corpora cannot be read; each of them is named.
    """
    rows, problems = RowTable(), list[ManifestProblem]()
    told, unread = list[str](), list[str]()
    for name, place in options.corpora.items():
        try:
            found, faults, layout = load_corpus(
                locate(place),
                options.layout,
                files.get(name),
                options.data.language,
                options.data.transcribe is None,
                options.num_workers,
            )
        except UserError as error:
            if len(options.corpora) == 1:
                raise
            unread.append(f"{name}: {' '.join(str(error).splitlines())}")
            continue
        told.append(f"{name or locate(place).name} ({layout})")
        if len(options.corpora) == 1 and not name:
            rows = found
        else:
            rows.extend(_of_corpus(row, name) for row in found)
        problems += [_problem_of_corpus(one, name) for one in faults] if name else faults
    raise_problems("corpora", unread)
    for note in name_notes(rows.facts.named, options.data.language):
        say(note)
    has_names = "" not in options.corpora
    return ReadRows(ids_apart(rows, before) if has_names else rows, problems, f"recordings in {', '.join(told)}")


def _of_corpus(row: ManifestRow, name: str) -> ManifestRow:
    return replace(row, provenance=row.provenance._replace(corpus=name), place=f"{name}: {row.place}")


def _problem_of_corpus(problem: ManifestProblem, name: str) -> ManifestProblem:
    return replace(problem, place=f"{name}: {problem.place}", row=problem.row and _of_corpus(problem.row, name))


def with_splits(
    rows: RowTable,
    options: PrepareOptions,
    held_out: Mapping[str, HeldOut],
    before: Sequence[ManifestRow] = (),
    is_plan: bool = False,
) -> tuple[RowTable, dict[str, HeldOut]]:
    """Rows with their splits, by the rule of each corpus, and these rules by corpus.

    A corpus of held-out recordings alone stays so beside others that are for training. In a plan, a long recording
    is whole: one alone is not too few, and has no split yet.

    Args:
        rows: of all corpora.
        options: of preparing.
        held_out: the rule of each corpus in an earlier state.
        before: rows of that state.
        is_plan: nothing was listened to.
    """
    assigned, rules = RowTable(), dict[str, HeldOut]()
    has_others = rows.facts.splits != {"valid"}
    is_several, has_speech = len(options.corpora) > 1, SPEECH_SPLIT in rows.facts.splits
    for name in options.corpora:
        own = rows
        if is_several or has_speech:
            # Speech is for training alone, as it has no text.
            speech, own = RowTable(), RowTable()
            for row in rows:
                if not is_several or row.provenance.corpus == name:
                    (speech if row.split == SPEECH_SPLIT else own).append(row)
            assigned += speech
            if speech and not own:
                continue
        if is_plan and len(own) == 1 and fate_of_long(own[0], options.data).is_cut:
            assigned += own
            continue
        check_two(own, options.corpora[name])
        is_held_out = has_others and own.facts.splits == {"valid"}
        valid_share = 1.0 if is_held_out else options.data.valid_share
        root = _root(options.corpora[name])
        rule = _with_recordings(held_out.get(name), own, name, before, root)
        rule = rule or choose_held_out(own, valid_share, options.seed, root)
        split = assign_splits(own, valid_share, options.seed, rule, root, options.num_workers)
        if is_several or has_speech:
            assigned += split
        else:
            assigned = split
        if rule is not None:
            rules[name] = rule
    return assigned, rules


def _root(corpus: str) -> str:
    """The folder of a corpus, or of its manifest."""
    place = locate(corpus)
    if not isinstance(place, Path):
        return str(place)
    return os.path.abspath(place if place.is_dir() else place.parent)


def _with_recordings(
    rule: HeldOut | None, rows: RowTable, name: str, before: Sequence[ManifestRow], root: str
) -> HeldOut | None:
    """The rule of an earlier state of a corpus, for its segments of now.

    Segments that were held out stay so where their file has another name now, and so do all others of that file. Where
    there were whole files alone, segments come together: those of a file that is held out are, too, and all others are
    for training. Segments that have been drawn one by one keep their splits.
    """
    if rule is None or "speakers" in rule or not rows.facts.have_segments:
        return rule
    if "recordings" not in rule:
        had_segments = {row.is_segment for row in before if row.provenance.corpus == name}
        if rule["below"] == LARGEST_DRAW or had_segments != {False}:
            return rule
        rule = {**rule, "recordings": []}
    held_out, recordings = {row.id for row in before if row.split == "valid"}, Recordings.of_rows(rows, root)
    found = {recordings.of(row) for row in rows if row.id in held_out}
    return {**rule, "recordings": sorted({*rule["recordings"], *found} - {""})}


def check_two(rows: Sequence[SpokenRow], corpus: Location | None) -> None:
    """Raises ``UserError`` where a corpus has fewer than two usable utterances."""
    if len(rows) < 2:
        raise UserError(
            f"corpus {corpus} has {len(rows)} usable utterance{'s' * (len(rows) != 1)}: at least two are needed, one "
            "is held out"
        )
