"""What came out, to read: tables, files, figures."""

from faithattn.paper.report.files import (
    instance_records,
    prepare_folder,
    results,
    write_report,
)
from faithattn.paper.report.tables import text_table

__all__ = ["instance_records", "prepare_folder", "results", "text_table", "write_report"]
