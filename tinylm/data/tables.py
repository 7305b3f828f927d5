"""Tables of texts: lines with tabs, with or without quotes, and CSV; which columns are read, the header, and blank lines."""

import csv
import io
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tinylm.data.corpora import read_text
from tinylm.errors import DataError

BAD_LINES = 0.01  # of the lines may be unusable, and one in any case
LONGEST_FIELD = 1 << 26  # characters; the csv module's own limit is 131,072
_NAMES = {"\t": "tab", ",": "comma", ";": "semicolon"}
_QUOTED = re.compile(r'(?:^|\t)"', re.MULTILINE)  # a field that begins with a quote
Records = list[tuple[int, list[str]]]  # (the line that a row begins in, its fields)


@dataclass(frozen=True)
class Column:
    """A column that is looked for in a header: by its names, else by others that two columns may have, such as languages."""

    what: str  # as messages call it
    names: tuple[str, ...]
    others: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Table:
    """The rows of a file, without its header and its blank lines."""

    path: Path
    rows: list[list[str]]  # the fields, without the spaces around them, those asked for first
    lines: list[int]  # where each row begins in the file
    separator: str  # a tab, a comma or a semicolon, by name
    notes: tuple[str, ...] = ()  # sentences about how the file was read, for the user
    plain: bool = True  # every line is a row, every tab separates, and all fields are there

    def unread(self, columns: int) -> str:
        """Returns a sentence about the lines with more than so many fields, the rest of which is not read; "" if there are none."""
        found = [i for i, row in enumerate(self.rows) if any(row[columns:])] if self.plain else []
        if not found:
            return ""
        first = f"line {self.lines[found[0]]}: {' '.join(self.rows[found[0]][columns:])!r:.60}"
        return f"what follows the second tab is not read, in {len(found):,} of {len(self.rows):,} lines, the first being {first}"

    def usable(self, problem: Callable[[list[str]], str], expected: str) -> tuple[list[list[str]], list[str]]:
        """Returns (the rows that can be used, why each of the others cannot). problem(row): why, "" if it can.

        Raises DataError if none can be used, or if more than 1 % of them cannot, and more than one.
        """
        found = [(row, line, problem(row)) for row, line in zip(self.rows, self.lines, strict=True)]
        kept = [row for row, _, why in found if not why]
        problems = [f"line {line} {why}" for _, line, why in found if why]
        if not kept:
            first = problems[0] if problems else "there is nothing but its header"
            csv_file = " (a file with commas is read as CSV if its name ends with .csv)" if self._may_be_csv() else ""
            raise DataError(f"{self.path} has no line that can be used, expected {expected!r}: {first}{csv_file}")
        if len(problems) > max(1, BAD_LINES * len(found)):
            raise DataError(f"{len(problems)} of the {len(found)} lines of {self.path} cannot be used, more than 1 %: {problems[0]}")
        return kept, problems

    def _may_be_csv(self) -> bool:
        return self.plain and bool(self.rows) and all(len(row) == 1 and "," in row[0] for row in self.rows)


def read_table(path: Path, encoding: str = "utf-8", columns: Sequence[Column] = (), shipped: bool = False) -> Table:
    """Reads a file of lines with tabs, or of CSV, and finds the columns in its header if it has one.

    A file is CSV if its name ends with .csv and it is not full of tabs: the separator is the comma or the semicolon, whichever gives
    more rows of the same length. Any other file has tabs. Its fields are quoted as in CSV if that can be seen: every field that
    begins with a quote ends with one, and a tab, a line break or a doubled quote is inside one, or every line has one. A line
    break within a field becomes a space. shipped: tabs without quotes and header, whatever the file looks like.

    Raises DataError as `read_text` does, and for CSV that is none, with the line.
    """
    text = read_text(path, encoding).removesuffix("\n")
    separator, quoted, records = ("\t", False, _split_at_tabs(text)) if shipped else _records(path, text)
    filled = [(line, [" ".join(field.split("\n")).strip() for field in fields]) for line, fields in records]
    blank = [line for line, fields in filled if not any(fields)]
    filled = [(line, fields) for line, fields in filled if any(fields)]
    notes = []
    header = None if shipped else _header([fields for _, fields in filled], columns)
    if header is not None or quoted:
        notes.append(_reading(path, separator, quoted, columns, header, filled))
    if blank:
        notes.append(
            f"{path}: {len(blank):,} blank line{'s are' if len(blank) > 1 else ' is'} passed over, the first being line {blank[0]}"
        )
    if header is not None:
        filled = [(line, _chosen(fields, header)) for line, fields in filled[1:]]
    lines, rows = [line for line, _ in filled], [fields for _, fields in filled]
    return Table(path, rows, lines, _NAMES[separator], tuple(notes), not quoted and header is None)


# ---------------------------------------------------------------- the dialect


def _split_at_tabs(text: str) -> Records:
    return [(number, line.split("\t")) for number, line in enumerate(text.split("\n"), 1)]


def _records(path: Path, text: str) -> tuple[str, bool, Records]:
    """Returns (the separator, whether fields may be quoted, the rows with their fields as they stand)."""
    lines = [line for line in text.split("\n") if line.strip()]
    if path.suffix.lower() == ".csv" and sum("\t" in line for line in lines) < (1 - BAD_LINES) * len(lines):
        separator, records = _separated(path, text)
        return separator, True, records
    plain = _split_at_tabs(text)
    if _QUOTED.search(text):
        try:
            parsed = _parse(text, "\t")
        except csv.Error:
            return "\t", False, plain
        if _shows_quotes(plain, parsed):
            return "\t", True, parsed
    return "\t", False, plain


def _parse(text: str, separator: str) -> Records:
    """Returns the rows as the csv module reads them. Raises csv.Error, with the line, for quotes that do not close."""
    before = csv.field_size_limit(LONGEST_FIELD)
    reader = csv.reader(io.StringIO(text), delimiter=separator, strict=True, skipinitialspace=separator != "\t")
    try:
        found: Records = []
        line = 1
        for fields in reader:
            found.append((line, fields))
            line = reader.line_num + 1
        return found
    except csv.Error as error:
        raise csv.Error(f"line {line}: {error}") from error
    finally:
        csv.field_size_limit(before)


def _separated(path: Path, text: str) -> tuple[str, Records]:
    """Returns (comma or semicolon, the rows of a CSV file)."""
    best: tuple[float, str, Records] | None = None
    problem: csv.Error | None = None
    for separator in ",;":
        try:
            records = _parse(text, separator)
        except csv.Error as error:
            problem = problem or error
            continue
        counts = Counter(len(fields) for _, fields in records if any(fields))
        regular = max((n for width, n in counts.items() if width > 1), default=0) / max(1, counts.total())
        if best is None or regular > best[0]:
            best = regular, separator, records
    if best is None or (problem is not None and not best[0]):
        raise DataError(f"{path}, {problem}; expected CSV, with every quote closed and quotes within a field doubled") from problem
    return best[1:]


def _shows_quotes(plain: Records, parsed: Records) -> bool:
    """Returns whether fields between quotes are meant as such, not texts that happen to be quotations.

    A field with both a line break and a tab is none: a quote in one line was taken to end in another one.
    """
    fields = [field for _, fields in parsed for field in fields]
    if any("\n" in field and "\t" in field for field in fields):
        return False
    whole = [[f[1:-1] for f in row if len(f) > 1 and f[0] == f[-1] == '"'] for _, row in plain if any(map(str.strip, row))]
    doubled = any('""' in f and '"' not in f.replace('""', "") for row in whole for f in row)
    in_every_line = (len(whole) > 1 and all(whole)) or (len(whole) > 2 and all(whole[1:]))  # but for a header
    return doubled or in_every_line or any("\n" in field or "\t" in field for field in fields)


# ---------------------------------------------------------------- the header


def _header(rows: Sequence[list[str]], columns: Sequence[Column]) -> list[int] | None:
    """Returns where the columns are, if the first row names them all and does not occur again; None if it does not."""
    if not rows or rows.count(rows[0]) > 1:
        return None
    names = [field.lower() for field in rows[0]]
    places: list[int] = []
    for column in columns:
        found = [i for name in column.names for i, each in enumerate(names) if each == name]  # the likeliest name comes first
        found = [i for i in (*found, *(i for i, each in enumerate(names) if each in column.others)) if i not in places]
        if not found:
            return None
        places.append(found[0])
    return places or None


def _chosen(fields: list[str], places: Sequence[int]) -> list[str]:
    """Returns the fields at these places; of a row that is too short, the first one only."""
    return [fields[i] for i in places] if len(fields) > max(places) else fields[:1]


def _reading(
    path: Path, separator: str, quoted: bool, columns: Sequence[Column], header: Sequence[int] | None, rows: Records
) -> str:  # fmt: skip
    """Returns the sentence about a file that is read in another way than line by line and tab by tab."""
    kind = f"CSV with {_NAMES[separator]}s" if separator != "\t" else "lines with tabs and quoted fields" if quoted else "lines with tabs"
    what = [column.what for column in columns]
    if header is None:
        more = "" if all(len(fields) <= len(columns) for _, fields in rows) else "; the other columns are not read"
        return f"{path} is read as {kind}, without a header: {' and '.join(what)} are its first {len(what)} columns{more}"
    line, names = rows[0]
    found = [f"{each} is column {i + 1} ({names[i]!r:.40})" for each, i in zip(what, header, strict=True)]
    return f"{path} is read as {kind}, with its header in line {line}: {', '.join(found)}"
