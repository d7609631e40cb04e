"""What came out: the event log, the tables made from it, and the questions asked of them."""
