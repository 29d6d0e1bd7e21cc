"""This module says what went wrong on a device that ran a model, or why it was slow."""

from __future__ import annotations

import re

from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.devices import throttling
from plm_edge.devices.transports import failures
from plm_edge.devices.transports.transport import CommandResult, Transport

_NO_MEMORY = re.compile(
    r"failed to allocate|unable to allocate|bad_alloc|out of memory|cannot allocate memory", re.I
)
_NO_PORT = re.compile(r"couldn't bind HTTP server socket, .*port: (\d+)")
_CAUSE = re.compile(r"(?:error loading model: |\bE \S+ +\w+: |\bE \w+: )(.+)")
# Asks boards, phones and Linux about throttling; a source that a machine lacks prints nothing.
_THROTTLE_SCRIPT = f"""exec 2>/dev/null
command -v vcgencmd >/dev/null && {throttling.PI_COMMAND}
command -v dumpsys >/dev/null && dumpsys thermalservice | grep -m 1 'Thermal Status'
for place in /sys/class/thermal/cooling_device*; do
    echo "cooling=$(cat "$place/cur_state") $(cat "$place/type")"
done
for zone in /sys/class/thermal/thermal_zone*/temp; do echo "temp=$(cat "$zone")"; done
exit 0"""


def of_server(device: Transport, done: CommandResult, log: str) -> PlmEdgeError:
    """The error for a llama-server that ended by itself.

    Args:
        device: where it ran.
        done: how its command ended.
        log: what it wrote.
    """
    cause = cause_in(log)
    if line := no_memory_in(log):
        return failures.out_of_memory(device.name, done.command, line)
    port = port_not_bound_in(log)
    if port is not None:  # a port of this machine: on others any free one is taken
        why = "another program listens there, or it is one that only root may take"
        return failures.port_taken(port, why)
    last = [line for line in log.splitlines() if line.strip()][-3:]
    result = CommandResult(
        "llama-server", done.exit_code, b"", "\n".join(last).encode(), done.seconds
    )
    error = device.failure(result)
    if error is not None and not isinstance(error, failures.CommandFailed):
        return error
    if done.exit_code in (0, 128 + 15):  # SIGTERM
        return failures.DeviceError(
            f"the server on {device.name} was stopped",
            "somebody ended it there, or plm-edge stop --device did",
            "start it again",
        )
    return PlmEdgeError(
        f"the model cannot be run on {device.name}",
        cause or f"llama-server ended with {done.exit_code}" + (f": {last[-1]}" if last else ""),
        "run it again with --debug to see all that it says, or deploy again",
        ExitCode.DEVICE,
    )


def cause_in(log: str) -> str:
    """The first line of llama-server's log that names an error, without its prefix; else empty."""
    causes = [line for line in log.splitlines() if " E " in f" {line} " or "error" in line.lower()]
    cause = next((found[1] for line in causes if (found := _CAUSE.search(line))), "")
    return cause or (causes[0].strip() if causes else "")


def no_memory_in(log: str) -> str:
    """The line of llama-server's log that says that memory ran out; else empty."""
    return next((line.strip() for line in log.splitlines() if _NO_MEMORY.search(line)), "")


def port_not_bound_in(log: str) -> int | None:
    """The port that llama-server could not take, by its log; None if that is not what failed."""
    found = _NO_PORT.search(log)
    return int(found[1]) if found else None


def throttling_reason(device: Transport) -> str:
    """Why a device slows itself down now, such as "throttled, 85 °C"; else empty."""
    text = device.shell(_THROTTLE_SCRIPT, timeout=20).text
    cooling = re.findall(r"^cooling=(\d+) (.*)$", text, re.M)
    reasons = [
        *(throttling.pi_reasons(text) or []),
        *throttling.android_reasons(text),
        *throttling.cooling_reasons(
            int(state) for state, kind in cooling if throttling.cools_the_cpu(kind)
        ),
    ]
    if not reasons:
        return ""
    hottest = max((int(value) for value in re.findall(r"temp=(\d+)", text)), default=0)
    if hottest >= 1000:
        reasons.append(f"{hottest / 1000:.0f} °C")
    return ", ".join(reasons)
