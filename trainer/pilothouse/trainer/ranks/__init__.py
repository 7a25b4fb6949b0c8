"""PPO over several processes: rank 0 is the trainer, the others help it with every step's arithmetic."""
