import os

import own_callback  # noqa: F401  # it registers Heartbeat

_base_ = "hatdet:rtmdet/rtmdet_nano_ncadc_relu6_small_data.py"

_heartbeat = dict(type="Heartbeat", path=os.path.join(work_dir, "heartbeat.json"))  # noqa: F821  # predefined
float_trainer = dict(callbacks=[*float_trainer["callbacks"], _heartbeat])  # noqa: F821  # from _base_
