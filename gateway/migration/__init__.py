"""Moving a bot from one store to another: phases, the control store, copying, verifying."""
