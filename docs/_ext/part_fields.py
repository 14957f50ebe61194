"""Sphinx extension: the reference of a part lists its fields, each with its default, its unit and its comment.

The comment beside a field is its documentation (and its command-line help), so it is read from the source and not
written a second time.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import io
import re
import textwrap
import tokenize
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx


def comments_beside(source: str) -> dict[int, str]:
    """Line number -> the comment at the end of that line."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {t.start[0]: t.string.lstrip("# ").rstrip() for t in tokens if t.type == tokenize.COMMENT}


def field_comments(cls: type) -> dict[str, str]:
    """What stands beside each field of a class, and of the classes from which it inherits fields."""
    found: dict[str, str] = {}
    for owner in reversed(cls.__mro__):
        if not owner.__module__.startswith("polyfed"):
            continue
        try:
            source = textwrap.dedent(inspect.getsource(owner))
        except (OSError, TypeError):
            continue
        beside = comments_beside(source)
        for node in ast.parse(source).body[0].body:  # type: ignore[attr-defined]
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                lines = range(node.lineno, (node.end_lineno or node.lineno) + 1)
                comment = next((beside[n] for n in reversed(lines) if n in beside and "noqa" not in beside[n]), "")
                found[node.target.id] = comment.partition("type: ignore")[0].rstrip(" #")
    return found


def describe(field: dataclasses.Field, comment: str) -> str:
    """One line of reStructuredText."""
    facts = []
    if field.default is not dataclasses.MISSING:
        facts.append(f"default ``{field.default!r}``")
    if "unit" in field.metadata:
        unit, low, high = (field.metadata[k] for k in ("unit", "low", "high"))
        facts.append(f"{'a pure number' if unit == '1' else unit}, {low:g} to {high:g}")
    if field.metadata.get("static"):
        facts.append("static")
    text = comment.replace("*", r"\*").replace("|", r"\|").replace("`", "``").replace("_ ", r"\_ ")
    return f"- ``{field.name}``" + (f" ({'; '.join(facts)})" if facts else "") + (f": {text}" if text else "")


def append_fields(_app: Sphinx, what: str, _name: str, obj: Any, _options: Any, lines: list[str]) -> None:
    """`autodoc-process-docstring`: the fields after everything that the docstring says."""
    if what != "class" or not dataclasses.is_dataclass(obj) or not obj.__module__.startswith("polyfed"):
        return
    own = [f for f in dataclasses.fields(obj) if f.init and not f.name.startswith("_")]
    if not own or any(line.strip().startswith(".. attribute::") for line in lines):
        return
    comments = field_comments(obj)
    if all(describe(f, comments.get(f.name, "")) == describe(f, "") == f"- ``{f.name}``" for f in own):
        return  # nothing to say beyond the signature
    lines += ["", ".. rubric:: Fields", "", *(describe(f, comments.get(f.name, "")) for f in own), ""]


COLON = "\ue000"  # stands for a colon that napoleon must not take for the end of a type
CODE = re.compile(r"`[^`\n]+`")


def hide_colons(_app: Sphinx, what: str, _name: str, _obj: Any, _options: Any, lines: list[str]) -> None:
    """`autodoc-process-docstring` before napoleon: a colon in code, or in a property's sentence, is only a colon."""
    for i, line in enumerate(lines):
        if line.lstrip().startswith((">>>", "...")):
            continue
        is_sentence = i == 0 and what in ("property", "attribute", "data")
        lines[i] = line.replace(":", COLON) if is_sentence else CODE.sub(lambda m: m[0].replace(":", COLON), line)


def show_colons(_app: Sphinx, _what: str, _name: str, _obj: Any, _options: Any, lines: list[str]) -> None:
    """`autodoc-process-docstring` after napoleon: back again."""
    lines[:] = [line.replace(COLON, ":") for line in lines]


MODULES = re.compile(r"~?\b(?:jax\.)?(?:jaxtyping|jaxlib\._jax)\.")
KEY = re.compile(r"Key\[Array, ''\](?: \| UInt32\[Array, '\d'\])*")


def shorten(text: str | None) -> str | None:
    """Types as they are written in the code.

    >>> shorten("(key: jaxtyping.Key[jaxlib._jax.Array, ''] | jaxtyping.UInt32[jaxlib._jax.Array, '2'])")
    '(key: PRNGKeyArray)'
    """
    return text and KEY.sub("PRNGKeyArray", MODULES.sub("", text))


def shorten_signature(
    _app: Sphinx, _what: str, _name: str, _obj: Any, _options: Any, signature: str | None, returns: str | None
) -> tuple[str | None, str | None]:
    """`autodoc-process-signature`."""
    return shorten(signature), shorten(returns)


def shorten_types(_app: Sphinx, doctree: nodes.document) -> None:
    """`doctree-read`: the types of properties, which no event of autodoc hands out."""
    for signature in doctree.findall(addnodes.desc_signature):
        for text in list(signature.findall(nodes.Text)):
            if MODULES.search(text):
                text.parent.replace(text, nodes.Text(MODULES.sub("", text)))


def setup(app: Sphinx) -> dict[str, bool]:
    """Runs after napoleon, which would otherwise read the fields into the last section of the docstring."""
    app.connect("autodoc-process-docstring", append_fields, priority=900)
    app.connect("autodoc-process-docstring", hide_colons, priority=100)
    app.connect("autodoc-process-docstring", show_colons, priority=800)
    app.connect("autodoc-process-signature", shorten_signature)
    app.connect("doctree-read", shorten_types)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
