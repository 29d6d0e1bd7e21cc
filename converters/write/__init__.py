"""How the planned file comes to be: quantised, written in one pass, and read again."""
