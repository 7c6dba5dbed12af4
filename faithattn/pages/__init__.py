"""Pages to read: a document, and its renderings as HTML, Markdown and plain text."""
