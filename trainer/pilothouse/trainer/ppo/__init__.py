"""PPO against a reward model with a KL leash: `step` reads as the algorithm."""
