"""The main job from nothing to report: SFT, reward model, online PPO."""
