"""Hostile input, killed processes and full disks: campaigns that run at night, and a sample of them in the test suite.

    python -m tests.hostile --cases 100000 --seed 7           inputs of every boundary, a new seed each night
    python -m tests.hostile --kills 200                        kill -9 at random moments of every writing command

What is counted and promised is in docs/reliability.md.
"""
