"""Programs of graphs of arrays: recorded from Tensors, and run in memory of their own."""
