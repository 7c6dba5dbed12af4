"""Pages to read: one document, as HTML, Markdown or text."""
