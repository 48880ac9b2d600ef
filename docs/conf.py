"""How Sphinx builds the site."""

import inspect
from importlib import import_module
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel

project = "Skyloom"
html_title = "Skyloom"
html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["wide.css"]
html_copy_source = False
html_show_copyright = False
html_show_sphinx = False

extensions = ["myst_parser", "numpydoc", "sphinx.ext.autodoc", "sphinx.ext.autosummary"]
exclude_patterns = ["_static", "_templates"]
templates_path = ["_templates"]
myst_heading_anchors = 3  # Links to headings are checked, too.

add_module_names = False
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # The docstrings say types in words, with shapes and units.
numpydoc_show_class_members = False

# A name in single backticks is a link, and every link must lead somewhere.
default_role = "py:obj"
nitpicky = True
nitpick_ignore_regex = [
    ("py:class", r"(?!skyloom\.).*|.*\[.*"),  # base classes
    ("py:obj", r"[a-z_]+"),  # arguments
    ("py:obj", r"(astropy|dask|keras|specutils|tf)\..*"),  # other projects, read without a network
]


def kind(annotation: Any) -> str:
    """Write a type hint without the bounds of its parts."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return kind(parts[0])
    if origin is Literal:
        return " | ".join(repr(part) for part in parts)
    if origin is not None and parts:
        names = ["..." if part is Ellipsis else kind(part) for part in parts]
        if origin in (list, dict, tuple):
            return f"{origin.__name__}[{', '.join(names)}]"
        return " | ".join(names)
    return "None" if annotation is type(None) else getattr(annotation, "__name__", str(annotation))


def fields(model: type[BaseModel]):
    """Describe each field of a model: name, type with bounds, default, meaning."""
    signs = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<", "min_length": "length ≥"}
    for name, field in model.model_fields.items():
        bounds = [
            f"{sign} {getattr(entry, bound)}"
            for entry in field.metadata
            for bound, sign in signs.items()
            if getattr(entry, bound, None) is not None
        ]
        default = (
            "required" if field.is_required() else field.get_default(call_default_factory=True)
        )
        nested = isinstance(default, BaseModel) or (
            isinstance(default, tuple) and any(isinstance(part, BaseModel) for part in default)
        )
        yield (
            f"``{name}``",
            f"``{kind(field.annotation)}``" + (f" {', '.join(bounds)}" if bounds else ""),
            "see there" if nested else f"``{default}``",
            field.description or "",
        )


def describe_fields(app, what, name, obj, options, lines):
    """Add the parameters to the description of a model, from what validates them."""
    if what != "class" or not issubclass(obj, BaseModel) or not obj.model_fields:
        return
    lines += ["", ".. list-table::", "   :header-rows: 1", "   :widths: 22 26 20 32", ""]
    for cells in [("parameter", "type", "default", "meaning"), *fields(obj)]:
        lines += [f"   {'  -' if i else '* -'} {cell}" for i, cell in enumerate(cells)]
    lines.append("")


def sign(app, what, name, obj, options, signature, returns):
    """Leave out what the table of the parameters says again."""
    if what == "class" and issubclass(obj, BaseModel):
        return "", None
    return None


def skip(app, what, name, obj, skip, options):
    """Leave out attributes of classes, which stand in their docstrings."""
    if inspect.isclass(obj) and ("[" in name or obj.__name__ != name):
        return True  # a generic model with its types: pydantic adds it to the module, "[" and all
    if what == "class" and not (inspect.isroutine(obj) and obj.__doc__):
        return not isinstance(obj, property)
    return None


def constants(app, env, node, text):
    """Columns and other constants that have no entry of their own, but exist."""
    name, module = node["reftarget"], node.get("py:module")
    return text if name.isupper() and module and hasattr(import_module(module), name) else None


def setup(app):
    """Connect what is defined above."""
    app.connect("missing-reference", constants)
    app.connect("autodoc-process-docstring", describe_fields)
    app.connect("autodoc-process-signature", sign)
    app.connect("autodoc-skip-member", skip)
