"""ClearML."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hatdet.engine.callbacks.trackers.tracker import Tracker
from hatdet.registry import register


@register
class ClearML(Tracker):
    """Writes a run to ClearML (``pip install 'hatdet[clearml]'``).

    Args:
        project: of the task.
        offline: write to a local folder, for ``Task.import_offline_session``.
    """

    module, extra = "clearml", "clearml"

    def __init__(self, *, project: str = "hatdet", offline: bool = False) -> None:
        super().__init__()
        self.project, self.offline = project, offline
        self._task: Any = None

    def begin(self, name: str, settings: dict[str, Any]) -> str:
        from clearml import Task

        if self.offline:
            Task.set_offline(offline_mode=True)
        self._task = Task.init(
            project_name=self.project,
            task_name=name,
            continue_last_task=self.run_id or False,
            auto_connect_frameworks=False,
            auto_connect_arg_parser=False,
            auto_resource_monitoring=False,
        )
        self._task.connect({key: str(value) for key, value in settings.items()}, name="config")
        return str(self._task.id)

    def write(self, scalars: Mapping[str, float], step: int) -> None:
        log = self._task.get_logger()
        for key, value in scalars.items():
            title, _, series = key.rpartition("/")
            log.report_scalar(title or "values", series, value, step)

    def end(self, finished: bool) -> None:
        if not finished:
            self._task.mark_stopped()
        self._task.close()
