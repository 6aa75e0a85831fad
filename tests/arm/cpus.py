"""The ARM cores that are emulated, and what ``/proc/cpuinfo`` says on each.

XNNPACK asks the library cpuinfo which instructions there are, which reads that file: without one of its own the
emulated machine shows the x86 one, and the default kernels crash. ``Features`` and ``CPU part`` choose the kernels; a
feature that the emulated core lacks ends in an illegal instruction.
"""

from __future__ import annotations

from dataclasses import dataclass

_BASE = "fp asimd evtstrm aes pmull sha1 sha2 crc32"
_DOT = f"{_BASE} atomics fphp asimdhp cpuid asimdrdm jscvt fcma lrcpc dcpop asimddp"
_MATRIX = f"{_DOT} sha3 sm3 sm4 sha512 sve asimdfhm dit uscat ilrcpc flagm sb dcpodp sve2 i8mm bf16 bti"
CORES = 4


@dataclass(frozen=True)
class Cpu:
    """A core: what to call it, qemu's name of it, and the instruction that its int8 kernels multiply with."""

    name: str
    qemu: str
    features: str
    part: int
    instruction: str

    def cpuinfo(self) -> str:
        """The content of ``/proc/cpuinfo``."""
        facts = (
            "BogoMIPS\t: 100.00", f"Features\t: {self.features}", "CPU implementer\t: 0x41", "CPU architecture: 8",
            "CPU variant\t: 0x0", f"CPU part\t: {self.part:#x}", "CPU revision\t: 1",
        )  # fmt: skip
        return "".join("\n".join((f"processor\t: {core}", *facts)) + "\n\n" for core in range(CORES))


CPUS = {
    cpu.name: cpu
    for cpu in (
        Cpu("cortex-a53", "cortex-a53", _BASE, 0xD03, "smlal"),
        Cpu("neoverse-n1", "neoverse-n1", _DOT, 0xD0C, "sdot"),
        Cpu("i8mm", "max,sme=off", _MATRIX, 0xD4F, "smmla"),
        Cpu("sme", "max", _MATRIX, 0xD4F, "smopa"),
    )
}
"""NEON alone (Raspberry Pi 3), the dot product (Pi 5, most phones), 8-bit matrices, and the matrix unit SME."""
