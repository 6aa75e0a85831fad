"""What the machine may do to a run (no memory, no disk, a killed process), in one line with what to do.

Libraries say these things in exceptions of many types; they are told apart by their text.
"""

from __future__ import annotations

import errno
import re
import signal

LESS_MEMORY = "a smaller batch_size, imgsz or number of workers needs less (--cfg-options batch_size=4 workers=1)"
RESUME = "an interrupted training goes on with --resume"
LESS_SHARED_MEMORY = (
    "use fewer workers (--cfg-options workers=0 needs none) or a smaller batch_size, or enlarge /dev/shm (docker run "
    "--shm-size=2g)"
)
MORE_FILES = "raise the limit (ulimit -n 65536) or use fewer workers (--cfg-options workers=1)"

_ADVICE = {
    errno.ENOSPC: "free some space, or write elsewhere (--work-dir DIR)",
    errno.EDQUOT: "free some space, or write elsewhere (--work-dir DIR)",
    errno.EROFS: "write elsewhere (--work-dir DIR)",
    errno.EFBIG: "raise the limit on the size of a file (ulimit -f unlimited)",
    errno.EMFILE: MORE_FILES,
    errno.ENFILE: MORE_FILES,
    errno.ENOMEM: LESS_MEMORY,
    errno.EAGAIN: "the limit on processes (ulimit -u) is reached; use fewer workers (--cfg-options workers=1)",
    errno.EIO: "the disk or the network drive fails; look at it, or use another one",
    errno.ENOTDIR: "a part of this path is a file; name a folder",
    errno.EEXIST: "there is a file of that name; name a folder (--work-dir DIR), or move the file away",
    errno.EISDIR: "this is a folder; name a file",
    errno.ENAMETOOLONG: "use a shorter name",
}
_KILLED = re.compile(r"DataLoader worker \(pid(?:\(s\))? ([\d, ]+)\)")
_SHARED_MEMORY = re.compile(r"(write to file|resize file|allocate shared memory|open shared memory object).*?</?torch_")
_HOST = re.compile(r"DefaultCPUAllocator|Unable to allocate|[Cc]annot allocate memory|Insufficient memory|bad_alloc")
_SYSTEM = re.compile(r"\[Errno (\d+)\] ([^:\n]+)(?:: '([^'\n]*)')?|No space left on device")
_TRIED = re.compile(r"(?:tried to allocate|Tried to allocate|allocate|alloc) ([\d.]+) ?(bytes|[KMGTPE]i?B)?")


def explain(error: BaseException) -> str | None:
    """The line for a fault of the machine; None for anything else (a defect, which keeps its traceback)."""
    if isinstance(error, OSError):
        return explain_os(error)
    killed = _KILLED.match(str(error))
    if killed:
        return worker_killed(killed[1], 0)
    kind = "MemoryError" if isinstance(error, MemoryError) else type(error).__name__
    return explain_text(kind, str(error))


def explain_text(kind: str, text: str) -> str | None:
    """The same for the name of an exception's class and its text."""
    if _SHARED_MEMORY.search(text):
        return f"no room in shared memory for a batch of the data workers ({_reason(text)}); {LESS_SHARED_MEMORY}"
    if "received 0 items of ancdata" in text:
        return f"too many open files; {MORE_FILES}"
    if kind == "OutOfMemoryError" or "CUDA error: out of memory" in text or "ALLOC_FAILED" in text:
        return f"the GPU has no memory left{_size(text)}; {LESS_MEMORY}; {RESUME}"
    if kind == "MemoryError" or _HOST.search(text):
        return f"no memory left{_size(text)}; {LESS_MEMORY}; {RESUME}"
    if "can't start new thread" in text:
        return f"no new thread can be started; {_ADVICE[errno.EAGAIN]}"
    if "Connection closed by peer" in text or "Connection reset by peer" in text:
        return "another process of this training has ended; its own message says why"
    found = _SYSTEM.search(text)
    if found is None:
        return None
    if found[1] is not None:  # [Errno 24] Too many open files: 'x.jpg'
        return _system(int(found[1]), found[2].strip(), found[3])
    return _system(errno.ENOSPC, "No space left on device", None)


def explain_os(error: OSError) -> str | None:
    """The line for an error of the file system that a user can do something about; None: no advice is known."""
    if error.errno is None or not error.strerror:
        return explain_text("OSError", str(error))
    return _system(error.errno, error.strerror, error.filename)


def _system(number: int, text: str, file: object) -> str | None:
    advice = _ADVICE.get(number)
    return None if advice is None else f"{text}{f': {file}' if file is not None else ''}; {advice}"


def worker_killed(pid: int | str, number: int) -> str:
    """The line for a process that loads data and ended by a signal (``number``); 0 or less: by itself, or unknown."""
    if number == signal.SIGBUS:
        return f"data worker {pid} was killed (SIGBUS: no room in shared memory); {LESS_SHARED_MEMORY}; {RESUME}"
    if number == signal.SIGKILL:
        return f"data worker {pid} was killed (SIGKILL, mostly: no memory left); {LESS_MEMORY}; {RESUME}"
    if number > 0:
        name = signal.Signals(number).name
        return f"data worker {pid} was killed ({name}); workers=0 shows the fault in the training process; {RESUME}"
    return f"data worker {pid} ended unexpectedly (mostly: no memory left); {LESS_MEMORY}; {RESUME}"


def _reason(text: str) -> str:
    found = re.search(r"</?torch_[^>]*>[^:]*: ([^(\n]+)", text)
    return found[1].strip() if found else "it is full"


def _size(text: str) -> str:
    found = _TRIED.search(text)
    if not found:
        return ""
    amount, unit = float(found[1].rstrip(".")), found[2] or "bytes"
    return f" ({amount / 2**30:.1f} GiB were asked for)" if unit == "bytes" else f" ({amount:g} {unit} were asked for)"
