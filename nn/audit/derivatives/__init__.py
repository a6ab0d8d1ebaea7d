"""The derivative of one activation or loss, judged: one idea in each file."""
