"""This room holds the library, a loaded model and its context; it alone calls llama.cpp."""
