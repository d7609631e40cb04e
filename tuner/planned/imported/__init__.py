"""Past runs of other trainers as trials: result folders, logs of PER by step, W&B exports, TensorBoard files.

It may import what `tuner.planned` may. `reading.read_results` is the way in; `settings` turns a trainer's settings into
a RunConfig and says which of its values are not known; `curves` turns evaluations into epochs.
"""
