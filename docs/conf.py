"""How Sphinx builds the documentation: see the target ``docs`` of the Makefile."""

from importlib.util import find_spec

import sklearn_calm

project = "sklearn_calm"
author = "The sklearn_calm developers"
copyright = f"2026, {author}. BSD 3-Clause licence"
release = version = sklearn_calm.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
    "numpydoc",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
    "sphinx-mathjax-offline",  # so that formulas need no network
]
exclude_patterns = ["_build", "_templates", "examples"]
templates_path = ["_templates"]

# Links to other projects need the network while the pages are built, so they wait for a tag.
nitpicky = True
nitpick_ignore_regex = []
if tags.has("online"):  # noqa: F821, Sphinx puts it here
    intersphinx_mapping = {
        "joblib": ("https://joblib.readthedocs.io/en/stable", None),
        "matplotlib": ("https://matplotlib.org/stable", None),
        "numpy": ("https://numpy.org/doc/stable", None),
        "python": ("https://docs.python.org/3", None),
        "skl2onnx": ("https://onnx.ai/sklearn-onnx", None),
        "sklearn": ("https://scikit-learn.org/stable", None),
    }
else:
    nitpick_ignore_regex = [
        ("py:.*", r"(joblib|matplotlib|numpy|scipy|skl2onnx|sklearn)\..*"),
        # Docstrings inherited from scikit-learn point into its user guide.
        ("std:term", "meta-estimator"),
        ("std:ref", "(metadata_routing|df_output_transform|sphx_glr_.*plot_set_output.py)"),
    ]

autosummary_generate = True
autodoc_typehints = "none"
toc_object_entries_show_parents = "hide"
numpydoc_show_class_members = False
copybutton_exclude = ".linenos, .gp, .go"

# The example that needs PyTorch is shown, but not run where that is missing. The demonstration and
# other files not named plot_* are no pages of the gallery.
without_torch = find_spec("torch") is None
sphinx_gallery_conf = {
    "examples_dirs": "examples",
    "gallery_dirs": "auto_examples",
    "filename_pattern": r"/plot_(?!torch)" if without_torch else "/plot_",
    "ignore_pattern": "^(?!plot_)",
    "within_subsection_order": "FileNameSortKey",
    "doc_module": ("sklearn_calm",),
    "reference_url": {"sklearn_calm": None},
    "backreferences_dir": "api/backlinks",
    "capture_repr": (),
    "download_all_examples": False,
    "min_reported_time": 3600,  # times differ from build to build
    "remove_config_comments": True,
    "show_signature": False,
    "write_computation_times": False,
}

html_theme = "pydata_sphinx_theme"
html_title = f"sklearn_calm {release}"
html_static_path = ["_static"]
html_css_files = ["sklearn_calm.css"]
html_favicon = "_static/logo.svg"
html_show_sourcelink = False
html_theme_options = {
    "logo": {
        "text": "sklearn_calm",
        "image_light": "_static/logo.svg",
        "image_dark": "_static/logo.svg",
    },
    "header_links_before_dropdown": 5,
    "show_toc_level": 2,
    "navigation_with_keys": False,
    "footer_start": ["copyright"],
    "footer_end": [],
}
# Pages without pages below them have nothing to show in the left sidebar.
html_sidebars = {
    page: []
    for page in (
        "index",
        "answers",
        "benchmarks",
        "changelog",
        "contributing",
        "cookbook",
        "design",
        "mathematics",
        "onnx",
        "paper",
        "release",
        "scale",
        "stl10",
        "user_guide",
    )
}
