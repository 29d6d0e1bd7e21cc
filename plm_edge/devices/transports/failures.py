"""Each class is one thing that can go wrong on the way to a device, or there."""

from __future__ import annotations

from plm_edge.base.errors import ExitCode, PlmEdgeError


class DeviceError(PlmEdgeError):
    """A device could not do what was asked."""

    def __init__(self, what: str, why: str, fix: str, code: ExitCode = ExitCode.DEVICE) -> None:
        super().__init__(what, why, fix, code)


class Unreachable(DeviceError):
    """Nothing answers: there is no such host, route or phone, or it refuses connections."""


class NotAllowed(DeviceError):
    """It answers but does not let us in: wrong password or key, or a phone that is locked."""


class WrongHostKey(DeviceError):
    """The host's key is unknown, or is not the one that it had before."""


class ConnectionLost(DeviceError):
    """The connection broke while something was under way."""


class TimedOut(DeviceError):
    """A command took too long and was stopped."""


class DiskFull(DeviceError):
    """The device has no space left."""


class OutOfMemory(DeviceError):
    """The kernel killed a command because memory ran out."""


class IllegalInstruction(DeviceError):
    """A command used an instruction that the CPU lacks."""


class CommandFailed(DeviceError):
    """A command ended with an exit code other than 0."""


class Damaged(DeviceError):
    """A copied file differs from its source."""


def connection_lost(device: str, doing: str, why: str) -> ConnectionLost:
    """The error for a lost connection; `doing` is a clause, such as "a command ran"."""
    return ConnectionLost(
        f"the connection to {device} was lost while {doing}",
        why or "it closed without a word",
        "check cable or network, and run the same command again: files continue where they were",
    )


def timed_out(device: str, command: str, seconds: float) -> TimedOut:
    """The error for a command that was stopped after `seconds`."""
    return TimedOut(
        f"a command on {device} took too long and was stopped",
        f"{command!r} had {seconds:g} s",
        "see whether the device is throttled or busy, or allow more time",
    )


def disk_full(device: str, folder: str, needed: int, free: int | None) -> DiskFull:
    """The error for a full disk, in bytes; `free` is None if it ran full while we wrote."""
    mib = 2**20
    why = f"{needed / mib:,.0f} MiB are needed in {folder}"
    why += f", and {free / mib:,.0f} MiB are free" if free is not None else ", and it ran full"
    return DiskFull(
        f"there is no room on {device}",
        why,
        "free some space there, or choose a smaller model or another folder",
        ExitCode.RESOURCES,
    )


def out_of_memory(device: str, command: str, evidence: str) -> OutOfMemory:
    """The error for a killed command; `evidence` is the kernel's log line, or empty if unread."""
    why = evidence or f"{command!r} was killed (exit code 137), which the kernel does when RAM ends"
    return OutOfMemory(
        f"{device} ran out of memory",
        why,
        "take a smaller quantisation or context, or close what else runs there",
        ExitCode.RESOURCES,
    )


def illegal_instruction(device: str, command: str) -> IllegalInstruction:
    """The error for a command that SIGILL ended."""
    return IllegalInstruction(
        f"a command on {device} used an instruction that its CPU lacks",
        f"{command!r} ended with SIGILL (exit code 132): it was built for another CPU",
        "choose the profile that fits: plm-edge devices detect --host …",
        ExitCode.ENVIRONMENT,
    )


def port_taken(port: int, why: str) -> PlmEdgeError:
    """The error for a port of this machine that cannot be listened on."""
    return PlmEdgeError(
        f"port {port} of this machine cannot be used",
        why,
        "choose another with --port; 0 takes any that is free",
        ExitCode.ENVIRONMENT,
    )


class WrongArchitecture(DeviceError):
    """A program is for another kind of processor or system."""


def wrong_architecture(device: str, command: str, message: str) -> WrongArchitecture:
    """The error for a program that the device cannot start; `message` is its shell's message."""
    return WrongArchitecture(
        f"{device} cannot run this program: it is for another architecture",
        f"{command!r}: {message}",
        "choose the profile that fits: plm-edge devices detect --host …",
        ExitCode.ENVIRONMENT,
    )
