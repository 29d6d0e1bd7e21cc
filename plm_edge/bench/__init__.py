"""Measure a model on a device: workloads, samples, meters, results, comparison."""
