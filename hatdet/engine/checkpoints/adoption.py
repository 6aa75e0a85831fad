"""A command goes on with what its checkpoints were made with: it takes what the user leaves out, and compares the rest.

Options of an earlier command that are not given now are taken from the checkpoint's record, unless the config file
itself has changed in that name. What is set differently then is refused where the weights would mean something else
(the network, the size of its input, colours and normalization), and said where it does not (``lr``, ``epochs``).
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from hatdet.config.config import Config
from hatdet.config.load import load_config
from hatdet.config.options import option_words
from hatdet.config.recipes import UNDECIDED
from hatdet.config.source import RECIPE
from hatdet.engine.checkpoints.config_tree import aligned, differences
from hatdet.engine.checkpoints.provenance import (
    described,
    file_values,
    input_tree,
    is_plain,
    network_tree,
    read_record,
    section_of,
    trained_constants,
)
from hatdet.integer.arithmetic import PROFILE
from hatdet.utils.checkpoints.archive import read_without_tensors
from hatdet.utils.errors import ConfigError, UserError

NOT_TAKEN = ("work_dir", "ckpt_dir", "device", "workers")
"""Of the machine and the place: they say nothing about the weights."""
_OF_ONE_STAGE = ("_trainer", "_predictor", "int_infer", "metric", "_cfg")
_SHOWN = 6
logger = logging.getLogger("hatdet")


def adopted(config: Config, files: Iterable[str | Path], *, training: bool = False) -> Config:
    """The config with what ``files`` were made with, where the user did not say otherwise now.

    Args:
        files: checkpoints that the command is about to read; those without a record are passed over.
        training: say too what is different without changing the meaning of the weights.

    Raises:
        UserError: in something that the weights depend on the config now differs from a file.
    """
    paths = list(dict.fromkeys(map(Path, files)))
    records = [(path, record) for path in paths if (record := read_record(path))]
    recorded = {path for path, _ in records}
    for path in paths:
        if path not in recorded and (text := _made_before(config, path)):
            _warn(f"{path}, of an earlier version, was made with {text}: give it the options of its training")
    for path, record in records:
        config = take(config, path, record)
    said = set()
    for path, record in records:
        different = compare(config, path, record)
        text = _otherwise(config, record, different) if training else ""
        if text and text not in said:
            logger.info("%s was made otherwise: %s", path.name, text)
            said.add(text)
        if not training and (quantized := _quantized_otherwise(config, record)):
            _warn(f"{path} was made with {quantized}: this is another model than the one that was trained")
    return config


@functools.lru_cache(maxsize=64)
def _warn(text: str) -> None:
    """Say it once: tools/quantization.py comes here for each of its steps."""
    logger.warning("%s", text)


def take(config: Config, path: Path, record: Mapping[str, Any]) -> Config:
    """The config with the options of a record that are not given now and whose names the file has as it had them."""
    wanted = {
        key: value
        for key, value in record["options"].items()
        if not _given(config, key) and _is_taken(config, key) and config.get(key, ...) != value
    }
    if not wanted or not config.path.is_file():
        return config
    now, before = file_values(config, wanted), record["file_values"]
    wanted = {key: value for key, value in wanted.items() if now.get(key, ...) == before.get(key, ...)}
    if not wanted:
        return config
    try:
        result = load_config(config.path, {**wanted, **{k: v for k, v in config.options.items() if k not in wanted}})
    except ConfigError as error:
        text = f"{path} was made with {shown(wanted)}, which {config.path} does not take any more: {error}"
        raise ConfigError(text) from error
    for name in config.changed:
        result[name] = config[name]
    logger.info("taken from %s, which was made with them: %s", path, shown(wanted))
    return result


def _given(config: Config, key: str) -> bool:
    """Whether the user says it now; a recipe that is left open ("auto") is not said."""
    return key in config.options and not (key == RECIPE and config.options[key] == UNDECIDED)


def compare(config: Config, path: Path, record: Mapping[str, Any]) -> list[str]:
    """Names that are set otherwise than when a file was made, and do not matter to its weights.

    Raises:
        UserError: something that does matter.
    """
    then: Mapping[str, Any] = record["constants"]
    names = [
        name
        for name in config
        if name in then and name in config.literals and name not in NOT_TAKEN and is_plain(config[name])
    ]
    different = [name for name in names if described(config[name]) != described(then[name])]
    here, there = _trees(config, record["stage"]), {"model": record["model"], "inputs": record["inputs"]}
    parts = [aligned(there[part], here[part]) for part in here if here[part] and there[part]]
    if any(before != now for before, now in parts):
        raise UserError(_refusal(config, path, record, different, here, there))
    mode = _quantizer(config, record["stage"]).get("qat_mode")
    if record["stage"] != "float" and "qat_mode" in different and mode == config["qat_mode"]:
        raise UserError(
            f"{path} was made with qat_mode={then['qat_mode']!r}; here it is qat_mode={mode!r}: set it "
            f"back (--cfg-options qat_mode={then['qat_mode']}), or train again from the calibration stage"
        )
    return different


def _otherwise(config: Config, record: Mapping[str, Any], names: list[str]) -> str:
    """Both values of the names that the file's stage has to do with: float weights are the same for any qat_epochs."""
    then, stage = record["constants"], record["stage"]
    here, kept = described(section_of(config, stage)), []
    for name in names:
        former = _reloaded(config, {name: then[name]})
        if former is None or here is None or described(section_of(former, stage)) != here:
            kept.append(f"{name}={then[name]!r}, now {config[name]!r}")
    return ", ".join(kept[:_SHOWN]) + (f", ... ({len(kept) - _SHOWN} more)" if len(kept) > _SHOWN else "")


def shown(options: Mapping[str, Any]) -> str:
    """Options as a message has them."""
    return ", ".join(f"{key}={value!r}" for key, value in options.items())


def _is_taken(config: Config, key: str) -> bool:
    head = key.split(".")[0]
    if head in NOT_TAKEN or head not in config:
        return False
    return head == key or not head.endswith(_OF_ONE_STAGE)


def _made_before(config: Config, path: Path) -> str:
    """What the weights depend on and is otherwise in the config that a file without a record was trained with."""
    then, here = trained_constants(read_without_tensors(path) or {}), _trees(config, "")
    pairs = []
    for name, value in then.items():
        now = config.get(name)
        known = name in config.literals and name not in NOT_TAKEN and None not in (value, now)
        if known and is_plain(now) and described(now) != described(value):
            if _reaches(config, "", {name: value}, here):
                pairs.append(f"{name}={value!r}, now {config[name]!r}")
    return ", ".join(pairs)


def _quantized_otherwise(config: Config, record: Mapping[str, Any]) -> str:
    """Names by which weights with ranges would become another integer model than in their stage, with both values."""
    stage, then = record["stage"], {"arithmetic": PROFILE, **record["constants"]}  # once there was no other
    here = _quantizer(config, stage)
    names = [name for name in then if name in config.literals and is_plain(config.get(name))]
    pairs = []
    for name in names if stage != "float" else ():
        if described(config[name]) != described(then[name]) and name not in NOT_TAKEN:
            back = _reloaded(config, {name: then[name]})
            if back is not None and _quantizer(back, stage) != here:
                pairs.append(f"{name}={then[name]!r}, now {config[name]!r}")
    return ", ".join(pairs)


def _quantizer(config: Config, stage: str) -> dict[str, Any]:
    """How the stage's model is quantized, as a plain tree; what calibration alone does is over by then."""
    pipeline = (section_of(config, stage) or {}).get("model_convert_pipeline")
    if not isinstance(pipeline, Mapping):
        return {}
    params = pipeline.get("qconfig_params") or {}
    over = ("activation_calibration_observer", "equalize", "bias_correction", "weight_rounding")
    kept = {key: value for key, value in params.items() if key not in over}
    return dict(described({**kept, "qat_mode": pipeline.get("qat_mode")}))


def _trees(config: Config, stage: str) -> dict[str, Any]:
    section = section_of(config, stage) or {key: config.get(key) for key in ("model", "val_data_loader")}
    return {"model": network_tree(section.get("model")), "inputs": input_tree(section)}


def _refusal(config: Config, path: Path, record: Mapping[str, Any], names: list[str], here: Any, there: Any) -> str:
    """One line: what the weights depend on, as it was and as it is, and what to do."""
    then = record["constants"]
    causes = [name for name in names if _reaches(config, record["stage"], {name: then[name]}, here)]
    pairs = [(name, then[name], config[name]) for name in causes]
    back = {name: then[name] for name in causes}
    rest = _loaded_trees(config, record["stage"], back) if back else here
    pairs += [] if rest is None else list(differences(*aligned(there, rest)))[: _SHOWN if not pairs else 2]
    before = ", ".join(f"{name}={old!r}" for name, old, _ in pairs)
    after = ", ".join(f"{name}={new!r}" for name, _, new in pairs)
    options = f" (--cfg-options {option_words(back)})" if back else ""
    advice = f"set it back{options}, or train again from the float stage"
    return f"{path} was made with {before}; here it is {after}: {advice}"


def _reaches(config: Config, stage: str, back: Mapping[str, Any], here: Any) -> bool:
    """Whether a name's former value would change what the weights depend on."""
    trees = _loaded_trees(config, stage, back)
    return trees is not None and trees != here


def _loaded_trees(config: Config, stage: str, back: Mapping[str, Any]) -> Any:
    former = _reloaded(config, back)
    return None if former is None else _trees(former, stage)


def _reloaded(config: Config, back: Mapping[str, Any]) -> Config | None:
    if not config.path.is_file():
        return None
    try:
        return load_config(config.path, {**config.options, **back})
    except ConfigError:
        return None
