"""The paper's studies, repeated: each module one command, a CSV and a plot;
and `time`, keys from the frames before and after.

Apart from `benchmarks`, which measures this code: what is here measures
networks that were trained. docs/studies.md describes the commands.
"""
