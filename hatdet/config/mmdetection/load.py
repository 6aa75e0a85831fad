"""Loading a config file that is MMDetection's, as it is."""

from __future__ import annotations

import difflib
import os
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from hatdet.config.config import Config
from hatdet.config.mmdetection.network import teacher
from hatdet.config.mmdetection.road import CALIBRATION, TRAINERS, WEIGHTS
from hatdet.config.mmdetection.syntax import files, options
from hatdet.config.mmdetection.whole import translate, version_of
from hatdet.config.options import accepted, adapt, set_inside
from hatdet.utils.errors import ConfigError, did_you_mean

SIGNS = frozenset(
    ("data", "train_dataloader", "val_dataloader", "test_dataloader", "optim_wrapper", "optimizer", "lr_config",
     "param_scheduler", "default_hooks", "default_scope", "train_cfg", "runner")
)  # fmt: skip
"""Names of which a config of MMDetection has at least one besides ``model``."""
STRONG = frozenset(("train_dataloader", "optim_wrapper", "default_scope", "param_scheduler", "lr_config"))
"""Names that only MMDetection has: a base file of it may be without ``model``."""
OWN = frozenset((*TRAINERS, "_vocabulary_", "_resolved_", "float_predictor", "deploy_model", "data_loader"))
"""Names that only configs in hatdet's own words have."""
VOCABULARY = SIGNS | frozenset(
    ("model", "val_cfg", "test_cfg", "val_evaluator", "test_evaluator", "custom_hooks", "auto_scale_lr", "load_from",
     "resume", "env_cfg", "randomness", "log_processor", "log_level", "visualizer", "vis_backends", "launcher",
     "tta_model", "tta_pipeline", "custom_imports", "work_dir", "optimizer_config", "momentum_config", "fp16",
     "evaluation", "checkpoint_config", "log_config", "resume_from", "workflow", "dist_params", "seed",
     "find_unused_parameters", "model_wrapper_cfg", "cudnn_benchmark", "opencv_num_threads", "mp_start_method")
)  # fmt: skip
"""Names that MMDetection reads."""
SETTINGS = frozenset(("arithmetic", "teacher", "qat_teacher", *CALIBRATION, *WEIGHTS))
"""Names that only hatdet reads: a config of MMDetection may assign them, or leave them to an option."""
_LATE = (*TRAINERS, "data_loader", "val_data_loader", "calibration_data_loader", "tta", "base_batch_size")
"""Names that the translation makes: options for them come after it."""


def recognised(path: Path) -> bool:
    """Whether a file is a config of MMDetection, by the names that it and its bases assign; nothing runs."""
    if not path.is_file():
        return False
    names = files.assigned(path.absolute())
    return not names & OWN and bool(names & (SIGNS if "model" in names else STRONG))


def read(path: Path, given: Mapping[str, object] | None = None) -> dict[str, Any]:
    """The names of a config of MMDetection in its own words, options applied; not translated.

    An option for a name that the files assign a constant to, and that MMDetection itself does not read
    (``data_root``, ``num_classes``), takes effect where the files use it.

    Raises:
        ConfigError: the file fails, or an option does not fit.
    """
    given = dict(given or {})
    values = files.read(path)
    plain = {key: value for key, value in given.items() if key in values and key not in VOCABULARY}
    rebound = {key: adapt(key, value, values[key]) for key, value in plain.items() if not isinstance(value, dict)}
    if rebound:
        values = files.read(path, rebound)
    rest = {key: value for key, value in given.items() if key not in rebound}
    for key in rest:
        head = key.split(".")[0]
        if head not in values and head not in VOCABULARY | SETTINGS:
            known = (*values, *VOCABULARY, *SETTINGS, *_LATE)
            raise ConfigError(f"option {key}: the config has no {head!r}{did_you_mean(head, known)}")
    options.apply(values, rest)
    return values


def load(
    path: str | os.PathLike[str],
    given: Mapping[str, object] | None = None,
    defaults: Mapping[str, object] | None = None,
) -> Config:
    """A config of MMDetection in hatdet's words; see :func:`hatdet.config.load.load_config`.

    Raises:
        ConfigError: what has no counterpart, with its path.
    """
    file, given = Path(path), dict(given or {})
    late = {key: value for key, value in given.items() if key.split(".")[0] in _LATE}
    values = read(file, {key: value for key, value in given.items() if key not in late})
    _read_teacher(values, file)
    predefined = {"work_dir": os.path.join("work_dirs", file.stem)} if defaults is None else dict(defaults)
    for name, value in predefined.items():
        values.setdefault(name, value)
    result = {name: values[name] for name in predefined} | translate(values, file.stem)
    for key, value in late.items():
        if key.split(".")[0] not in result:
            raise ConfigError(f"option {key}: the config has no {key.split('.')[0]!r}{did_you_mean(key, result)}")
        if "." in key:
            set_inside(result, key, value, accepted)
        else:
            result[key] = value
    config = Config(result, file, {}, given, SETTINGS)
    config.unread = misspelt(values, files.used(file.absolute()))
    return config


def _read_teacher(values: dict[str, Any], file: Path) -> None:
    """Put the teacher's model in the place of its config's path; a file that is not there is asked for in training."""
    model = values.get("model")
    name = model.get("teacher_config") if isinstance(model, dict) else None
    found = teacher.config_file(name, file) if isinstance(name, str) else None
    if isinstance(model, dict) and found is not None and recognised(found):
        theirs = read(found)
        model["teacher_config"] = teacher.model_of(theirs, version_of(theirs))


def misspelt(values: Iterable[str], used: Collection[str]) -> dict[str, str]:
    """Names that nothing reads and that are nearly one which MMDetection reads; with what to say of each."""
    found = {}
    for name in values:
        if name in VOCABULARY | SETTINGS or name in used or name.startswith("_"):
            continue
        near = difflib.get_close_matches(name, VOCABULARY | SETTINGS, n=1, cutoff=0.88)
        if near and not name.endswith("_pipeline"):
            found[name] = f"nothing reads this name, so it would change nothing; did you mean {near[0]!r}?"
    return found
