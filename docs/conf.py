"""Sphinx configuration: MyST pages, reference by autodoc, examples that run (`sphinx-build -b doctest`)."""

import os
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_ext"))

# Compiled programs of the examples are kept between builds, also for `run_tutorial.py`.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(HERE / "_build" / "compiled"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")

from polyfed import __version__  # noqa: E402  (after the environment is set)

project = "polyfed"
author = "the polyfed contributors"
copyright = "the polyfed contributors, Apache-2.0"
release = version = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.doctest",
    "sphinxcontrib.bibtex",
    "sphinx_copybutton",
    "part_fields",  # the fields of a part, with their units, in its reference
    "from_the_code",  # help texts, tables of experiments and of quantities
]
exclude_patterns = ["_build", "_ext", "results/data"]

myst_enable_extensions = ["colon_fence", "deflist", "fieldlist"]
myst_heading_anchors = 3
suppress_warnings = ["myst.xref_missing"] if os.environ.get("POLYFED_DOCS_DRAFT") else []

default_role = "code"  # docstrings mark code with single backticks
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True}
autodoc_preserve_defaults = True
autodoc_typehints = "signature"
napoleon_numpy_docstring = False
napoleon_use_rtype = False
python_maximum_signature_line_length = 88
add_module_names = False
toc_object_entries_show_parents = "hide"

bibtex_bibfiles = ["../references.bib"]
bibtex_default_style = "plain"
bibtex_reference_style = "author_year"

doctest_test_doctest_blocks = ""  # docstrings are tested where they stand, by pytest; here only what the pages show
doctest_global_setup = """
import os, tempfile
_before, _here = os.getcwd(), tempfile.TemporaryDirectory()
os.chdir(_here.name)
"""
doctest_global_cleanup = """
os.chdir(_before)
_here.cleanup()
"""

html_theme = "furo"
html_title = f"polyfed {release}"
html_show_sphinx = False
html_static_path = ["_static"]
html_css_files = ["polyfed.css"]
html_theme_options = {"navigation_with_keys": True}

copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
copybutton_line_continuation_character = "\\"
