"""The planned file is quantised, written in one pass, and read again."""
