"""What a device is: its profile (devices/*.toml), checked, found out or added by a person."""
