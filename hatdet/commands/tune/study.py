"""Trials: trainings of one config with other values for some options, chosen by optuna and kept in a file."""

from __future__ import annotations

import csv
import itertools
import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hatdet.commands.tune.search import Space, check_names, parse, texts
from hatdet.config.config import Config
from hatdet.config.load import load_config
from hatdet.config.options import option_words
from hatdet.engine.callbacks.base import Callback
from hatdet.engine.callbacks.monitor import is_measured
from hatdet.engine.run import train
from hatdet.engine.stages import work_dir_of
from hatdet.utils.errors import ConfigError, UserError, did_you_mean
from hatdet.utils.faults import explain
from hatdet.utils.logging import setup_logging

if TYPE_CHECKING:
    import optuna

    from hatdet.engine.loop import Loop

FILE, STUDY = "study.db", "tune"
FOLDER = "folder"
logger = logging.getLogger("hatdet")


class Watch(Callback):
    """Tells the study what each validation gives, and ends a trial that the study gives up.

    Args:
        trial: optuna's. metric: which value. prune: let the study end trials.
    """

    def __init__(self, trial: Any, metric: str, prune: bool) -> None:
        self.trial, self.metric, self.prune = trial, metric, prune
        self.best: float | None = None
        self.seen_at, self.pruned = -1, False

    def on_epoch_end(self, loop: Loop) -> None:
        if loop.validated_at in (-1, self.seen_at):
            return
        self.seen_at = loop.validated_at
        if self.metric not in loop.values:
            near = did_you_mean(self.metric, loop.values)
            raise ConfigError(
                f"--key {self.metric} is not among what the validation gives{near}; "
                f"there are {', '.join(loop.values)}: name one of them"
            )
        value = float(loop.values[self.metric])
        if not is_measured(value):
            return
        self.best = value if self.best is None else max(self.best, value)
        epoch = loop.progress.epoch + 1
        self.trial.report(value, epoch)
        if self.prune and not loop.finished and self.trial.should_prune():
            self.pruned = True
            loop.stop(f"{self.metric} {value:.4f} is below the median of the other trials after {epoch} epochs")

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.best = state["best"]


class Tuning:
    """A study in ``work_dir/tune``, and its trials in folders beside it.

    Args:
        config: what all trials have in common.
        space: what is searched; None: what the study searches already.
        key: the validation's value that is made as large as possible.
        epochs: of a trial. prune: end trials early that fall behind.
        seed: of the choice of values.

    Raises:
        UserError: the study in that folder is another one.
    """

    def __init__(
        self,
        config: Config,
        space: Space | None,
        default: Space,
        *,
        key: str,
        epochs: int | None,
        prune: bool,
        seed: int,
    ) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.config, self.key, self.prune = config, key, prune
        self.folder = work_dir_of(config, "tune")
        self.folder.mkdir(parents=True, exist_ok=True)
        self.study = self._opened(seed)
        known = self.study.user_attrs
        self.space = space or (parse([f"{n}={t}" for n, t in known["space"].items()]) if "space" in known else default)
        check_names(self.space, config)
        self.epochs = epochs or known.get("epochs") or default_epochs(config)
        options = {k: v for k, v in config.options.items() if k not in ("work_dir", "ckpt_dir")}
        now = {"space": texts(self.space), "epochs": self.epochs, "key": key, "options": option_words(options)}
        other = next((name for name, value in now.items() if known.get(name, value) != value), None)
        if other is not None and self.best_first():
            raise UserError(
                f"{self.folder / FILE} is a study with {other} {known[other]!r}, not {now[other]!r}: give the same "
                "again, or another folder with --work-dir"
            )
        if other is not None:  # nothing was found by it: what was given was wrong, as a misspelt name is
            optuna.delete_study(study_name=STUDY, storage=self.study._storage)
            self.study = self._opened(seed)
        for name, value in now.items():
            self.study.set_user_attr(name, value)

    def _opened(self, seed: int) -> optuna.Study:
        import optuna
        from sqlalchemy.exc import SQLAlchemyError

        path = self.folder / FILE
        try:
            study = optuna.create_study(
                study_name=STUDY,
                storage=f"sqlite:///{path.resolve()}",
                pruner=optuna.pruners.MedianPruner(n_startup_trials=5, n_min_trials=3),
                direction="maximize",
                load_if_exists=True,
            )
            # A study that goes on must not draw what it drew before.
            study.sampler = optuna.samplers.TPESampler(seed=seed + len(study.trials))
        except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
            reason = str(error.__cause__ or error).splitlines()[0]
            raise UserError(
                f"{path} cannot be opened as a study ({reason}): move it away, and a new one begins, or name another "
                "folder with --work-dir"
            ) from None
        return study

    def run(self, trials: int) -> None:
        """Go on until so many trials have come to an end, those of earlier calls included."""
        self._take_up_interrupted()
        while (done := len(self.ended())) < trials:
            trial = self.study.ask()
            self._one(trial, f"trial {done + 1} of {trials}")

    def ended(self) -> list[optuna.trial.FrozenTrial]:
        """Trials that are over: finished, given up by the study, or failed."""
        return [t for t in self.study.trials if t.state.is_finished() and not t.user_attrs.get("interrupted")]

    def _take_up_interrupted(self) -> None:
        """A trial that a signal ended goes on, in its folder, as the next one."""
        import optuna

        for trial in self.study.get_trials(states=(optuna.trial.TrialState.RUNNING,)):
            attributes = {FOLDER: trial.user_attrs[FOLDER]} if FOLDER in trial.user_attrs else {}
            self.study.enqueue_trial(trial.params, user_attrs=attributes)
            optuna.trial.Trial(self.study, trial._trial_id).set_user_attr("interrupted", True)
            self.study.tell(trial.number, state=optuna.trial.TrialState.FAIL)

    def _one(self, trial: optuna.Trial, title: str) -> None:
        import optuna

        values = {name: part.suggest(trial, name) for name, part in self.space.items()}
        folder = self.folder / (trial.user_attrs.get(FOLDER) or self._free_name(trial.number + 1))
        trial.set_user_attr(FOLDER, folder.name)
        print(f"\n{title}: {option_words(values)}  ({folder})", flush=True)
        watch = Watch(trial, self.key, self.prune)
        failure = ""
        try:
            train(self.trial_config(values, folder), "float", resume=folder.is_dir(), callbacks=[watch])
        except ConfigError:
            self.study.tell(trial, state=optuna.trial.TrialState.FAIL)
            raise
        except Exception as error:
            failure = str(error) if isinstance(error, UserError) else explain(error) or ""
            if not failure:
                self.study.tell(trial, state=optuna.trial.TrialState.FAIL)
                raise
        finally:
            setup_logging()
        self._tell(trial, watch, failure)
        for name in ("last", "epoch-*"):  # the best one stays
            for file in folder.rglob(f"*-checkpoint-{name}.pth.tar"):
                file.unlink()

    def _free_name(self, number: int) -> str:
        """Of a folder that is not there: trials of a study that was given up keep theirs."""
        names = (f"trial-{n:03d}" for n in itertools.count(number))
        return next(name for name in names if not (self.folder / name).exists())

    def _tell(self, trial: optuna.Trial, watch: Watch, failure: str) -> None:
        import optuna

        if failure or watch.best is None or not math.isfinite(watch.best):
            failure = failure or f"{self.key} was not measured"
            print(f"this trial has failed: {failure}", flush=True)
            trial.set_user_attr("failure", failure)
            self.study.tell(trial, state=optuna.trial.TrialState.FAIL)
            if len(self.ended()) >= 3 and not self.best_first():
                raise UserError(f"the first {len(self.ended())} trials have all failed, the last one: {failure}")
            return
        state = optuna.trial.TrialState.PRUNED if watch.pruned else optuna.trial.TrialState.COMPLETE
        trial.set_user_attr("best", watch.best)
        self.study.tell(trial, None if watch.pruned else watch.best, state=state)

    def trial_config(self, values: Mapping[str, Any], folder: Path) -> Config:
        """The config of a trial."""
        length = "epochs" if "epochs" in self.config else "float_trainer.num_epochs"
        more: dict[str, Any] = {"work_dir": str(folder), length: self.epochs}
        if "ckpt_dir" in self.config:
            more["ckpt_dir"] = str(folder)
        if "run_pictures" in self.config:
            more["run_pictures"] = False
        return load_config(self.config.path, {**self.config.options, **more, **values})

    def best_first(self) -> list[optuna.trial.FrozenTrial]:
        """Trials that measured anything."""
        found = [trial for trial in self.ended() if "best" in trial.user_attrs]
        return sorted(found, key=lambda trial: -trial.user_attrs["best"])

    def options_of(self, trial: optuna.trial.FrozenTrial) -> dict[str, Any]:
        """The values of a trial, as the config has them."""
        return {name: part.read(trial.params[name]) for name, part in self.space.items()}

    def write_table(self) -> Path:
        """All trials as csv, the best first."""
        path = self.folder / "trials.csv"
        rows = [*self.best_first(), *(trial for trial in self.ended() if "best" not in trial.user_attrs)]
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["folder", "state", self.key, *self.space])
            for trial in rows:
                values = [part.read(trial.params[n]) if n in trial.params else "" for n, part in self.space.items()]
                best = trial.user_attrs.get("best", "")
                writer.writerow([trial.user_attrs.get(FOLDER, ""), trial.state.name.lower(), best, *values])
        return path


def default_epochs(config: Config) -> int:
    """A third of the config's epochs, at least 3: the order of trials shows early, the numbers themselves do not."""
    epochs = config.get("epochs") or config["float_trainer"].get("num_epochs")
    if not isinstance(epochs, int):
        raise UserError(f"{config.path} has no number of epochs: give one for a trial with --epochs")
    return min(epochs, max(3, epochs // 3))
