"""Tables as people have them: CSV, quoted lines with tabs, headers, blank lines; and lines with tabs as they always were."""

from pathlib import Path

import pytest

from tinylm.data.labelled import COLUMNS as LABELLED_COLUMNS
from tinylm.data.labelled import load_labelled
from tinylm.data.pairs import COLUMNS as PAIR_COLUMNS
from tinylm.data.pairs import load_pairs, read_pairs
from tinylm.data.tables import Table, read_table
from tinylm.errors import DataError


def table(folder: Path, text: str, name: str = "data.tsv", columns=LABELLED_COLUMNS) -> Table:
    path = folder / name
    path.write_text(text, encoding="utf-8", newline="")
    return read_table(path, "utf-8", columns)


@pytest.mark.parametrize(("separator", "kind"), [(",", "commas"), (";", "semicolons")])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_csv_with_a_header_is_read_by_its_names(separator: str, kind: str, newline: str, tmp_path: Path) -> None:
    lines = ["id;review;sentiment", '1;"Good, or; ""fine""";pos', "2; Bad ;neg", '3;"two', 'lines";pos', "", "4;so so;neg"]
    found = table(tmp_path, newline.join(line.replace(";", separator) for line in lines) + newline, "data.csv")
    first = 'Good, or; "fine"'.replace(";", separator)
    assert found.rows == [["pos", first], ["neg", "Bad"], ["pos", "two lines"], ["neg", "so so"]]
    assert found.lines == [2, 3, 4, 7]
    assert found.notes == (
        f"{tmp_path / 'data.csv'} is read as CSV with {kind}, with its header in line 1: label is column 3 ('sentiment'), "
        "text is column 2 ('review')",
        f"{tmp_path / 'data.csv'}: 1 blank line is passed over, the first being line 6",
    )
    assert found.unread(2) == ""


def test_csv_without_a_header_is_read_by_position(tmp_path: Path) -> None:
    found = table(tmp_path, 'pos,"a, b",x\nneg,c,y\n', "DATA.CSV")
    assert [row[:2] for row in found.rows] == [["pos", "a, b"], ["neg", "c"]]
    assert found.notes == (
        f"{tmp_path / 'DATA.CSV'} is read as CSV with commas, without a header: label and text are its first 2 columns; the other columns "
        "are not read",
    )


def test_the_likeliest_name_of_a_column_is_taken(tmp_path: Path) -> None:
    assert table(tmp_path, "title,text,class,label\nt,b,c,l\n", "a.csv").rows == [["l", "b"]]


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ('0\t"with a\ttab"\n1\tplain\n', [["0", "with a\ttab"], ["1", "plain"]]),
        ('0\t"a ""doubled"" one"\n1\tplain\n', [["0", 'a "doubled" one'], ["1", "plain"]]),
        ('0\t"over\ntwo lines"\n1\tplain\n', [["0", "over two lines"], ["1", "plain"]]),
        ('0\t"all"\n1\t"quoted"\n', [["0", "all"], ["1", "quoted"]]),
        ('label\ttext\n"0"\t"all"\n"1"\t"quoted"\n', [["0", "all"], ["1", "quoted"]]),
    ],
)
def test_lines_with_tabs_and_quoted_fields(text: str, rows: list[list[str]], tmp_path: Path) -> None:
    found = table(tmp_path, text)
    assert found.rows == rows
    assert f"{tmp_path / 'data.tsv'} is read as lines with tabs and quoted fields, with" in found.notes[0]


@pytest.mark.parametrize(
    "text",
    [
        '0\t"A quotation," he said\n1\tplain\n',  # it begins with a quote that closes before its end
        '0\t"A whole quotation."\n1\tplain\n',
        '0\t"A whole quotation."\n1\tplain\n2\tplain\n',
        '0\t"Begun here.\n1\tplain\n2\tand ended here."\n3\tplain\n',  # not one field of three lines
        '0\tan inch is 1"\n1\t"\n',
        "0\ta, b\n1\tc, d\n",
    ],
)
def test_quotations_are_no_quoted_fields(text: str, tmp_path: Path) -> None:
    found = table(tmp_path, text)
    assert found.rows == [line.split("\t") for line in text.splitlines()]
    assert (found.lines, found.notes) == ([*range(1, len(found.rows) + 1)], ())


def test_a_csv_name_for_lines_with_tabs(tmp_path: Path) -> None:
    found = table(tmp_path, "0\ta, b\n1\tc; d\n", "data.csv")
    assert (found.rows, found.notes) == ([["0", "a, b"], ["1", "c; d"]], ())


def test_broken_csv_is_one_error_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data\.csv, line 3: ',' expected after '\"'; expected CSV, with every quote closed"):
        table(tmp_path, 'pos,fine\nneg,"bad"\npos,"so" so\n', "data.csv")
    with pytest.raises(DataError, match=r"data\.csv, line 2: unexpected end of data"):
        table(tmp_path, 'pos,fine\nneg,"bad\npos,good\n', "data.csv")


def test_commas_in_a_file_of_another_name_are_named(tmp_path: Path) -> None:
    found = table(tmp_path, "pos,fine\nneg,bad\n", "data.txt")
    with pytest.raises(DataError, match=r"line 1 is bad \(a file with commas is read as CSV if its name ends with \.csv\)"):
        found.usable(lambda row: "is bad", "label TAB text")


@pytest.mark.parametrize("name", ["data.tsv", "data.csv"])
def test_blank_lines_and_a_header_are_never_fatal(name: str, tmp_path: Path) -> None:
    """However few lines there are besides, and however many of these."""
    separator = "\t" if name.endswith("tsv") else ","
    text = f"\nlabel{separator}text\n\n \npos{separator}good\n\n\nneg{separator}bad\n"
    data = load_labelled_text(tmp_path, text, name)
    assert (data.texts, data.names, data.skipped) == (["good", "bad"], ("neg", "pos"), 0)
    assert "header in line 2" in data.notes[0]
    assert "5 blank lines are passed over, the first being line 1" in data.notes[1]


def load_labelled_text(folder: Path, text: str, name: str):
    (folder / name).write_text(text, encoding="utf-8")
    return load_labelled(folder / name)


def test_an_unknown_header_is_one_bad_line_at_most(tmp_path: Path) -> None:
    data = load_labelled_text(tmp_path, "verdict\twords\n1\tgood\n0\tbad\n", "small.tsv")
    assert (data.texts, data.skipped) == (["good", "bad"], 1)
    assert data.first_skipped == "line 1 has the label 'verdict', expected '0' or '1' (a further class needs 3 texts)"


def test_only_a_header(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no line that can be used, .*: there is nothing but its header"):
        load_labelled_text(tmp_path, "label\ttext\n", "small.tsv")


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("en\tde", ("a", "b")), ("English\tGerman", ("a", "b")), ("source\ttarget", ("a", "b")), ("target\tsource", ("b", "a")),
        ("de\tsource", ("b", "a")), ("one\ttwo", None), ("en\tde\nx\ty\nen\tde", None),
    ],
)  # fmt: skip
def test_headers_of_pairs(header: str, expected: tuple[str, str] | None, tmp_path: Path) -> None:
    """Two languages, or the names of the two sides; not words that occur again."""
    (tmp_path / "p.tsv").write_text(header + "\na\tb\n", encoding="utf-8")
    found = read_pairs(tmp_path / "p.tsv")
    assert found.pairs[-1] == (expected or ("a", "b"))
    assert len(found.pairs) == (1 if expected else len(header.splitlines()) + 1)
    assert bool(found.notes) == bool(expected)


def test_shipped_tables_are_read_as_they_always_were() -> None:
    for load, name in ((load_pairs, "web-rv1909"), (load_labelled, "uci-sentences")):
        assert load(name).notes == ()


def test_pairs_from_csv(tmp_path: Path) -> None:
    lines = "".join(f'{i},"one, {i}","uno, {i}"\n' for i in range(40))
    (tmp_path / "p.csv").write_text("id,en,es\n" + lines, encoding="utf-8")
    pairs = load_pairs(tmp_path / "p.csv")
    assert ("one, 7", "uno, 7") in pairs.train + pairs.validation + pairs.test
    assert (len(pairs.train), pairs.skipped, pairs.unread) == (36, 0, "")
    assert table(tmp_path, "id,en,es\n1,a\n", "q.csv", PAIR_COLUMNS).rows == [["1"]]
    (tmp_path / "q.csv").write_text("id,en,es\n" + lines + "1,a\n", encoding="utf-8")
    assert load_pairs(tmp_path / "q.csv").first_skipped == "line 42 has no comma"
