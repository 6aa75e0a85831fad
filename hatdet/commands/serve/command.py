"""Look at what models find, side by side, on a page in the browser of this machine.

python tools/serve.py work_dirs/my_config                        # the run's float weights and its int8 file
python tools/serve.py float-checkpoint-best.pth.tar model_int8.tflite
python tools/serve.py model_int8.tflite --port 9000 --open

Drop a picture on the page, or paste one; a slider sets the least score. MODEL is a checkpoint, an exported file, or the
folder of a run. The page is served to this machine only (127.0.0.1) and loads nothing from elsewhere; pictures are
neither kept nor sent on. Ctrl-C ends it.
"""

from __future__ import annotations

import argparse

from hatdet.commands.shared.process import command
from hatdet.utils.errors import UserError

DEFAULT_PORT = 8008


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("models", nargs="+", metavar="MODEL", help="checkpoints, exported files, a run's folder")
    parser.add_argument("--config", metavar="CONFIG", help="says what is around a network where the file does not")
    parser.add_argument("--port", type=int, default=DEFAULT_PORT, metavar="N",
                        help=f"of the page; 0: one that is free (default: {DEFAULT_PORT})")  # fmt: skip
    parser.add_argument("--score-thr", "--score_thr", type=float, default=0.3, metavar="S",
                        help="where the slider begins (default: 0.3)")  # fmt: skip
    parser.add_argument("--kernels", choices=("reference", "default"),
                        help="LiteRT kernels for a .tflite (default: those of an int8 file's arithmetic)")  # fmt: skip
    parser.add_argument("--device", metavar="DEVICE", help="cpu, cuda for a checkpoint (default: a GPU, if there)")
    parser.add_argument("--open", action="store_true", help="open the page in the browser")


def run(args: argparse.Namespace) -> int:
    if not 0 <= args.port <= 65535:
        raise UserError(f"--port {args.port}: give a number from 1024 to 65535, or 0 for one that is free")
    if not 0 <= args.score_thr <= 1:
        raise UserError(f"--score-thr is between 0 and 1, got {args.score_thr}")

    from hatdet.commands.serve.models import model_paths
    from hatdet.commands.serve.server import Server
    from hatdet.inference.detector import Detector
    from hatdet.utils.logging import setup_logging

    setup_logging()
    detectors = [
        Detector(path, config=args.config, kernels=args.kernels, device=args.device)
        for path in model_paths(args.models)
    ]
    server = Server(detectors, args.score_thr, args.port)
    for detector in detectors:
        print(f"model: {detector.path} ({detector.kind}; {detector.runtime})")
    print(f"the page is {server.address} (for this machine only); Ctrl-C ends it", flush=True)
    if args.open:
        import webbrowser

        webbrowser.open(server.address)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        print("ended")
    finally:
        server.server_close()
    return 0


main = command(__doc__, add_arguments, run)
