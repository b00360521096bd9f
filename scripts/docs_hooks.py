"""What the docs site changes in pages: links out of docs/ into the checkout become plain text."""

from __future__ import annotations

import re
from typing import Any

OUTSIDE = re.compile(r"\[([^\]]+)\]\((?:\.\./|benchmarks/)[^)]*\)")


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Called by mkdocs for each page."""
    return OUTSIDE.sub(r"\1", markdown)
