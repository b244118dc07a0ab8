"""Documents, of a source or of a corpus, as the toolkit's JSON lines."""

from __future__ import annotations

import pyarrow as pa

from olmo_core.documents.shards import column
from olmo_core.dolma_export.json_columns import fields, joined, quoted

COLUMNS = ("id", "text", "source", "added", "created", "metadata")


def document_lines(table: pa.Table) -> pa.LargeStringArray:
    """Return one JSON object with its line feed for each row of a table with `COLUMNS`.

    `added` and `created` are left out where they are null: the toolkit's decoder takes a string there, or nothing.
    `metadata` is canonical JSON already and goes in as it is, so that reading it back gives the same bytes.
    """
    pieces = [
        joined(f',"{name}":', quoted(column(table, name))) for name in COLUMNS if name != "metadata"
    ]  # fmt: skip
    metadata = joined(',"metadata":', column(table, "metadata").cast(pa.large_string()))
    return joined(fields(table.num_rows, *pieces, metadata), "\n")
