"""The text of book/settings.md: every setting of a profile, from the models that check them.

What a setting means is its comment in the model, the line `name: ...` of the model's docstring, or
the docstring's sentences that name it in backticks.
"""

from __future__ import annotations

import ast
import inspect
import json
import re
import textwrap
import types
import typing
from typing import Any

import annotated_types
from pydantic.fields import FieldInfo

from medddist.base.settings import Settings
from medddist.study.profile import Profile
from workflow.words import markdown_table

TITLES = {  # of the sections that are no setting of a profile
    "Recipe": "A recipe of training",
    "AugmentSettings": "Augmentation",
    "PrivacySettings": "DP-SGD",
    "ArchitectureSettings": "Architectures of the comparison",
    "PretrainSettings": "Self-supervised pretraining",
    "CondenseSettings": "Gradient and distribution matching",
    "NetworkSettings": "Network",
}
HEAD = """# Settings

These are the settings of a profile, with type, range and default. A profile states only what
differs from the defaults; examples are `medddist/profiles/*.yaml` and the file that `medddist init`
writes. To change a setting, give a command `--set distill.iterations=100`, or call
`load_profile("demo", {"distill.iterations": 100})`. An unknown name or a value out of range is
refused. A section that several settings share lists them first. This page is made from the models.
"""
COLUMNS = ("setting", "type and range", "default", "what it is")
BOUNDS = {"ge": "at least {}", "gt": "above {}", "le": "at most {}", "lt": "below {}"}
NAMES = {int: "integer", float: "number", bool: "`true` or `false`", str: "text"}
PLURAL = {"integer": "integers", "number": "numbers"}


def text() -> str:
    """Write the page, in MyST."""
    uses = _uses(Profile)
    lines = [HEAD, "## Of the whole profile", "", *_table(Profile, uses), ""]
    for kind, places in uses.items():
        lines += [f"({_target(kind)})=", f"## {_title(kind, places)}", "", _about(kind, places), ""]
        lines += [*_table(kind, uses), ""]
    return "\n".join(lines)


def explained(kind: type[Settings]) -> dict[str, str]:
    """Return what each of a model's own and inherited settings means, "" where nothing says it."""
    found = dict.fromkeys(kind.model_fields, "")
    for base in reversed(kind.__mro__):
        if issubclass(base, Settings) and base is not Settings:
            said = _comments(base)
            docstring = inspect.cleandoc(base.__doc__ or "")
            for name in found:
                parts = (_entry(docstring, name) or _sentences(docstring, name), said.get(name, ""))
                found[name] = "; ".join(filter(None, parts)) or found[name]
    return found


# ---- sections ------------------------------------------------------------------------------------


def _uses(kind: type[Settings], prefix: str = "") -> dict[type[Settings], list[str]]:
    """List the models inside a model, and under which names they are there, in order."""
    uses: dict[type[Settings], list[str]] = {}
    for name, field in kind.model_fields.items():
        if inner := _model(field):
            uses.setdefault(inner, []).append(f"{prefix}{name}")
            for deeper, places in _uses(inner, f"{prefix}{name}.").items():
                uses.setdefault(deeper, []).extend(places)
    return uses


def _model(field: FieldInfo) -> type[Settings] | None:
    """The model that a setting holds, or of which it is a list; of a recipe with other defaults,
    the recipe.
    """
    options = [field.annotation, *typing.get_args(field.annotation)]
    for option in options:
        if inspect.isclass(option) and issubclass(option, Settings):
            base = option.__base__
            same = base is not Settings and set(base.model_fields) == set(option.model_fields)
            return base if same else option
    return None


def _title(kind: type[Settings], places: list[str]) -> str:
    return TITLES.get(kind.__name__) or places[0].replace("_", " ").capitalize()


def _target(kind: type[Settings]) -> str:
    return f"settings-{kind.__name__.lower()}"


def _about(kind: type[Settings], places: list[str]) -> str:
    summary = " ".join(inspect.cleandoc(kind.__doc__).split("\n\n")[0].split())
    return f"{', '.join(f'`{place}`' for place in places)}: {summary}"


def _table(kind: type[Settings], uses: dict[type[Settings], list[str]]) -> list[str]:
    meaning, prefix = explained(kind), ""
    if len(uses.get(kind, ())) == 1:
        prefix = f"{uses[kind][0]}."
    rows = []
    for name, field in kind.model_fields.items():
        inner = _model(field)
        link = f"[{_title(inner, uses[inner])}](#{_target(inner)})" if inner else ""
        cells = f"`{prefix}{name}`", _kind(field, link), _default(field, inner), meaning[name]
        rows.append([cell.replace("|", "\\|") for cell in cells])
    return markdown_table(COLUMNS, rows)


# ---- cells ---------------------------------------------------------------------------------------


def _kind(field: FieldInfo, link: str) -> str:
    told = _type(field.annotation, link)
    return ", ".join(filter(None, (told, _range(field.metadata))))


def _type(annotation: Any, link: str) -> str:
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        return " or ".join(f"`{value}`" for value in inner)
    if origin in (types.UnionType, typing.Union):
        return " or ".join(_type(one, link) for one in inner)
    if origin is tuple:
        what, *bounds = _type(inner[0], link).split(", ")
        return ", ".join((f"list of {PLURAL.get(what, what)}", *bounds))
    if origin is dict:
        return "settings by name"
    if origin is typing.Annotated:
        return ", ".join(filter(None, (_type(inner[0], link), _range(inner[1:]))))
    return "`null`" if annotation is type(None) else NAMES.get(annotation) or link


def _range(metadata: typing.Iterable) -> str:
    told = []
    for bound in metadata:
        for name, words in BOUNDS.items():
            if hasattr(bound, name):
                told.append(words.format(f"{getattr(bound, name):g}"))
        if isinstance(bound, annotated_types.MultipleOf):
            told.append(f"a multiple of {bound.multiple_of}")
        if isinstance(bound, annotated_types.MinLen):
            told.append("not empty")
    return ", ".join(told)


def _default(field: FieldInfo, inner: type[Settings] | None) -> str:
    if field.is_required():
        return "none: it has to be given"
    value = field.default
    if isinstance(value, Settings):
        usual = inner().model_dump(mode="json") if _has_defaults(inner) else {}
        given = value.model_dump(mode="json").items()
        other = {name: one for name, one in given if usual.get(name, ...) != one}
        return ", ".join(f"`{name}: {_yaml(one)}`" for name, one in other.items())
    return f"`{_yaml(value)}`"


def _has_defaults(kind: type[Settings]) -> bool:
    return not any(field.is_required() for field in kind.model_fields.values())


def _yaml(value: Any) -> str:
    if isinstance(value, dict) and value:
        return "{" + ", ".join(f"{name}: {_yaml(one)}" for name, one in value.items()) + "}"
    if isinstance(value, float):
        return f"{value:g}"
    return value if isinstance(value, str) else json.dumps(value)


# ---- what the models say -------------------------------------------------------------------------


def _comments(kind: type[Settings]) -> dict[str, str]:
    """The comment behind each setting, or above it."""
    source = textwrap.dedent(inspect.getsource(kind))
    lines, said = source.splitlines(), {}
    for node in ast.parse(source).body[0].body:
        if isinstance(node, ast.AnnAssign):
            behind = lines[node.end_lineno - 1].encode()[node.end_col_offset :].decode()
            above, at = [], node.lineno - 2
            while lines[at].strip().startswith("#"):
                above.insert(0, lines[at].strip(" #"))
                at -= 1
            comment = behind.strip(" #") or " ".join(above)
            said[node.target.id] = comment
    return said


def _entry(docstring: str, name: str) -> str:
    """The docstring's line `name: ...`, or `a, name: ...`, with the lines that continue it."""
    found = re.search(rf"(?m)^(?:\w+, )*{name}(?:, \w+)*: (.*(?:\n +.*)*)", docstring)
    return " ".join(found[1].split()).rstrip(".") if found else ""


def _sentences(docstring: str, name: str) -> str:
    """The docstring's sentences that name the setting in backticks."""
    flat = " ".join(docstring.split())
    sentences = re.split(r"(?<=[.;])\s+(?=[A-Z`])", flat)
    told = " ".join(one for one in sentences if f"`{name}`" in one).rstrip(".;")
    return told.removeprefix(f"`{name}`: ")
