"""The layers of the decoder that are not torch's own. Imports only `search_spaces`."""
