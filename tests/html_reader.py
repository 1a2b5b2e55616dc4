"""Read HTML: its tags, texts and tables."""

from __future__ import annotations

from html.parser import HTMLParser

VOID = ("img", "meta")  # tags without an end


class Html(HTMLParser):
    """The tags of a page with their attributes, its texts, and the cells of its tables. Fail if tags are not nested."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.texts: list[str] = []
        self.rows: list[list[str]] = []
        self._open: list[str] = []
        self.feed(page)
        assert self._open == []

    @property
    def words(self) -> str:
        return "".join(self.texts)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self._open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)
        if {"td", "th"} & {*self._open}:
            self.rows[-1][-1] += data

    def named(self, tag: str) -> list[dict[str, str]]:
        return [attributes for found, attributes in self.tags if found == tag]

    def row(self, name: str) -> list[str]:
        (found,) = [row for row in self.rows if row and row[0] == name]
        return found[1:]
