"""What every other room leans on: errors, the terminal, the user's folders. It imports no room."""
