"""The table of points: every way to write it that is clear is read, and all that is wrong is named at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from lst.errors import ProblemsError, UserError
from lst.recipes.scaling.points import read_points, write_points


def problems_of(path: Path) -> list[str]:
    with pytest.raises(ProblemsError) as raised:
        read_points(path)
    return raised.value.problems


@pytest.mark.parametrize(
    "content",
    [
        "N,D,loss\n1e6,2e7,3.5\n2e6,4e7,3.25\n",
        "\ufeffN;D;loss\r\n1e6;2e7;3.5\r\n2e6;4e7;3.25\r\n",
        "N\tD\tloss\n1000000\t2.0E+07\t3.5\n\n2000000\t40000000.\t3.25",
        '"N", "D", "loss"\n"1e6", "2e7", "3.5"\n"2e6", "4e7", "3.25"\n',
        "name,loss,N,D\na,3.5,1e6,2e7\nb,3.25,2e6,4e7\n",
    ],
)
def test_tables_of_any_separator_are_read(content: str, tmp_path: Path) -> None:
    path = tmp_path / "points.csv"
    path.write_bytes(content.encode())
    points = read_points(path)
    assert points.numbers["N"].tolist() == [1e6, 2e6]
    assert points.numbers["D"].tolist() == [2e7, 4e7]
    assert points.numbers["loss"].tolist() == [3.5, 3.25]
    assert points.arms == [""]
    assert points.unused == (["name"] if "name" in content else [])


def test_what_is_written_is_read(tmp_path: Path) -> None:
    rows = [
        {"arm": "static, 4", "seed": 1, "N": 1e6, "D": 2e7, "C": 1.5e14, "speech_bits": 3.5, "accuracy/S→S/name": 0.5},
        {"arm": "baseline", "seed": 2, "N": 1e6, "D": 3e7, "speech_bits": 3.123456789012345, "text_bits": 1.5},
    ]
    write_points(tmp_path / "points.csv", rows)
    (tmp_path / "points.json").write_text(
        '{"version": 1, "points": [{"arm": "static, 4", "N": 1e6, "D": 2e7, "speech_bits": 3.5, "C": 1.5e14, '
        '"accuracy/S>S/name": 0.5}, {"arm": "baseline", "N": 1000000, "D": "3e7", "speech_bits": 3.123456789012345, '
        '"text_bits": 1.5, "C": null}]}'
    )
    for name in ("points.csv", "points.json"):
        points = read_points(tmp_path / name)
        assert points.arms == ["static, 4", "baseline"]
        assert points.losses == ["speech_bits", "text_bits"]
        assert points.numbers["speech_bits"].tolist() == [3.5, 3.123456789012345]
        assert points.numbers["accuracy/S→S/name"][0] == 0.5
        assert points.rows_of("static, 4", "text_bits", "N").tolist() == []
        assert points.law_points(points.rows_of("baseline", "text_bits", "N"), "text_bits", "N").losses.tolist() == [
            1.5
        ]


def test_every_faulty_row_is_named_at_once(tmp_path: Path) -> None:
    path = tmp_path / "points.csv"
    path.write_text(
        "N,D,loss,accuracy/T→T/all,items/T→T/all\n1e6,2e7,3.5,0.5,100\nnan,2e7,3.5,,\n1e6,-3,3.5,,\n1e6,2e7,0,,\n"
        '1e6,,3.5,,\n1e6,2e7,,,\n"1,000,000",2e7,3.5,,\n1e6,2e7\n1e6,inf,3.5,,\n1_000,2e7,1e999,,\n'
        '1e6,2e7,"3,5",50,\n١٢,2e7,3.5,,0\n1e6,2e7,about 3,,\n',
        encoding="utf-8",
    )
    assert problems_of(path) == [
        "line 3: N must be a number, not 'nan'",
        "line 4: D must be above 0 and finite, not -3",
        "line 5: loss must be above 0 and finite, not 0",
        "line 6: D is empty",
        "line 7: no loss is given",
        "line 8: N must be a number, not '1,000,000' (write it with a point and without separators)",
        "line 9: 2 cells, the header has 5",
        "line 10: D must be a number, not 'inf'",
        "line 11: N must be a number, not '1_000' (write it with a point and without separators)",
        "line 11: loss must be above 0 and finite, not 1e999",
        "line 12: loss must be a number, not '3,5' (write it with a point and without separators)",
        "line 12: accuracy/T→T/all must be a share from 0 to 1, not 50",
        "line 13: N must be a number, not '١٢'",
        "line 13: items/T→T/all must be above 0 and finite, not 0",
        "line 14: loss must be a number, not 'about 3'",
    ]


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("N,D,loss,N", ["the column 'N' is there twice"]),
        (
            "n,D,Loss",
            [
                "the column N is missing (is it 'n'?)",
                "a loss is missing: one of the columns loss, speech_bits, text_bits (is it 'Loss'?)",
            ],
        ),
        (
            "params,tokens",
            [
                "the column N is missing",
                "the column D is missing",
                "a loss is missing: one of the columns loss, speech_bits, text_bits",
            ],
        ),
        (
            "N,D,loss,accuracy/S→S",
            ["the column 'accuracy/S→S' is not of the form accuracy/DIRECTION/STRATUM, such as accuracy/S→S/all"],
        ),
    ],
)
def test_headers_are_checked(header: str, expected: list[str], tmp_path: Path) -> None:
    path = tmp_path / "points.csv"
    path.write_text(f"{header}\n1,2,3,4\n", encoding="utf-8")
    assert problems_of(path) == expected


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, "is missing: give a CSV or JSON file"),
        (b"", "is empty: the first line names the columns"),
        (b"N,D,loss\n", "there are no rows below the header"),
        ("N,D,loss\n1,2,3".encode("utf-16"), "is not UTF-8"),
        (b'N,D,loss\n1,2,"3\n', "cannot be split into cells"),
    ],
)
def test_files_that_are_no_table_are_refused(content: bytes | None, expected: str, tmp_path: Path) -> None:
    path = tmp_path / "points.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=expected):
        read_points(path)


@pytest.mark.parametrize("content", ["[]", '{"version": 2, "points": []}', '{"version": 1, "points": [3]}', "{"])
def test_json_of_another_form_is_refused(content: str, tmp_path: Path) -> None:
    path = tmp_path / "points.json"
    path.write_text(content)
    with pytest.raises(UserError, match=r'write \{"version": 1, "points"'):
        read_points(path)
