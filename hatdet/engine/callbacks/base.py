"""The callback interface and the order of events."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from hatdet.engine.loop import Loop


class Callback:
    """Called by the loop at the events below, in list order; `Checkpoint` comes last at every event.

    | event | when | typical use |
    |---|---|---|
    | ``check`` | once; model as built, data checked, nothing written yet | refuse what cannot be |
    | ``on_loop_begin`` | once; model converted, optimizer built, checkpoint resumed | freeze modules, open files |
    | ``on_epoch_begin`` | model in train mode, loader not started yet | switch the transforms |
    | ``on_step_begin`` | the batch is loaded | set the learning rate |
    | ``on_batch_begin`` | the batch is on the device | |
    | *forward* | | |
    | ``on_losses`` | the model's losses are there, in its precision; training only | add entries to the dict |
    | *backward* | ``loop.losses`` and ``loop.loss`` are set | |
    | ``on_optimizer_step_begin`` | gradients complete and unscaled | clip, ``loop.skip_update()`` |
    | *optimizer step* | | |
    | ``on_batch_end`` | weights updated (``loop.updated``) | average the weights |
    | ``on_step_end`` | ``loop.progress`` counts the step | show, validate or save by step |
    | ``on_epoch_end`` | ``loop.progress`` still names this epoch | validate, save |
    | ``on_loop_end`` | once, where training came to its end | |
    | ``close`` | always, also after an error or Ctrl-C | close files |
    | ``on_scalars`` | a callback published numbers (``loop.publish``) | write them somewhere |
    | ``on_steps_renumbered`` | before ``on_resume``, where batch size or data changed | forget numbers of steps |
    | ``on_resume`` | after all states were loaded, before ``on_loop_begin`` | what a state dict cannot hold |

    With gradient accumulation ``on_optimizer_step_begin`` comes once an update, not once a batch.
    After a resume in the middle of an epoch ``on_loop_begin`` and ``on_epoch_begin`` are called again: they must
    depend on ``loop.progress`` alone.
    """

    runs_last = False
    """Called after the others at each event (Checkpoint: it saves what the others have done)."""

    @property
    def key(self) -> str:
        """Name of this callback's state in a checkpoint; the loop adds a number where two are alike."""
        return type(self).__name__

    def check(self, loop: Loop) -> None: ...
    def on_loop_begin(self, loop: Loop) -> None: ...
    def on_epoch_begin(self, loop: Loop) -> None: ...
    def on_step_begin(self, loop: Loop) -> None: ...
    def on_batch_begin(self, loop: Loop) -> None: ...
    def on_losses(self, loop: Loop, batch: Any, losses: dict[str, Tensor]) -> None: ...
    def on_optimizer_step_begin(self, loop: Loop) -> None: ...
    def on_batch_end(self, loop: Loop) -> None: ...
    def on_step_end(self, loop: Loop) -> None: ...
    def on_epoch_end(self, loop: Loop) -> None: ...
    def on_loop_end(self, loop: Loop) -> None: ...
    def close(self, loop: Loop) -> None: ...
    def on_scalars(self, loop: Loop, scalars: Mapping[str, float]) -> None: ...
    def on_steps_renumbered(self, loop: Loop) -> None: ...
    def on_resume(self, loop: Loop, checkpoint: Mapping[str, Any]) -> None: ...

    def state_dict(self) -> dict[str, Any]:
        """What must survive an interruption: tensors and plain values. Empty by default."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what :meth:`state_dict` returned."""

    def evaluation_weights(self, loop: Loop) -> AbstractContextManager[bool]:
        """Inside, the model has the weights to be validated and saved; the value says whether they differ."""
        return contextlib.nullcontext(False)
