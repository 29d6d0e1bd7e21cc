"""Every other room leans on this one: errors, the terminal, folders, files. It imports no room."""
