"""What would happen: scenarios, run over several seeds, and compared.

    scenario = scenario_file.parse(text, source=path, host_of=…)
    compared = comparison.compare(scenario)

A scenario is a host, guests with work, and variants: schedulers, affinities and placements.
"""
