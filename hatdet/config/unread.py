"""Names that a config assigns and nothing reads: a misspelt option that would be ignored in silence."""

from __future__ import annotations

import ast
import difflib
import inspect
import symtable
from collections.abc import Iterable, Mapping
from typing import Any

from hatdet.config.source import RECIPE, RESOLVED, Source
from hatdet.utils.errors import did_you_mean

_STAGES = ("float", "calibration", "qat", "int_infer")
TOOLS = frozenset(
    (*(f"{stage}_{what}" for stage in _STAGES for what in ("trainer", "predictor")),
     "int_infer", "model", "deploy_model", "deploy_inputs", "data_loader", "val_data_loader", "calibration_data_loader",
     "work_dir", "ckpt_dir", "tta", "infer_cfg", "onnx_cfg", "compile_cfg", "target", "imgsz", "strides",
     "size_divisor", "base_batch_size", "calibration_observer")
)  # fmt: skip
"""Names that the commands read."""
_MMDETECTION = frozenset(
    ("data", "optimizer", "optimizer_config", "lr_config", "runner", "evaluation", "checkpoint_config", "log_config",
     "custom_hooks", "load_from", "resume_from", "workflow", "auto_scale_lr", "arithmetic",
     "equalize", "bias_correction", "weight_rounding", "weight_bits", "flash_budget", "qat_scales",
     "teacher", "qat_teacher",
     # of the machine: nothing here depends on them
     "dist_params", "log_level", "opencv_num_threads", "mp_start_method", "cudnn_benchmark")
)  # fmt: skip
"""Names that a config in MMDetection's vocabulary may have besides."""
_TEXT = "nothing reads this name, so it would change nothing{}; names of your own begin with '_'"
_DYNAMIC = frozenset(("globals", "locals", "vars", "eval", "exec"))


def unread_names(files: Iterable[Source], values: Mapping[str, Any], aliases: Mapping[str, str]) -> dict[str, str]:
    """Names that the files assign, that no expression of theirs and no command reads; with what to say of each.

    A name that begins with an underscore is the user's own. Of names that one statement assigns together, one that is
    read is enough. A file that looks names up itself (``globals()``) may read any, and so may a resolved config.

    Args:
        values: the public names of the config. aliases: older names of options -> their names.
    """
    files = list(files)
    scopes = [tables(file) for file in files]
    read = {name for found in scopes for name in referenced(found)}
    assigned = {name for file in files for name in file.assigned()}
    if read & _DYNAMIC or RESOLVED in assigned:
        return {}
    known = TOOLS | (_MMDETECTION if any(file.vocabulary() for file in files) else frozenset())
    known |= {RECIPE} if any(file.recipes() for file in files) else frozenset()
    read |= {n for file in files for names in _together(file) if names & (read | known) for n in names}
    problems, names = {}, (read & assigned) | known
    for name in sorted({name for found in scopes for name in bound(found)} - assigned - read - known):
        near = did_you_mean(name, difflib.get_close_matches(name, names, cutoff=0.8))
        if near and not name.startswith("_"):  # a loop's counter that nothing reads is no misspelt option
            problems[name] = _TEXT.format(near)
    for name in sorted(assigned - read - known):
        value = values.get(name, ...)
        if name.startswith("_") or value is ... or inspect.isclass(value) or inspect.isroutine(value):
            continue
        problems[name] = _TEXT.format(did_you_mean(aliases.get(name, name), names))
    return problems


def referenced(tables: Iterable[symtable.SymbolTable]) -> set[str]:
    """Global names that the expressions of a file read, those inside its functions and comprehensions too."""
    symbols = [(table.get_type() == "module", symbol) for table in tables for symbol in table.get_symbols()]
    return {s.get_name() for outside, s in symbols if s.is_referenced() and (outside or s.is_global())}


def bound(tables: Iterable[symtable.SymbolTable]) -> set[str]:
    """Global names that a file binds in whatever way: loops, ``with``, ``:=``, ``match``, ``global`` in a function."""
    symbols = [(table.get_type() == "module", s) for table in tables for s in table.get_symbols() if s.is_assigned()]
    return {
        s.get_name()
        for outside, s in symbols
        if (not (s.is_imported() or s.is_namespace()) if outside else s.is_declared_global())
    }


def tables(file: Source) -> list[symtable.SymbolTable]:
    """The names of a file, then those of every function, class and comprehension in it."""
    found = [symtable.symtable(ast.unparse(file.tree), str(file.path), "exec")]
    for table in found:  # grows
        found += table.get_children()
    return found


def _together(file: Source) -> list[set[str]]:
    """The names of each ``a, b = ...``."""
    statements = {id(s): s for found in file.assigned().values() for s in found if isinstance(s, ast.Assign)}
    targets = [target for statement in statements.values() for target in statement.targets]
    return [
        {node.id for node in ast.walk(target) if isinstance(node, ast.Name)}
        for target in targets
        if isinstance(target, (ast.Tuple, ast.List))
    ]
