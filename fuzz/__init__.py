"""Every parser of homenode, fed with what nobody would write.

    make fuzz                                         # 10,000 inputs for each, a few minutes
    python -m fuzz.run --inputs 100000 --rounds 4     # what the table in docs/trust.md has
    python -m fuzz.run --inputs 1000000 --target bitmap --seed 7
    python -m fuzz.replay FILE TARGET                 # one input, with its traceback

`targets` has the table of targets, `oracle` says what is right, `mutation` makes new inputs of
old ones, `one` runs one target under atheris, `run` runs them one after the other and keeps count.
"""
