"""How a device is reached: one interface over this machine, ssh, adb and qemu."""
