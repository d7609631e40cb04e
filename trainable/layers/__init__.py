"""The layers of the decoder that are not torch's own. Imports `search_spaces` and `trainable.compute`'s precision."""
