"""This package measures a model on this machine or on a device, and says what bounds it.

`worker` speaks with plm-edge-bench, the native program that measures. `meters` read power,
temperature and clocks beside it. `result` is the shape of a result, and gathers one from samples.
`analyse` compares results and derives costs, bounds, energy and estimates from them. `render` draws
a result as tables, charts, pages and CSV.

What stands beside these rooms joins them: `workload` says what is measured, `site` and `remote`
where, `session` runs a workload at sites, and `matrix`, `paper` and `sustained` are suites of their
own. They are no room named `plan`: the worker imports `workload`, while the suites import sites and
results, so one room for both would import in a circle.
"""
