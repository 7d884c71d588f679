"""Reads one set of a snapshot with pyarrow, DuckDB and Python's own JSON and gzip, and compares them row by row."""

import gzip
import json
import sys
from datetime import timezone
from pathlib import Path

import duckdb
import pyarrow.parquet as parquet

folder = Path(sys.argv[1])
listed = json.loads((folder / "set.json").read_text())
with gzip.open(folder / "set.json.gz") as file:
    assert json.load(file) == listed, "gzip and plain differ"
table = parquet.read_table(folder / "set.parquet")
assert table.num_rows == len(listed), f"{table.num_rows} rows, {len(listed)} records"


def shown(moment):
    if moment is None:
        return None
    moment = moment.astimezone(timezone.utc)
    digits = f"{moment.microsecond // 1000:03}" if moment.microsecond % 1000 == 0 else f"{moment.microsecond:06}"
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{digits}Z"


def record(row):
    day = lambda date: None if date is None else f"{date.isoformat()}T00:00:00.000Z"
    made = {
        "id": row["id"],
        "position": row["position"],
        "is_active": row["is_active"],
        "start_date": day(row["start_date"]),
        "end_date": day(row["end_date"]),
        "additional_info": None if row["additional_info"] is None else json.loads(row["additional_info"]),
        "inserted_at": shown(row["inserted_at"]),
        "updated_at": shown(row["updated_at"]),
    }
    return {name: value for name, value in made.items() if value is not None}


by_key = {row["_key"]: record(row) for row in table.to_pylist()}
assert by_key == {row["id"]: row for row in listed}, "pyarrow and JSON differ"
group = parquet.ParquetFile(folder / "set.parquet").metadata.row_group(0)
assert all(group.column(i).statistics is not None for i in range(group.num_columns)), "statistics are missing"

path = str(folder / "set.parquet")
count, newest = duckdb.sql(f"select count(*), max(_changed)::text from read_parquet('{path}')").fetchall()[0]
assert count == len(listed) and newest is not None
of_duckdb = {key: position for key, position in duckdb.sql(f"select _key, position from read_parquet('{path}')").fetchall()}
assert of_duckdb == {row["id"]: row["position"] for row in listed}, "DuckDB and JSON differ"
in_json = duckdb.sql(f"select count(*) from read_json('{folder / 'set.json.gz'}')").fetchall()[0][0]
assert in_json == len(listed), "DuckDB doesn't read the list"
print(len(listed))
