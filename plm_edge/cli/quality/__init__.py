"""Commands that say how good a model is, and what makes it better: eval, imatrix, sparsity."""
