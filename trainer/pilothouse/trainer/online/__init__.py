"""The loop closed: people rank, a reward model learns, PPO goes on, its new answers go back to people."""
