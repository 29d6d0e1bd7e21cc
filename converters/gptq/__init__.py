"""Matrices quantised by what they are multiplied by: errors of one column are made up for by later
ones (GPTQ, Frantar et al. 2022), on the very grids that ggml's types have.

A file made so has the same types, and any program reads it: only its codes are better.
"""
