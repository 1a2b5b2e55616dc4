"""Report the words that Perilune's text avoids, in files and in new commit messages: python lint/words.py"""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from pathlib import Path

RULES = tomllib.loads(Path(__file__).with_name("words.toml").read_text(encoding="utf-8"))
AVOID = [(re.compile(rf"\b(?:{words})\b", re.IGNORECASE), instead) for words, instead in RULES["avoid"].items()]
ANY = re.compile(rf"\b(?:{'|'.join(RULES['avoid'])})\b", re.IGNORECASE)  # faster than each of them on every line
ALLOWED = [(each["path"], re.compile(each["text"], re.IGNORECASE)) for each in RULES["exceptions"]]
TEXT = (".py", ".md", ".html", ".js", ".mjs", ".css", ".toml", ".ipynb", "Makefile")
SINCE = "2026-11-28"  # older commit messages are not checked


def found(where: str, text: str) -> list[str]:
    """Return one line for each avoided word in ``text``."""
    lines = []
    for number, line in enumerate(text.splitlines(), 1):
        kept = line.replace("_", " ")  # check the words of names, too
        if not ANY.search(kept):
            continue
        for path, allowed in ALLOWED:
            if fnmatch(where, path):
                kept = allowed.sub("", kept)
        lines += [
            f"{where}:{number}: {match[0]!r}: write {instead}"
            for word, instead in AVOID
            for match in word.finditer(kept)
        ]
    return lines


def main() -> None:
    """Check every text file of the repository and the commit messages."""
    git = ["git", "-C", str(Path(__file__).parents[1])]
    files = subprocess.run([*git, "ls-files"], capture_output=True, text=True, check=True).stdout.splitlines()
    report = []
    for name in files:
        path = Path(__file__).parents[1] / name
        if name.endswith(TEXT) and path.is_file() and "/vendor/" not in name:
            report += found(name, path.read_text(encoding="utf-8"))
    log = subprocess.run(
        [*git, "log", f"--since={SINCE}", "--format=%h %B"], capture_output=True, text=True, check=True
    )
    report += found("commit messages", log.stdout)
    print("\n".join(report))
    sys.exit(bool(report))


if __name__ == "__main__":
    main()
