"""People's data: prompts, demonstrations and rankings, from files to token ids."""
