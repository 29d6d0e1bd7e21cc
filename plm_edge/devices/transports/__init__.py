"""A transport reaches a device: one interface to this machine, ssh, adb and qemu."""
