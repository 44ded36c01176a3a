"""The compiler: from the graph of a computation to server stages and client stages."""
