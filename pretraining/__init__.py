"""How the embedded base was made: the drawn world and the training of the models on it."""
