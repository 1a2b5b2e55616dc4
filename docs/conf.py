"""Configuration of the documentation site: `make docs` builds it into docs/_build/html."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx

sys.path.insert(0, str(Path(__file__).parent))

from _generate import write_pages

from perilune import __version__

project = "Perilune"
author = "The Perilune authors"
release = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinx_design",
]
exclude_patterns = ["_build", "results"]
nitpicky = True
nitpick_ignore_regex = [
    # Types of other libraries. The site is built without a network, so their inventories are not available.
    (r"py:class", r"Array|DTypeLike|Path"),
    # Names without an entry in the reference pages.
    (r"py:class", r"(.*\.)?(AgentSettings|Comparison|Env|Estimate|Located|Panel|Record|Scale)"),
    (r"py:class", r"(.*\.)?(TrainSettings|TrainingSummary)"),
    (
        r"py:.*",
        r"(np|numpy|gymnasium|gym|collections|hashlib|pathlib|typing|argparse|msgspec|av|rich|starlette|matplotlib)(\..*)?",
    ),
]

myst_enable_extensions = ["attrs_block", "colon_fence", "deflist", "dollarmath", "fieldlist"]
myst_heading_anchors = 3
html_math_renderer = "mathml"

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True

html_theme = "furo"
html_title = "Perilune"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_theme_options = {"navigation_with_keys": True}
html_show_sourcelink = False
copybutton_prompt_text = r"\$ |>>> |\.\.\. "
copybutton_prompt_is_regexp = True


def setup(app: Sphinx) -> None:
    """Generate pages and render equations as MathML, which needs neither scripts nor network access."""
    app.connect("builder-inited", lambda app: write_pages(Path(app.srcdir)))
    app.connect("autodoc-process-docstring", _as_text, priority=400)  # before napoleon
    app.connect("autodoc-process-docstring", _shorten_types, priority=600)  # after it
    app.connect("autodoc-skip-member", _skip_field)
    app.add_html_math_renderer("mathml", (_equation("inline"), None), (_equation("block"), None))


def _equation(display: str) -> Callable[[Any, nodes.Element], None]:
    def visit(translator: Any, node: nodes.Element) -> None:
        translator.body.append(convert(node.astext(), display=display))
        raise nodes.SkipNode  # otherwise the LaTeX source would follow as text

    return visit


def _as_text(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Keep docstring text as written: |x| is an absolute value, and the text before a colon is not a type."""
    lines[:] = [line.replace("|", r"\|") for line in lines]
    if what in ("attribute", "data", "property"):
        lines.insert(0, "\\")  # an escaped line end, which is not displayed


def _shorten_types(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Show ``Array`` instead of the array type for which it stands."""
    array = re.compile(r"(numpy\.)?ndarray\[tuple\[Any, \.\.\.\], (numpy\.)?dtype\[Any\]\]")
    lines[:] = [array.sub("Array", line).replace("collections.abc.", "") for line in lines]


def _skip_field(app: Sphinx, what: str, name: str, obj: object, skip: bool, options: object) -> bool | None:
    """Skip the fields of named tuples, which the docstring of the class describes."""
    return True if type(obj).__name__ == "_tuplegetter" else None
