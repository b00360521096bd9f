"""The stages of a run, each skipped when it is finished."""
