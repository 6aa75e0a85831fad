"""What the page of a bundle says of the self-test: how it is run, what it says, and what that means."""

from __future__ import annotations

from hatdet.export.bundle.expected import Expected, kernels_of
from hatdet.integer.profiles.table import PROFILES


def selftest_section(expected: Expected, micro: bool) -> str:
    """The section, as Markdown.

    Args:
        micro: the bundle is for programs with TensorFlow Lite Micro; else for Linux and phones, where Python comes
            first.
    """
    count = expected.pictures
    size = "one picture" if count == 1 else f"{count} pictures"
    then = ", then the boxes with those expected" if expected.boxes is not None else ""
    ways = [_c(), _python(expected)]
    return "\n".join([
        f"## Self-test\n\nRun it before anything else: it gives the network {size} of the data and compares the CRC of "
        f"every output{then}.\n",
        *(ways if micro else reversed(ways)),
        _meaning(expected),
    ])  # fmt: skip


def _c() -> str:
    return """In C99, link `model_selftest.c` into the program:

```c
#include "model_selftest.h"

static int run(void *context, const int8_t *input, const void **outputs) {
    /* copy MODEL_SELFTEST_INPUT_BYTES codes to the input tensor, run the network, */
    /* set outputs[0] to outputs[MODEL_SELFTEST_OUTPUTS - 1] to the tensors' data */
    return 0; /* anything else: it did not run */
}

static void print(void *context, const char *line) { puts(line); }

int failed = model_selftest(run, print, 0); /* prints "ok: ..." or what is wrong */
```

`-DMODEL_SELFTEST_PICTURES=1` takes one picture and saves flash. Where the board has no room for it, run the network
there on the codes that `./selftest --codes input.bin` writes, and check its outputs on a computer:

```sh
cc -std=c99 -O2 model_selftest_host.c model_selftest.c -lm -o selftest
./selftest outputs.bin
```
"""


def _python(expected: Expected) -> str:
    own = PROFILES[expected.profile]
    opened = (
        f"opened with LiteRT's {own.litert} kernels, which" if own.litert else "as Interpreter(path) opens it; none"
    )
    return f"""In Python, with numpy and one of ai-edge-litert, tflite-runtime, tensorflow; or with a function of yours
that runs the network on whatever is there:

```sh
python3 model_selftest.py                     # {opened} compute in {own.name}
python3 model_selftest.py --kernels default   # as Interpreter(path) and Android open it; also: reference, no-delegate
python3 model_selftest.py --run mine.py:run   # run(codes) -> the raw outputs, in the order of the table above
```
"""


def _meaning(expected: Expected) -> str:
    own, total = PROFILES[expected.profile], expected.pictures * len(expected.own)
    rows = "\n".join(f"| `{name}` | {kernels_of(name)} | {_equal(expected, name)} of {total} |"
                     for name in expected.outputs)  # fmt: skip
    missing = "".join(f"\n`{name}` is not among them: {why}\n" for name, why in expected.left_out.items())
    boxes = ", and the boxes are as expected" if expected.boxes is not None else ""
    return f"""It says which of these profiles the device implements. The file is made for `{own.name}`:

| profile | what computes so | outputs equal to `{own.name}` |
|---|---|---:|
{rows}
{missing}
| status | it says | it means |
|---:|---|---|
| 0 | implements {own.name}: {total} of {total} outputs equal, ok | the promised numbers{boxes} |
| 1 | picture 1 of {expected.pictures}: output 0 (name) differs | none of the profiles. No output equal: another \
model, codes that did not reach its input tensor, or outputs in another order than the table's; some equal: kernels \
that round in a way of their own |
| 2 | box 3 differs | the outputs are right, the decoder was changed or compiled with contraction of products and sums |
| 3 | the network did not run | what `run` returned, or the interpreter said |
| 4 | this device runs another profile, the file is made for {own.name} | open the file with {own.kernels}, or train \
and export with the device's profile as `arithmetic` |
"""


def _equal(expected: Expected, name: str) -> int:
    """How many outputs of the pictures are the same as the file's own profile gives."""
    pairs = zip(expected.outputs[name], expected.own, strict=True)
    return sum(int((a[i] == b[i]).all()) for a, b in pairs for i in range(expected.pictures))
