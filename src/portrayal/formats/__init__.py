"""File formats of other tools, as pure functions: tensors and strings in, bytes and text out."""
