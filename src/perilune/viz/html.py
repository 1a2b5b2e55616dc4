"""What the pages that can be passed on have in common: one file, no script, nothing asked of any other machine."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape

from perilune._utils.text import printable

# Whatever a run or an agent may have put in: nothing in the page can run, and nothing can be fetched or sent.
POLICY = (
    "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
)
STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #5b6570; --line: #d8dde3; --paper: #fff; --raised: #f5f7f9;
  --error: #b42318; --warning: #8a5a00; --note: #0b6e99; --good: #1a7f37; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ed; --soft: #9aa4af; --line: #343b43; --paper: #14181d;
  --raised: #1c2229; --error: #ff8a80; --warning: #e5b567; --note: #6cc4ee; --good: #6fcf86; } }
* { box-sizing: border-box; }
body { font: 16px/1.55 system-ui, sans-serif; color: var(--ink); background: var(--paper); margin: 0 auto;
  padding: 2rem 1.2rem 4rem; max-width: 46rem; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: 0 0 .2rem; overflow-wrap: anywhere; }
h1.bad { color: var(--error); } h1.good { color: var(--good); }
h2 { font-size: 1.1rem; margin: 2.2rem 0 .3rem; }
.soft { color: var(--soft); } .error { color: var(--error); } .warning { color: var(--warning); }
.note { color: var(--note); } .good { color: var(--good); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .3rem 1rem; margin: .6rem 0; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
figure { background: #fff; margin: .8rem 0 0; padding: .6rem; border-radius: 4px; max-width: 34rem; }
figure svg { width: 100%; height: auto; }
code { font: .9em ui-monospace, monospace; } section { border-top: 1px solid var(--line); }
"""


def shown(text: str) -> str:
    """HTML that shows ``text``, whoever wrote it: nothing in it is markup, and what cannot be seen is its escape."""
    return escape(printable(text))


def document(title: str, body: str, style: str = "") -> str:
    """A whole page: ``title`` is text, ``body`` and ``style`` are put in as they are."""
    return (
        "<!doctype html>\n<html lang=en><head><meta charset=utf-8>"
        f'<meta http-equiv=Content-Security-Policy content="{POLICY}">'
        "<meta name=viewport content='width=device-width, initial-scale=1'><meta name=referrer content=no-referrer>"
        f"<title>{shown(title)}</title><style>{STYLE}{style}</style></head>\n<body><main>\n{body}\n</main></body></html>\n"
    )


def embedded(content: bytes, kind: str) -> str:
    """``content`` as an address that has it in it; ``kind`` is its media type."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def section(title: str, body: str) -> str:
    """A part of the page under a title, which is text."""
    return f"<section><h2>{escape(title)}</h2>\n{body}</section>"


def table(head: Sequence[str], rows: Sequence[Sequence[str]], kind: str = "") -> str:
    """A table, its first column the rows' names. Cells are HTML, for the caller to escape.

    It may be wider than a phone, and then scrolls by itself.
    """
    heads = "".join(f"<th scope=col>{cell}</th>" for cell in head)
    lines = "".join(
        f"<tr><th scope=row>{row[0]}</th>{''.join(f'<td>{cell}</td>' for cell in row[1:])}</tr>\n" for row in rows
    )
    rows_and_head = f"<thead><tr>{heads}</tr></thead><tbody>\n{lines}</tbody>"
    return wide(f"<table class='{escape(kind)}'>{rows_and_head}</table>", kind or "table")


def wide(body: str, label: str) -> str:
    """What may be wider than a phone: it scrolls by itself, with the keyboard too. ``body`` is HTML, ``label`` text."""
    return f"<div class=wide tabindex=0 role=group aria-label='{shown(label)}'>{body}</div>"
