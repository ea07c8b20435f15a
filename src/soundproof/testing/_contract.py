"""The rules that every component keeps, and which rules each role adds."""

from __future__ import annotations

import ast
import importlib
import inspect
import itertools
import json
import textwrap
from collections.abc import Callable
from types import ModuleType

from soundproof.core import registry
from soundproof.core.component import Component
from soundproof.core.errors import InvalidInputError
from soundproof.testing._check import Check, ensure
from soundproof.testing._samples import samples

Rule = Callable[[type[Component]], None]

_ROLE_RULES = {
    "triggers": "soundproof.testing._trigger",
    "attacks": "soundproof.testing._attack",
    "models": "soundproof.testing._model",
    "defenses/repair": "soundproof.testing._repair",
    "metrics": "soundproof.testing._metric",
}
"""Modules with the rules of a role. They are imported when a component of that role is checked."""

_PUBLISHED = ("triggers", "attacks", "models", "defenses/repair")
_ADVERSARIAL = ("triggers", "attacks", "defenses/repair")


def checks_for(component: type[Component]) -> tuple[Check, ...]:
    """Every check that applies to a component: those of all components, then those of its role."""
    rules: list[Rule] = [
        is_final,
        is_documented,
        has_metadata,
        survives_its_spec,
        is_frozen,
        refuses_unknown_fields,
        keeps_its_presets,
    ]
    home = _ROLE_RULES.get(component.group)
    if home is not None:
        rules += _rules_of(importlib.import_module(home))
    return tuple(Check(component, rule) for rule in rules)


def check_component(component: type[Component]) -> None:
    """Run :func:`checks_for` one after the other.

    Raises:
        AssertionError: at the first rule that is broken.
    """
    for check in checks_for(component):
        check()


def _rules_of(module: ModuleType) -> list[Rule]:
    return [
        rule
        for name, rule in vars(module).items()
        if inspect.isfunction(rule) and rule.__module__ == module.__name__ and not name.startswith("_")
    ]


def is_final(component: type[Component]) -> None:
    """Abstract or final: a component is marked ``@final`` and stands on roles only."""
    name = component.full_name()
    ensure(getattr(component, "__final__", False), f"{name}: mark the class with typing.final")
    for base in component.__mro__[1:]:
        if issubclass(base, Component) and base is not Component:
            ensure(inspect.isabstract(base), f"{name} subclasses the component {base.__name__}; wrap it instead")


def is_documented(component: type[Component]) -> None:
    """A sentence about the class, and one about each field."""
    name = component.full_name()
    ensure(component.__doc__ is not None and bool(component.summary()), f"{name} needs a docstring")
    ensure(component.summary().endswith("."), f"{name}: the first line of the docstring must be a sentence")
    written = _described(component)
    for field, info in component.model_fields.items():
        ensure(
            bool(info.description) or field in written,
            f"{name}.{field} needs a docstring below it: what it is, its unit, what it may be",
        )


def _described(component: type[Component]) -> set[str]:
    """Fields with a string below them, whether or not pydantic was told to read it."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(component))).body[0]
    found: set[str] = set()
    body = tree.body if isinstance(tree, ast.ClassDef) else []
    for line, below in itertools.pairwise(body):
        if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name) and _is_text(below):
            found.add(line.target.id)
    return found


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def has_metadata(component: type[Component]) -> None:
    """Where it was published, who could do it, what we changed, under which license."""
    name, group = component.full_name(), component.group
    ensure(group in registry.GROUPS, f"{name}: there is no group '{group}'")
    ensure(bool(component.licence.strip()), f"{name}: say under which license it stands (licence)")
    ensure(all(line.strip() for line in component.deviations), f"{name}: an entry of deviations is empty")
    if group in _PUBLISHED:
        ensure(bool(component.paper.strip()), f"{name}: say where the method was published (paper)")
    if group in _ADVERSARIAL:
        ensure(bool(component.threat_model.strip()), f"{name}: say who could do it, or what it needs (threat_model)")


def survives_its_spec(component: type[Component]) -> None:
    """A component is its spec: through JSON and back it is equal, with the same fingerprint."""
    for one in samples(component):
        spec = json.loads(json.dumps(one.to_spec()))
        again = registry.from_spec(component.group, spec)
        ensure(again == one, f"{component.full_name()} does not survive its spec: {one!r} became {again!r}")
        ensure(again.fingerprint() == one.fingerprint(), f"{component.full_name()}: equal specs, other fingerprints")
        ensure(type(again) is component, f"{component.full_name()}: the registry holds another class of that name")


def is_frozen(component: type[Component]) -> None:
    """Fields cannot be assigned."""
    one = next(samples(component))
    for field in component.model_fields:
        try:
            setattr(one, field, getattr(one, field))
        except (TypeError, ValueError):
            continue
        raise AssertionError(f"{component.full_name()}.{field} can be assigned; components are frozen")


def refuses_unknown_fields(component: type[Component]) -> None:
    """A field that does not exist is an error that names it."""
    one = next(samples(component))
    fields = {name: getattr(one, name) for name in component.model_fields}
    try:
        component(**fields, no_such_field=1)
    except InvalidInputError as error:
        ensure("no_such_field" in str(error), f"{component.full_name()}: the error must name the unknown field")
        return
    raise AssertionError(f"{component.full_name()} accepts the field 'no_such_field'")


def keeps_its_presets(component: type[Component]) -> None:
    """A preset is the fields that it stands for, fields beside it count more, and an unknown one is an error."""
    name = component.full_name()
    needed = next(samples(component))
    given = {field: getattr(needed, field) for field, info in component.model_fields.items() if info.is_required()}
    for preset, fields in component.presets.items():
        plainly = component(**{**given, **fields})
        ensure(component(preset=preset, **given) == plainly, f"{name}: the preset '{preset}' is not its fields")
        table = {"name": component.short_name(), "preset": preset, **needed.to_spec()}
        ensure(registry.from_spec(component.group, table) == needed, f"{name}: '{preset}' overrides fields beside it")
        ensure("preset" not in plainly.to_spec(), f"{name}: a spec holds what a preset stands for, not its name")
    try:
        component(preset="no_such_preset", **given)
    except InvalidInputError as error:
        said = all(word in str(error) for word in ("preset", *component.presets))
        ensure(said, f"{name}: the error about an unknown preset must name those that there are")
        return
    raise AssertionError(f"{name} accepts the preset 'no_such_preset'")
