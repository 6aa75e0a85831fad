"""Loading a config file: its bases and the file are run in one namespace, with the options' values in it."""

from __future__ import annotations
import __future__ as future

import builtins
import copy
import os
import types
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from hatdet.config import shipped
from hatdet.config import source as src
from hatdet.config.config import Config
from hatdet.config.merge import merge, strip_marks
from hatdet.config.options import accepted, adapt, resolve_aliases, set_inside
from hatdet.config.recipes import Chosen
from hatdet.config.unread import unread_names
from hatdet.utils.errors import ConfigError, did_you_mean

_RESERVED = ("config_name",)


def load_config(
    path: str | os.PathLike[str],
    options: Mapping[str, object] | None = None,
    defaults: Mapping[str, object] | None = None,
) -> Config:
    """Run a config file.

    Bases (``_base_ = "file.py"``, or a list, relative to the file; ``hatdet:...`` for shipped ones) run first and
    their names are there for the file. A dict that the file assigns to a name of its bases is merged into
    theirs, in place; ``_delete_=True`` in a dict replaces instead. A constant that the file assigns (a literal)
    takes effect in its bases from their beginning. What ``_recipes_`` of a file says under the name that ``recipe``
    has counts as if the file assigned it (:mod:`hatdet.config.recipes`).

    A file that is MMDetection's own, by its names, is read as MMEngine reads it, and translated
    (:mod:`hatdet.config.mmdetection.load`).

    Args:
        path: the file, or the name of a shipped config (``hatdet:rtmdet/...``, :mod:`hatdet.config.shipped`).
        options: names and their values, put in place before the files run; and dotted keys, set afterwards.
            A dict is merged, afterwards too.
        defaults: names that every file finds predefined and may assign. Default: ``work_dir``,
            ``work_dirs/<stem of path>``.

    Returns:
        the module-level names: all that do not begin with ``_``, without modules, and without functions and
        classes that were imported or defined (a name *assigned* a class counts). ``config_name``, the stem
        of ``path``, is predefined and not part of the result.

    Raises:
        ConfigError: a file is missing or fails (with file and line), or an option does not fit.
    """
    from hatdet.config.mmdetection import load as mmdetection

    path = shipped.locate(path)
    if mmdetection.recognised(Path(path)):
        return mmdetection.load(path, options, defaults)
    source = src.read(path)
    name = source.path.stem
    predefined = {"work_dir": os.path.join("work_dirs", name)} if defaults is None else dict(defaults)
    files = src.linearize(source)
    aliases = {old: new for file in files for old, new in file.aliases().items()}
    options = resolve_aliases(options or {}, aliases)
    chosen = Chosen.of(files, options)
    rebound = _rebound(files, options, predefined, name, chosen)
    _check_resolved(files, rebound, predefined)
    namespace = _run(files, rebound, predefined, name, chosen)
    values = _public(namespace, files, predefined)
    rest = {key: value for key, value in options.items() if key not in rebound}
    if any(file.vocabulary() for file in files):
        rest = _translated(values, rest, (*values, *aliases))
    for key, value in rest.items():
        _apply(values, key, value, (*values, *aliases))
    strip_marks(values)
    literals = {name for file in files for name in (*file.literals(), *chosen.values(file))} & set(values)
    config = Config(values, Path(path), aliases, {**options, **rebound}, literals | set(rebound))
    config.unread = unread_names(files, values, aliases)
    config.recipes = chosen.names
    return config


def _translated(values: dict[str, Any], options: Mapping[str, object], known: Iterable[str]) -> dict[str, object]:
    """Translate a config in MMDetection's vocabulary, in place; gives the options that belong to the result."""
    from hatdet.config.mmdetection.native.translate import translate
    from hatdet.config.mmdetection.road import TRAINERS

    late = {key: value for key, value in options.items() if key.split(".")[0] in TRAINERS}
    for key, value in options.items():
        if key not in late:
            _apply(values, key, value, (*known, *TRAINERS))
    strip_marks(values)
    values.update(translate(values))
    return late


def _rebound(
    files: list[src.Source], options: Mapping[str, object], predefined: dict[str, Any], name: str, chosen: Chosen
) -> dict[str, Any]:
    """The options that are constants of the files, in the type of the value they replace."""
    assigned = {target for file in files for target in file.assigned()}
    imported = {target for file in files for target in file.imported()} - assigned
    known = assigned | set(predefined) | imported
    wanted = {key: value for key, value in options.items() if key in known and not key.startswith("_")}
    old = dict(predefined)
    computed = set(imported)
    for file in files:
        literals = file.literals()
        old.update(literals)
        computed = (computed | set(file.assigned())) - set(literals)
    if computed & set(wanted):
        # Only a run without options tells what they replace; where it fails there is nothing to compare with.
        try:
            plain = _run(files, {}, predefined, name, chosen)
        except ConfigError:
            plain = {}
        old.update({key: plain.get(key) for key in computed})
        public = _public(plain, files, predefined)
        wanted = {key: value for key, value in wanted.items() if key in public or key not in imported}
    free = {key for file in files for key, value in file.literals().items() if value is None}
    return {
        key: _adapted(key, value, old[key], key in free)
        for key, value in wanted.items()
        if not (isinstance(value, dict) and isinstance(old[key], dict))  # merged once the files have run
    }


def _adapted(key: str, value: Any, old: Any, free: bool) -> Any:
    """``value`` in the type of ``old``; where a base says None (``free``), as it is if that does not fit.

    ``amp = None`` in the base and ``amp = "auto"`` in the variant: ``amp=True`` is for who receives it to judge.
    """
    try:
        return adapt(key, value, old)
    except ConfigError:
        if free:
            return value
        raise


def _check_resolved(files: list[src.Source], rebound: Mapping[str, Any], predefined: Mapping[str, Any]) -> None:
    """In what :func:`hatdet.config.dump.dump` wrote, a constant is a number that nothing is computed from any more."""
    for file in files:
        assigned = file.assigned()
        for key in rebound:
            if src.RESOLVED in assigned and key in assigned and key not in predefined:
                raise ConfigError(
                    f"option {key}: {src.shown(file.path)} is a resolved config, in which nothing is computed from"
                    f" {key!r}, so the option would change nothing; give it to the config that this one was made"
                    " from, or set the keys themselves (float_trainer.num_epochs=3)"
                )


def _run(
    files: list[src.Source], rebound: Mapping[str, Any], predefined: Mapping[str, Any], name: str, chosen: Chosen
) -> dict[str, Any]:
    namespace: dict[str, Any] = {
        "__builtins__": builtins,
        "__name__": "__config__",
        "config_name": name,
        **predefined,
        **{key: value for key, value in rebound.items() if key in predefined},
    }
    for index, file in enumerate(files):
        values = dict(chosen.values(file))
        for later in files[index + 1 :]:
            if file.path in later.ancestors():
                values.update(later.literals())
                values.update(chosen.values(later))
        values.update(rebound)
        inherited = {key for earlier in files[:index] for key in earlier.assigned()}
        namespace[src.REBOUND] = values
        namespace[src.MERGE] = lambda key, value: _merged(namespace.get(key), value)
        namespace["__file__"] = str(file.path)
        tree = src.rebind(copy.deepcopy(file.tree), values, inherited)
        src.execute(tree, file.path, namespace)
    return namespace


def _merged(old: Any, new: Any) -> Any:
    return merge(old, new) if isinstance(old, dict) and isinstance(new, dict) else new


def _public(namespace: dict[str, Any], files: list[src.Source], predefined: Iterable[str]) -> dict[str, Any]:
    assigned = {name for file in files for name in file.assigned()} | set(predefined)
    transient = {name for file in files for name in file.transient()}
    found = {}
    for name, value in namespace.items():
        if name.startswith("_") or name in _RESERVED:
            continue
        if isinstance(value, (types.ModuleType, future._Feature)):
            continue
        imported = isinstance(value, (dict, list, tuple, str, int, float)) and name not in transient
        if name in assigned or imported:
            found[name] = value
    return found


def _apply(values: dict[str, Any], key: str, value: Any, known: Iterable[str]) -> None:
    head = key.split(".")[0]
    if head not in values:
        raise ConfigError(f"option {key}: the config has no {head!r}{did_you_mean(head, known)}")
    if head != key:
        set_inside(values, key, value, accepted)
    elif isinstance(values[key], dict) and isinstance(value, dict):
        values[key] = merge(values[key], value)
    else:
        raise ConfigError(
            f"option {key}: no file of the config assigns {key!r} (a loop or 'import *' binds it), so the option"
            f" could not reach what is derived from it; assign it in the config: {key} = ..."
        )
