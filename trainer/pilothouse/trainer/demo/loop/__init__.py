"""The closed loop, shown with a simulated crowd."""
