"""The `tuner` commands, one module for each topic, imported when a command is called."""
