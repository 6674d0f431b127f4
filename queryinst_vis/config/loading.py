"""Reading configurations: YAML files with parents, dotlist overrides, and plain values."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import asdict, dataclass, is_dataclass, replace
from io import StringIO
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from queryinst_vis.config.environment import is_unresolved, postpone_unset
from queryinst_vis.config.names import find_config
from queryinst_vis.config.ranges import check_numbers
from queryinst_vis.config.schema import Config
from queryinst_vis.errors import InputError, first_line


def load_config(path: str | Path, overrides: list[str] | None = None) -> Config:
    """Read a YAML config with its ``_base_`` parents and apply dotlist overrides.

    A string that refers to an unset environment variable is kept unchanged and causes an error
    only when it is used (``environment.resolved``).

    Args:
        path: the YAML file, or the name of a bundled config (``names.find_config``).
        overrides: ``["train.lr=1e-4", "model.backbone.name=resnet18", ...]``.

    Raises:
        InputError: missing or malformed file, unknown name or key (with the closest matches),
            wrong type, a number from an unset environment variable, a circular ``_base_``, or
            too many parents.

    Example::

        config = queryinst_vis.load_config("config.yaml", ["train.lr=1e-4"])
        print(config.train.lr, config.model.classes)
    """
    path = find_config(path)
    config = OmegaConf.structured(Config)
    for file, values in _read_layers(path, (), _Budget()):
        config = _merge(config, values, f"config {file}")
    overrides, planned = overrides or [], config.train.max_steps
    return _in_steps(_to_config(_override(config, overrides), f"config {path}"), planned, overrides)


def apply_overrides(config: Config, overrides: list[str]) -> Config:
    """A copy of the config with dotlist overrides applied.

    Raises:
        InputError: unknown key or wrong type.
    """
    values = postpone_unset(asdict(config), Config)
    merged = OmegaConf.merge(OmegaConf.structured(Config), values)
    assert isinstance(merged, DictConfig)
    changed = _to_config(_override(merged, overrides), "overrides")
    return _in_steps(changed, config.train.max_steps, overrides)


def config_from_dict(values: dict[str, Any], where: str) -> Config:
    """Rebuild a Config from plain values, as a checkpoint stores them.

    They are untrusted, so nothing in them is interpolated.

    Raises:
        InputError: the values do not fit the schema, or refer to an environment variable or
            another key (``${...}``); ``where`` names their origin.
    """
    _refuse_interpolation(values, "", where)
    return _to_config(_merge(OmegaConf.structured(Config), values, where), where)


def _refuse_interpolation(values: Any, key: str, where: str) -> None:
    children: Iterable[tuple[Any, Any]] = ()
    if isinstance(values, dict):
        children = values.items()
    elif isinstance(values, list | tuple):
        children = enumerate(values)
    elif isinstance(values, str) and "${" in values:
        raise InputError(
            f"{where}: '{key}' is {values!r}; the config in a weights file may contain only plain "
            "values, no references"
        )
    for name, value in children:
        _refuse_interpolation(value, f"{key}.{name}" if key else str(name), where)


def config_to_dict(config: Config) -> dict[str, Any]:
    """The config as plain dicts, lists, numbers and strings, without references.

    A string that refers to an unset environment variable was never used and becomes None.
    """
    return _without_unresolved(asdict(config))


def _without_unresolved(values: Any) -> Any:
    if isinstance(values, dict):
        return {key: _without_unresolved(value) for key, value in values.items()}
    if isinstance(values, list):
        return [_without_unresolved(value) for value in values]
    return None if is_unresolved(values) else values


def differences(first: Any, second: Any) -> dict[str, tuple[Any, Any]]:
    """The dotted keys in which two dataclasses of the same type differ, with both values."""
    one, other = (_flatten(_without_unresolved(asdict(values))) for values in (first, second))
    return {key: (one[key], other[key]) for key in one if one[key] != other[key]}


def _flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        nested = isinstance(value, dict)
        flat |= _flatten(value, f"{prefix}{key}.") if nested else {f"{prefix}{key}": value}
    return flat


def _override(config: DictConfig, overrides: list[str]) -> DictConfig:
    for override in overrides:
        config = _merge(config, _parse_override(override), f"override '{override}'")
    return config


def _in_steps(config: Config, planned: int, overrides: list[str]) -> Config:
    """Replace a length in epochs by ``train.max_steps``, if only that is overridden.

    Args:
        config: with the overrides.
        planned: ``max_steps`` without them, which the schedule refers to.
        overrides: as for ``load_config``.
    """
    named = {override.partition("=")[0].removeprefix("train.") for override in overrides}
    if config.train.epochs is None or "max_steps" not in named or "epochs" in named:
        return config
    recipe = replace(config.train, epochs=None, max_steps=planned)
    return replace(config, train=recipe.of_length(config.train.max_steps, named))


@dataclass
class _Budget:
    """Remaining limits for the parents of a config, which may branch exponentially."""

    files: int = 100
    size: int = 256 * 1024  # bytes; a megabyte of YAML takes many seconds

    def read(self, path: Path) -> str:
        """Read another file."""
        self.files -= 1
        if self.files < 0:
            raise InputError(
                f"config {path}: more than {_Budget.files} files through _base_, including "
                "repetitions"
            )
        with path.open("rb") as file:
            text = file.read(self.size + 1)
        self.size -= len(text)
        if self.size < 0:
            raise InputError(
                f"config {path}: a config and its _base_ files are limited to "
                f"{_Budget.size // 1024} KiB in total; is this a config?"
            )
        return text.decode("utf-8-sig")


def _read_layers(
    path: Path, children: tuple[Path, ...], budget: _Budget
) -> list[tuple[Path, dict[str, Any]]]:
    """The values of all parents, outermost first, followed by those of the file itself."""
    if path.resolve() in children:
        raise InputError(f"config {path}: _base_ leads back to the file itself")
    values = _read_yaml(path, budget)
    bases = values.pop("_base_", [])
    bases = [bases] if isinstance(bases, str) else bases
    if not isinstance(bases, list) or not all(isinstance(base, str) for base in bases):
        raise InputError(f"config {path}: _base_ must be a path or a list of paths, got {bases!r}")
    layers: list[tuple[Path, dict[str, Any]]] = []
    for base in bases:
        layers += _read_layers(find_config(base, path.parent), (*children, path.resolve()), budget)
    return [*layers, (path, values)]


def _read_yaml(path: Path, budget: _Budget) -> dict[str, Any]:
    try:  # OmegaConf's loader, unlike PyYAML's, rejects duplicate keys
        values = OmegaConf.to_container(OmegaConf.load(StringIO(budget.read(path))))
    except InputError:
        raise
    except (OSError, ValueError, yaml.YAMLError, OmegaConfBaseException, RecursionError) as error:
        reason = str(error).partition("full_key:")[0]
        raise InputError(f"config {path}: not readable as YAML ({reason.strip()})") from error
    if not isinstance(values, dict):
        raise InputError(f"config {path}: expected keys and values at the top level")
    return {str(key): value for key, value in values.items()}


def _parse_override(override: str) -> dict[str, Any]:
    if "=" not in override:
        raise InputError(f"override '{override}': expected key=value")
    try:
        values = OmegaConf.to_container(OmegaConf.from_dotlist([override]))
    except (OmegaConfBaseException, yaml.YAMLError) as error:
        raise InputError(f"override '{override}': not readable as YAML ({error})") from error
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}


def _merge(config: DictConfig, values: Any, where: str) -> DictConfig:
    _check_shape(values, Config, "", where)
    try:
        merged = OmegaConf.merge(config, postpone_unset(values, Config))
    except (OmegaConfBaseException, ValueError, TypeError, OverflowError) as error:
        key, reason = getattr(error, "full_key", None), _reason(error)
        raise InputError(f"{where}: wrong value for '{key}': {reason}") from error
    assert isinstance(merged, DictConfig)
    return merged


def _check_shape(values: Any, schema: Any, key: str, where: str) -> None:
    """Check keys, groups and lists against the schema; OmegaConf checks the leaves.

    OmegaConf finds most of these errors, too, but its messages lack the position of a key in a
    list and the name of a group that was given a plain value, and it accepts any value in a list.
    """
    if isinstance(values, str) and "${" in values:
        return  # refers to another part of the config; OmegaConf checks what it resolves to
    if get_origin(schema) is list:
        if not isinstance(values, list):
            raise InputError(f"{where}: '{key}' must be a list, got {values!r}")
        for index, value in enumerate(values):
            _check_shape(value, get_args(schema)[0], f"{key}[{index}]", where)
    elif is_dataclass(schema) or get_origin(schema) is dict:
        if not isinstance(values, dict):
            place = f"'{key}'" if key else "the top level"
            raise InputError(f"{where}: {place} must contain keys and values, got {values!r}")
        if is_dataclass(schema):
            _check_members(values, schema, f"{key}." if key else "", where)
    elif isinstance(values, list | dict):
        raise InputError(f"{where}: '{key}' must be a single value, got {values!r}")


def _check_members(values: dict[str, Any], schema: Any, prefix: str, where: str) -> None:
    members = get_type_hints(schema)
    for name, value in values.items():
        if name not in members:
            raise InputError(f"{where}: {_unknown_key(str(name), prefix, list(members))}")
        _check_shape(value, members[name], prefix + name, where)


def _unknown_key(name: str, prefix: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean '{prefix}{near[0]}'?" if near else f"valid keys: {', '.join(known)}"
    return f"unknown key '{prefix}{name}'; {hint}"


def _to_config(config: DictConfig, where: str) -> Config:
    try:
        result = OmegaConf.to_object(config)
    except (OmegaConfBaseException, RecursionError) as error:
        key, reason = getattr(error, "full_key", None), _reason(error)
        raise InputError(f"{where}: cannot resolve '{key}': {reason}") from error
    assert isinstance(result, Config)
    try:
        check_numbers(result)
    except InputError as error:
        raise InputError(f"{where}: {error}") from error
    return result


def _reason(error: BaseException) -> str:
    """The first line of OmegaConf's message, without its prefix; the rest is internal."""
    line = first_line(error)
    return line.removeprefix("KeyError raised while resolving interpolation: ")
