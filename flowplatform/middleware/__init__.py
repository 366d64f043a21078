"""What every request passes on its way, in the order of the settings."""
