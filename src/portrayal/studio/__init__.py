"""The web page: projects, a queue of work in a process of its own, and views of what goes on.

It calls only what `portrayal` exports, and does the work by the same commands that people type: what it makes are
ordinary runs. Nothing here asks the network for anything.
"""
