"""What came out, to read: tables, pages, files, figures."""

from faithattn.pages.files import prepare_folder
from faithattn.paper.report.document import document_of
from faithattn.paper.report.files import instance_records, results, write_report
from faithattn.paper.report.tables import text_table

__all__ = [
    "document_of",
    "instance_records",
    "prepare_folder",
    "results",
    "text_table",
    "write_report",
]
