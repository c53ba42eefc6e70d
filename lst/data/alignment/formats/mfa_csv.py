"""Word times in the CSV of the Montreal Forced Aligner (MFA): Begin, End, Label, Type, Speaker."""

from __future__ import annotations

import csv
from collections.abc import Mapping

from lst.data.alignment.formats.intervals import (
    FILE_REMEDY,
    WORD_TIERS,
    Interval,
    decode_text,
    file_problem,
    finite_number,
    parse_each,
    tier_key,
    with_characters,
)
from lst.data.utterance import TimedWord
from lst.errors import raise_problems

COLUMNS = ("begin", "end", "label", "type")


def read_mfa_csv(content: bytes, name: str, tier: str = "") -> list[TimedWord]:
    """Words of MFA's CSV: the rows of the type words, or of ``tier``."""
    lines = decode_text(content, name).splitlines()
    header = next(csv.reader(lines[:1]), [])
    columns = [column.strip().lower() for column in header]
    if missing := [column for column in COLUMNS if column not in columns]:
        raise file_problem(name, f"there is no column {', '.join(missing)}")
    problems: list[str] = []

    def parse(row: Mapping[str, str], number: int) -> Interval:
        # The header is line 1.
        return Interval(finite_number(row["begin"]), finite_number(row["end"]), row["label"], number + 1)

    rows = list(csv.DictReader(lines[1:], columns))
    kinds = {tier_key(row["type"] or "") for row in rows}
    wanted = next((kind for kind in ((tier_key(tier),) if tier else WORD_TIERS) if kind in kinds), None)
    if wanted is None:
        raise file_problem(
            name, f"there is no row of the type {tier or WORD_TIERS[0]}; types are {', '.join(sorted(kinds))}"
        )
    said = [(number, row) for number, row in enumerate(rows, 1) if tier_key(row["type"] or "") == wanted]
    found = parse_each(said, lambda item, _: parse(item[1], item[0]), "word", problems)
    raise_problems(name, problems, FILE_REMEDY)
    return with_characters(found, [], name)
