"""How long a run will take here and what memory it needs: a table of measurements, scaled by a short probe.

`machine` probes, `costs` reads the table, `reckoning` goes through a run's parts; `record` is what it comes to, and
`afterwards` compares that with what a run took.
"""
