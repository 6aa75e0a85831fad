"""MLflow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hatdet.engine.callbacks.trackers.tracker import Tracker
from hatdet.registry import register

LONGEST = 500
"""Characters of a parameter's value that MLflow takes."""


@register
class MLflow(Tracker):
    """Writes a run to MLflow (``pip install 'hatdet[mlflow]'``).

    Args:
        tracking_uri: of the server, or of a folder (``file:///...``) or data base; None: what the variable
            MLFLOW_TRACKING_URI says, else MLflow's default.
        experiment: name of the experiment; None: MLFLOW_EXPERIMENT_NAME, else "hatdet".
    """

    module, extra = "mlflow", "mlflow"

    def __init__(self, *, tracking_uri: str | None = None, experiment: str | None = None) -> None:
        super().__init__()
        self.tracking_uri, self.experiment = tracking_uri, experiment
        self._client: Any = None

    def begin(self, name: str, settings: dict[str, Any]) -> str:
        import os

        from mlflow.entities import Param
        from mlflow.tracking import MlflowClient

        self._client = MlflowClient(tracking_uri=self.tracking_uri)
        if self.run_id is not None:
            self._client.update_run(self.run_id, status="RUNNING")
            return self.run_id
        title = self.experiment or os.environ.get("MLFLOW_EXPERIMENT_NAME") or "hatdet"
        known = self._client.get_experiment_by_name(title)
        experiment = known.experiment_id if known is not None else self._client.create_experiment(title)
        run_id = str(self._client.create_run(experiment, run_name=name).info.run_id)
        params = [Param(key, str(value)[:LONGEST]) for key, value in settings.items()]
        for first in range(0, len(params), 100):  # so many at once
            self._client.log_batch(run_id, params=params[first : first + 100])
        return run_id

    def write(self, scalars: Mapping[str, float], step: int) -> None:
        import time

        from mlflow.entities import Metric

        now = int(1000 * time.time())
        metrics = [Metric(_allowed(key), value, now, step) for key, value in scalars.items()]
        self._client.log_batch(self.run_id, metrics=metrics)

    def end(self, finished: bool) -> None:
        self._client.set_terminated(self.run_id, "FINISHED" if finished else "KILLED")


def _allowed(name: str) -> str:
    """Letters, digits and the marks that MLflow takes: class names may have others."""
    return "".join(c if c.isalnum() or c in "_-. /" else "_" for c in name)
