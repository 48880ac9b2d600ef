"""Clients of remote archives."""
