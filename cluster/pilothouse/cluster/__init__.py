"""Pilothouse on Kubernetes: what needs the Kubernetes client."""
