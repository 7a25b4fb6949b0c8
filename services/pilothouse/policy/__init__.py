"""The policy service: samples completions from the current policy and swaps in newer weights."""
