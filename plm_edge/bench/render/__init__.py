"""A result for people: tables in words, plots, the HTML report and CSV."""
