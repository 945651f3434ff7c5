"""Labelled pairs, read from every format and judged before anything is computed."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from pipeline.config.pairs import Pairs, ScoredPairs
from pipeline.errors import InputError
from pipeline.evaluate.pairs import LabelledPairs, RatedPairs, read_pairs, read_rated

ROWS = [("a plane", "an aeroplane", 1), ('a "red" bus', "a cat", 0), ("tea", "milk", 1)]


def write(folder: Path, kind: str, rows: list[tuple[Any, Any, Any]]) -> Path:
    path = folder / f"pairs.{kind}"
    named = [dict(zip(("sentence1", "sentence2", "label"), row, strict=True)) for row in rows]
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(named), path, row_group_size=2)
    elif kind == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in named))
    else:
        quote = (lambda text: '"' + str(text).replace('"', '""') + '"') if kind == "csv" else str
        lines = [("sentence1", "sentence2", "label"), *rows]
        path.write_text("".join(("," if kind == "csv" else "\t").join(map(quote, line)) + "\n" for line in lines))
    return path


@pytest.mark.parametrize("kind", ["parquet", "jsonl", "csv", "tsv"])
def test_pairs_are_those_of_the_file_whatever_its_format(tmp_path: Path, kind: str) -> None:
    source = Pairs(paths=(str(write(tmp_path, kind, ROWS)),), quotes=kind != "tsv")
    first, second, labels = zip(*ROWS, strict=True)
    assert read_pairs(source, "pairs") == LabelledPairs(first, second, labels)


def test_scores_become_labels_and_those_in_between_are_left_out(tmp_path: Path) -> None:
    rows = [("a", "b", score) for score in (5.0, 4.0, 3.9, 1.1, 1.0, 0.0)]
    source = Pairs(paths=(str(write(tmp_path, "parquet", rows)),), positive_from=4, negative_to=1)
    pairs = read_pairs(source, "pairs")
    assert (pairs.labels, pairs.positive, pairs.left_out) == ((1, 1, 0, 0), 2, 2)


def test_rows_of_another_split_are_passed_over_whatever_is_in_them(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    rows = [{"sentence1": "a", "sentence2": "b", "label": label, "split": split} for label, split in
            [(1, "train"), (0, "train"), (7, "test")]]  # fmt: skip
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert read_pairs(Pairs(paths=(str(path),), only={"split": "train"}), "pairs").labels == (1, 0)


@pytest.mark.parametrize("kind", ["parquet", "jsonl", "csv"])
@pytest.mark.parametrize(
    ("row", "said"),
    [
        (("a", "", 1), "column 'sentence2' is empty; expected text"),
        (("  ", "b", 1), "column 'sentence1' is empty; expected text"),
        (("a", "b", 2), "column 'label' holds '?2'?; expected 0 or 1 .for scores set positive_from and negative_to"),
    ],
)
def test_a_row_that_cannot_be_used_is_named(tmp_path: Path, kind: str, row: tuple[Any, ...], said: str) -> None:
    """Found after an epoch, it costs that epoch; left out without a word, it is missing in what is learnt."""
    path = write(tmp_path, kind, [*ROWS, row])
    counted, place = (
        ("", "line 4") if kind == "jsonl" else (r" \(counted from 0, without header and blank lines\)", "row 3")
    )
    with pytest.raises(InputError, match=rf"pairs: 1 row can't be used{counted}\n  {path}, {place}: {said}"):
        read_pairs(Pairs(paths=(str(path),)), "pairs")


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"sentence1": None, "sentence2": "b", "label": 1}, "line 2: column 'sentence1' holds nothing; expected text"),
        ({"sentence1": 5, "sentence2": "b", "label": 1}, "column 'sentence1' holds 5; expected text"),
        ({"sentence1": {"a": 1}, "sentence2": "b", "label": 1}, "column 'sentence1' holds {'a': 1}; expected text"),
        (
            {"sentence1": "\ud800", "sentence2": "b", "label": 1},
            "column 'sentence1' holds half of a surrogate pair",
        ),
        ({"sentence1": "a", "sentence2": "b", "label": 10**400}, "column 'label' holds 10000.*; expected a number"),
        ({"sentence1": "a", "sentence2": None, "label": 1}, "column 'sentence2' holds nothing; expected text"),
        ({"sentence1": "a", "sentence2": "b", "label": None}, "column 'label' holds nothing; expected a number"),
        ({"sentence1": "a", "sentence2": "b"}, "column 'label' holds nothing; expected a number"),
    ],
)
def test_what_is_missing_is_told(tmp_path: Path, row: dict[str, Any], said: str) -> None:
    path = tmp_path / "pairs.jsonl"
    good = {"sentence1": "a", "sentence2": "b", "label": 0}
    path.write_text("".join(json.dumps(one) + "\n" for one in (good, row)))
    with pytest.raises(InputError, match=said):
        read_pairs(Pairs(paths=(str(path),)), "pairs")


def test_many_bad_rows_are_counted_and_a_few_of_them_named(tmp_path: Path) -> None:
    path = write(tmp_path, "parquet", [("a", "b", 9)] * 2000)
    with pytest.raises(InputError) as caught:
        read_pairs(Pairs(paths=(str(path),)), "evaluation")
    assert caught.value.message.startswith("evaluation: 2,000 rows can't be used")
    assert caught.value.message.endswith("and 1,995 more")


@pytest.mark.parametrize("kind", ["parquet", "jsonl", "csv", "tsv"])
def test_a_column_that_is_not_there_is_told_with_those_that_are(tmp_path: Path, kind: str) -> None:
    path = write(tmp_path, kind, ROWS)
    with pytest.raises(InputError, match=r"there is no column 'stars'; it has 'sentence1', 'sentence2', 'label'$"):
        read_pairs(Pairs(paths=(str(path),), label="stars", quotes=kind != "tsv"), "pairs")


@pytest.mark.parametrize("label", [0, 1])
def test_pairs_of_one_label_alone_teach_nothing_and_measure_nothing(tmp_path: Path, label: int) -> None:
    path = write(tmp_path, "parquet", [("a", "b", label)] * 3)
    with pytest.raises(InputError, match=f"{3 * label} pairs have label 1 and {3 - 3 * label} have 0. Both are needed"):
        read_pairs(Pairs(paths=(str(path),)), "pairs")


def test_bounds_for_scores_come_together_and_in_order() -> None:
    for bounds in ({"positive_from": 4}, {"negative_to": 1}, {"positive_from": 1, "negative_to": 1}):
        with pytest.raises(ValidationError, match="positive_from"):
            Pairs(paths=("a",), **bounds)


def test_a_row_that_can_not_be_read_is_named_whatever_its_split(tmp_path: Path) -> None:
    """Nothing is known of its other columns, and it would be passed over as one of another split."""
    path = tmp_path / "pairs.jsonl"
    row = json.dumps({"sentence1": "a", "sentence2": "b", "label": 0, "split": "train"})
    path.write_text(f"{row}\n{row[:-1]}\n")
    with pytest.raises(InputError, match=r"line 2: the line is not a JSON object"):
        read_pairs(Pairs(paths=(str(path),), only={"split": "train"}), "pairs")


def test_bytes_that_are_not_utf8_are_named_where_quotes_are_text(tmp_path: Path) -> None:
    """Old benchmark files are in Latin-1."""
    path = tmp_path / "pairs.tsv"
    path.write_bytes("sentence1\tsentence2\tlabel\ncafé\tb\t1\na\tb\t0\n".encode("latin-1"))
    with pytest.raises(InputError, match=r"pairs\.tsv, row 0: column 'sentence1' holds bytes that are not UTF-8"):
        read_pairs(Pairs(paths=(str(path),), quotes=False), "pairs")


def test_a_column_that_is_there_twice_is_refused_where_quotes_are_text(tmp_path: Path) -> None:
    path = tmp_path / "pairs.tsv"
    path.write_text("sentence1\tsentence2\tlabel\tlabel\na\tb\t1\t0\n")
    with pytest.raises(InputError, match="2 columns are called 'label'"):
        read_pairs(Pairs(paths=(str(path),), quotes=False), "pairs")


def test_scores_of_people_are_read_and_must_differ(tmp_path: Path) -> None:
    path = tmp_path / "rated.jsonl"
    rows = [{"sentence1": "a", "sentence2": "b", "score": 4.5}, {"sentence1": "c", "sentence2": "d", "score": 0}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = ScoredPairs(paths=(str(path),))
    assert read_rated(source, "sts.x") == RatedPairs(("a", "c"), ("b", "d"), (4.5, 0.0))
    path.write_text(json.dumps(rows[0]) + "\n")
    with pytest.raises(InputError, match=r"sts\.x: 1 pair, all with one score"):
        read_rated(source, "sts.x")
    path.write_text(json.dumps(rows[0] | {"score": "good"}) + "\n")
    with pytest.raises(InputError, match=r"column 'score' holds 'good'; expected a number"):
        read_rated(source, "sts.x")


def test_a_line_that_is_not_json_is_named_as_an_editor_counts(tmp_path: Path) -> None:
    """No setting of these pairs would set it aside, so none is advised."""
    path = tmp_path / "pairs.jsonl"
    good = json.dumps({"sentence1": "a", "sentence2": "b", "label": 0})
    path.write_bytes(f"{good}\n\n{good[:-1]}\n[{good}]\n".encode() + b'{"sentence1": "caf\xe9"}\n')
    with pytest.raises(InputError) as caught:
        read_pairs(Pairs(paths=(str(path),)), "pairs")
    assert caught.value.message.splitlines() == [
        "pairs: 3 rows can't be used",
        f"  {path}, line 3: the line is not a JSON object; expected one on each line",
        f"  {path}, line 4: the line is not a JSON object; expected one on each line",
        f"  {path}, line 5: the row holds text that is not valid UTF-8",
    ]


def test_each_label_is_judged_for_itself(tmp_path: Path) -> None:
    """Writers mix 1 and "1"; a column has no type here, and no job was resolved with one."""
    path = tmp_path / "pairs.jsonl"
    rows = [{"sentence1": "a", "sentence2": "b", "label": label} for label in (1, "0", 1.0, True, "yes")]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows[:-1]))
    assert read_pairs(Pairs(paths=(str(path),)), "pairs").labels == (1, 0, 1, 1)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(InputError, match=r"line 5: column 'label' holds 'yes'; expected a number"):
        read_pairs(Pairs(paths=(str(path),)), "pairs")


def test_files_may_have_their_labels_in_types_of_their_own(tmp_path: Path) -> None:
    for name, labels in (("a", [1, 0]), ("b", ["1", "0"])):
        pq.write_table(
            pa.table({"sentence1": ["a", "b"], "sentence2": ["c", "d"], "label": labels}), tmp_path / f"{name}.parquet"
        )
    none = pa.table({name: pa.array([], pa.string()) for name in ("sentence1", "sentence2", "label")})
    pq.write_table(none, tmp_path / "none.parquet")
    assert read_pairs(Pairs(paths=(str(tmp_path),)), "pairs").labels == (1, 0, 1, 0)


@pytest.mark.parametrize(
    ("quotes", "advice"),
    [
        (True, "check its quotation marks, or set `quotes: false` where they are text$"),
        (False, "holds 'x'; expected a number"),
    ],
)
def test_quotation_marks_that_have_no_end_are_told_with_what_to_set(tmp_path: Path, quotes: bool, advice: str) -> None:
    path = tmp_path / "pairs.csv"
    path.write_text('sentence1,sentence2,label\na,b,1\n"a,b,x\n')
    with pytest.raises(InputError, match=rf"row 1\b.*{advice}" if quotes else advice):
        read_pairs(Pairs(paths=(str(path),), quotes=quotes), "pairs")


def test_a_row_of_too_few_fields_is_named_with_how_rows_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "pairs.csv"
    path.write_text("sentence1,sentence2,label\n\na,b,1\na,b\n")
    with pytest.raises(
        InputError, match=r"row 1 \(counted from 0, without header and blank lines\): 2 fields, but the header"
    ):
        read_pairs(Pairs(paths=(str(path),)), "pairs")


@pytest.mark.parametrize("name", ["pairs.txt", "pairs.text.gz", "pairs.md", "pairs"])
def test_files_without_columns_are_refused_by_name(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("a line\n")
    with pytest.raises(
        InputError, match=r"the name does not tell a format with columns; name only files ending in \.arrow,"
    ):
        read_pairs(Pairs(paths=(str(tmp_path / name),)), "pairs")
    with pytest.raises(ValidationError, match="format"):
        Pairs(paths=("a",), format="text")  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["pairs.tsv", "pairs.csv", "pairs.jsonl"])
@pytest.mark.parametrize("quotes", [True, False])
def test_files_without_a_row_are_told(tmp_path: Path, name: str, quotes: bool) -> None:
    (tmp_path / name).touch()
    with pytest.raises(InputError, match=rf"{name}: there is no row in it, nor in any other file of the set"):
        read_pairs(Pairs(paths=(str(tmp_path / name),), quotes=quotes), "pairs")


def test_columns_may_come_from_folders_and_from_within_others(tmp_path: Path) -> None:
    for label, name, text in (
        (1, "a.jsonl", json.dumps({"of": {"one": "a"}, "sentence2": "b"})),
        (0, "b.csv", "of.one,sentence2\nc,d"),
    ):
        (tmp_path / f"label={label}").mkdir()
        (tmp_path / f"label={label}" / name).write_text(text)
    pairs = read_pairs(Pairs(paths=(str(tmp_path),), first="of.one"), "pairs")
    assert pairs == LabelledPairs(("c", "a"), ("d", "b"), (0, 1))


def test_a_split_that_is_not_there_is_told_with_those_that_are(tmp_path: Path) -> None:
    """JSON's true is not the text "true", and 0 pairs say nothing of that."""
    path = tmp_path / "pairs.jsonl"
    rows = [{"sentence1": "a", "sentence2": "b", "label": n % 2, "dev": bool(n % 2), "n": n} for n in range(20)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(
        InputError, match=r"pairs: no row of .*pairs\.jsonl is one of .*; column 'dev' holds 'False', 'True'$"
    ):
        read_pairs(Pairs(paths=(str(path),), only={"dev": "true"}), "pairs")
    with pytest.raises(InputError, match=r"column 'n' holds '0', '1', .*'7', …$"):
        read_pairs(Pairs(paths=(str(path),), only={"n": "1.0"}), "pairs")
