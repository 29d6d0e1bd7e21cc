"""From a name to a machine."""

from __future__ import annotations

import pytest

from plm_edge.base.errors import PlmEdgeError
from plm_edge.devices import connect
from plm_edge.devices.profiles import known
from plm_edge.devices.transports.adb import AdbTransport
from plm_edge.devices.transports.local import LocalTransport
from plm_edge.devices.transports.qemu import QemuTransport
from plm_edge.devices.transports.ssh import SshTransport
from testkit import needs


def test_a_device_that_was_added() -> None:
    known.add(known.AddedDevice("kitchen", "rpi5", "ssh", "pi@kitchen"))
    opened = connect.open_device("kitchen")
    assert isinstance(opened.transport, SshTransport)
    assert (opened.name, opened.profile.name) == ("kitchen", "rpi5")
    assert opened.transport.name == "pi@kitchen"
    assert opened.folder == ".local/share/plm-edge"


def test_a_profile_with_an_address() -> None:
    for opened in (
        connect.open_device("rpi5@pi@kitchen:2222"),
        connect.open_device("rpi5", host="pi@kitchen:2222"),
    ):
        assert isinstance(opened.transport, SshTransport)
        assert opened.transport.name == "pi@kitchen:2222"


def test_a_profile_without_an_address() -> None:
    with pytest.raises(PlmEdgeError) as caught:
        connect.open_device("rpi5")
    assert "rpi5@USER@HOST" in caught.value.fix  # not --host, which deploy and run do not have
    assert "--emulate" in caught.value.fix


def test_the_other_ways() -> None:
    needs.program("qemu-aarch64")
    assert isinstance(connect.open_device("host").transport, LocalTransport)
    assert isinstance(connect.open_device("oneplus12").transport, AdbTransport)
    emulated = connect.open_device("rpi5", emulate=True)
    assert isinstance(emulated.transport, QemuTransport)
    with pytest.raises(PlmEdgeError, match="--emulate has no effect with an address"):
        connect.open_device("rpi5@pi@kitchen", emulate=True)
    known.add(known.AddedDevice("toy", "rpi4", "qemu"))
    assert isinstance(connect.open_device("toy").transport, QemuTransport)


def test_how_it_is_named_again() -> None:
    """A remedy is typed as it stands: it reaches the device that the failed command reached."""
    needs.program("qemu-aarch64")
    known.add(known.AddedDevice("kitchen", "rpi5", "ssh", "pi@kitchen"))
    for said in ("kitchen", "rpi5@pi@kitchen:2222"):
        assert connect.open_device(said).cli_name == said
    assert connect.open_device("rpi5", host="pi@kitchen").cli_name == "rpi5@pi@kitchen"
    assert connect.open_device("rpi5", emulate=True).cli_name == "rpi5 --emulate"


def test_nobody_of_that_name() -> None:
    with pytest.raises(PlmEdgeError, match="rpi7") as caught:
        connect.open_device("rpi7")
    assert "did you mean" in caught.value.fix
