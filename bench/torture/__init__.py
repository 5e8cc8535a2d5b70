"""``make torture``: kills, damages and fuzzes for ten minutes, and counts what slipped through.

Everything is drawn from one seed. A row of the table says what was tried how often and how often it
ended in one of the three ways nothing may end: a silent difference, an error that does not name its
file, a crash.
"""
