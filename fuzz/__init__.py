"""Every parser of homenode, fed with what nobody would write.

    make fuzz                                                  # 10,000 inputs for a slow target
    python -m fuzz.run --inputs 1000000 --target bitmap --seed 7
    python -m fuzz.replay bitmap FILE                          # one input, with its traceback

`all_targets` has the table of targets, `oracle` says what is right, `mutation` makes new inputs
of old ones, `one` runs one target under atheris, `run` runs them one after the other and keeps
count. ``docs/trust.md`` says what came of it.
"""
