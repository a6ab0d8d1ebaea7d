"""Claims about any recorded graph, taken apart: one idea in each file."""
