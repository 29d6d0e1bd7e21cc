"""Small programs for the machines under test, built once."""

from __future__ import annotations

import functools
import subprocess
import tempfile
from pathlib import Path

from plm_edge.devices.transports.adb import AdbTransport
from plm_edge.devices.transports.qemu import QemuTransport
from plm_edge.devices.transports.transport import Transport
from testkit import needs

# Prints $GREETING and its arguments, and exits with $CODE.
HELLO = r"""
#include <stdio.h>
#include <stdlib.h>
int main(int argc, char ** argv) {
    const char * greeting = getenv("GREETING"), * code = getenv("CODE");
    puts(greeting ? greeting : "hello");
    for (int i = 1; i < argc; i++) puts(argv[i]);
    return code ? atoi(code) : 0;
}
"""
# A dot product of bytes by the instruction that Cortex-A76 has and Cortex-A72 lacks.
DOT = r"""
#include <arm_neon.h>
#include <stdio.h>
int main(void) {
    int32x4_t sum = vdotq_s32(vdupq_n_s32(0), vdupq_n_s8(3), vdupq_n_s8(5));
    printf("%d\n", vaddvq_s32(sum));
}
"""


@functools.cache
def built(source: str, march: str) -> Path:
    """A static program for aarch64 from C, by Debian's cross compiler."""
    needs.program("aarch64-linux-gnu-gcc")
    folder = Path(tempfile.mkdtemp(prefix="plm-edge-tests-"))
    (folder / "main.c").write_text(source)
    command = ["aarch64-linux-gnu-gcc", "-static", "-s", f"-march={march}", "-o", "main", "main.c"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder / "main"


def hello(device: Transport, tmp_path: Path, target: str = "hello") -> str:
    """HELLO on the device, as a program that it runs: for ARM where it is one."""
    arm = isinstance(device, QemuTransport | AdbTransport)
    if arm:
        source = built(HELLO, "armv8-a")
    else:
        source = tmp_path / "hello.sh"
        source.write_text(
            '#!/bin/sh\nprintf "%s\\n" "${GREETING:-hello}" "$@"\nexit "${CODE:-0}"\n'
        )
    device.put(source, target, mode=0o755)
    return f"./{target}"
