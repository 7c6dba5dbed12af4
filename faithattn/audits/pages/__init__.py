"""What an audit found, to read and to compute with: pages, JSON, CSV, figures."""

from faithattn.audits.pages.document import document_of, summary_of
from faithattn.audits.pages.files import write_report
from faithattn.audits.pages.schema import SCHEMA_VERSION, as_dict, records

__all__ = ["SCHEMA_VERSION", "as_dict", "document_of", "records", "summary_of", "write_report"]
