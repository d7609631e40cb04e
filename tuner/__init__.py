"""Many runs: the searcher, early stopping, the study on Ray, progress, the command line."""
