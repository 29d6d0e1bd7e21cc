"""A profile (devices/*.toml) says what a device is; it is checked, detected or added here."""
