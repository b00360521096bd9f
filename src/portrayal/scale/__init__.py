"""Beyond one process: one run on several GPUs, many runs on one machine or a cluster."""
